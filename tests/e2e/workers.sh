#!/usr/bin/env bash
# Many workers on one listening socket: inherited over fork, one socket a worker by SO_REUSEPORT,
# and a child for each connection. Every answer is checked by the client.
. "$(dirname "$0")/lib.sh"
farm=$build/bin/worker-farm
[[ -x $farm ]] || fail "$farm is missing (build it first)"

# serve_and_ask WAY [WORKERS]
serve_and_ask() {
  pick_port port
  start farm "$farm" serve "$@" "$port"
  listening "$port"
  run "$farm" ask "$port" 8 300 2>>"$work/$mode.client.log"
  run "$farm" ask "$port" 1 2000 2>>"$work/$mode.client.log"
  stop farm
}

scenario() {
  serve_and_ask prefork 4
  serve_and_ask reuseport 4
  serve_and_ask fork
}

both scenario
expect_fifo worker-farm
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo worker-farm
again scenario XENLOOP_SWITCH_EVERY=5
expect_fifo worker-farm
