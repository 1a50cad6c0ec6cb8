#!/usr/bin/env bash
# iperf3: forward, reverse, four streams, both directions at once, sendfile, small blocks, a fixed
# amount. Exit status 0 at both ends, no error in the JSON report, bytes moved, FIFO bytes in each.
. "$(dirname "$0")/lib.sh"
need iperf3

# measure OPTION...: one test against a fresh one-off server.
measure() {
  pick_port port
  start iperf3 iperf3 -s -1 -p "$port" -B 127.0.0.1
  listening "$port"
  local before=0 after status=0
  [[ $mode == native ]] || before=$(fifo_bytes)
  run iperf3 -J -c 127.0.0.1 -p "$port" "$@" >"$work/answer.json" || status=$?
  echo "iperf3 $*: exit $status"
  jq -r '"error: \(.error // "none"), moved bytes: \(.end.sum_received.bytes > 1000000)"' \
    "$work/answer.json"
  [[ $* != *-n* ]] || jq -r '"fixed amount sent: \(.end.sum_sent.bytes)"' "$work/answer.json"
  finish iperf3
  echo "server: exit $finished"
  [[ $mode == native ]] || {
    after=$(fifo_bytes)
    echo "iperf3 $*: $((after - before)) FIFO bytes" >&"$out"
    ((after > before)) || fail "no FIFO byte with iperf3 $*"
  }
}

scenario() {
  measure -t 2
  measure -t 2 -R
  measure -t 2 -P 4
  measure -t 2 --bidir
  measure -t 2 -Z
  measure -t 1 -Z -R
  measure -t 1 -l 100
  measure -n 400M -l 64K
}

both scenario
expect_fifo iperf3
