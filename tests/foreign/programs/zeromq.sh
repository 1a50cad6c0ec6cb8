#!/usr/bin/env bash
# ZeroMQ: its I/O thread owns the connections and is woken by its own eventfd beside them. Push and
# pull, requests and answers, publish and subscribe, messages of many parts, a peer that comes late
# and one that goes and comes back.
. "$(dirname "$0")/../../e2e/lib.sh"
need python3
"$python" -c 'import zmq' 2>/dev/null || skip "python3-zmq is not installed"
peer=$(dirname "$0")/zeromq_peer.py

scenario() {
  pick_port port
  start server "$python" "$peer" server "$port"
  listening "$((port + 2))"
  for _ in 1 2; do
    run "$python" "$peer" push "$port"
    run "$python" "$peer" subscribe "$port"
    run "$python" "$peer" ask "$port" &
    local first=$!
    run "$python" "$peer" ask "$port"
    wait $first
  done
  run "$python" "$peer" end "$port"
  finish server
  echo "server ended with $finished"
}

both scenario
expect_fifo python3
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo python3
