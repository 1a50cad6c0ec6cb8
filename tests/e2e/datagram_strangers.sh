#!/usr/bin/env bash
# UDP with `udp = on` where the other end has no library: the process has the threads that it has made, and no other (a
# second one costs each of its system calls). A server that has talked to such a one for long is met by a client that
# has the library all the same. And what the one thread waits for reaches it, whatever its handlers do meanwhile.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
export XENLOOP_UDP=on
talk="$source_dir/tests/e2e/datagram_strangers.py"

bound() { ss -Hulpn "sport = :$1" 2>/dev/null | grep -q .; }
serve() {
  pick_port port
  start server "$python" "$talk" server "$port"
  eventually bound "$port"
}
served() {
  "$python" "$talk" stop "$port"
  finish server
  cat "$work/$mode.server.log"
}
ask() { run "$python" "$talk" client "$port" "$1"; }

# Only the server has it, then only the client.
strangers() {
  local before=("${server_prefix[@]}") client=("${client_prefix[@]}")
  serve
  client_prefix=()
  ask 2
  served
  client_prefix=("${client[@]}") server_prefix=()
  serve
  ask 2
  served
  server_prefix=("${before[@]}")
}
late() {
  local client=("${client_prefix[@]}")
  serve
  client_prefix=()
  ask 3
  client_prefix=("${client[@]}")
  ask 4 | sed 's/ threads.*//'
  served >"$work/$mode.late"
}
# One thread, which waits at a socket that a handler makes hot.
lone() {
  run "$build/bin/lone-receiver" return
  run "$build/bin/lone-receiver" jump
}

both strangers
both lone
both late
[[ ${E2E_NATIVE:-} != 1 ]] || exit 0
met=$("$python" - "$stats" <<'PY'
import json, sys
print(sum(json.loads(line).get("datagrams", {}).get("upgrades", 0) for line in open(sys.argv[1])))
PY
)
# How much goes by FIFOs then is a matter of who sleeps, on a busy machine.
((met > 0)) || fail "the late client was not met"
