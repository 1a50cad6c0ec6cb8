#!/usr/bin/env bash
# socat as the general plumber: a fork for each connection, a spawned program with the socket as its
# stdin and stdout, half close, and relays of relays. -t: half a second after an end, as by default, a busy machine still has bytes
# on their way.
. "$(dirname "$0")/../../e2e/lib.sh"
need socat
numbers 8000000 >"$work/large"

scenario() {
  pick_port echo_port
  pick_port exec_port
  pick_port direct_port
  pick_port relay_port
  start echo socat -t 20 "TCP-LISTEN:$echo_port,fork,reuseaddr,bind=127.0.0.1" EXEC:cat
  start exec socat -t 20 "TCP-LISTEN:$exec_port,fork,reuseaddr,bind=127.0.0.1" EXEC:"sha256sum"
  # nofork: the program's stdin and stdout are the socket itself
  start direct socat "TCP-LISTEN:$direct_port,fork,reuseaddr,bind=127.0.0.1" EXEC:"tr 0-4 a-e",nofork
  start relay socat -t 20 "TCP-LISTEN:$relay_port,fork,reuseaddr,bind=127.0.0.1" "TCP:127.0.0.1:$echo_port"
  local port
  for port in "$echo_port" "$exec_port" "$direct_port" "$relay_port"; do listening "$port"; done
  for _ in 1 2 3; do
    run socat -t 20 - "TCP:127.0.0.1:$echo_port" <"$work/large" | sha256sum
    run socat -t 20 - "TCP:127.0.0.1:$exec_port" <"$work/large"
    run socat -t 20 - "TCP:127.0.0.1:$direct_port" <"$work/large" | sha256sum
    run socat -t 20 - "TCP:127.0.0.1:$relay_port" <"$work/large" | sha256sum
  done
  local name
  for name in relay direct exec echo; do stop "$name"; done
}

both scenario
expect_fifo socat
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo socat
