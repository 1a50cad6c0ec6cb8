#!/usr/bin/env bash
# NPtcp with its own integrity check: message sizes from 1 byte to 1 MiB with perturbations, both
# ways at once.
. "$(dirname "$0")/lib.sh"
need NPtcp

measure() {
  pick_port port
  start netpipe NPtcp -P "$port" "$@"
  listening "$port"
  local status=0
  run NPtcp -h 127.0.0.1 -P "$port" -o "$work/np.out" "$@" >"$work/$mode.client.log" 2>&1 ||
    status=$?
  echo "NPtcp $*: exit $status"
  awk '/^ *[0-9]+: / { tests++ } /Integrity check passed/ { good++ }
    END { print tests + 0 " sizes, integrity check passed in " good + 0 }' "$work/$mode.client.log"
  absent 'fail|corrupt|mismatch' "$work/$mode.client.log"
  finish netpipe
  echo "server: exit $finished"
}

scenario() {
  measure -i -u 1048576 -n 20
  measure -i -2 -u 65536 -n 10
  measure -u 65536 -n 50
  measure -2 -u 65536 -n 50
}

both scenario
expect_fifo NPtcp
