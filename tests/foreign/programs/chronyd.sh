#!/usr/bin/env bash
# chronyd in its system call sandbox (-F 1): it has no TCP connection at all, and must live and answer.
. "$(dirname "$0")/../../e2e/lib.sh"
need chronyd chronyc
need_root

scenario() {
  pick_port port
  printf 'cmdport %d\nport 0\nbindcmdaddress 127.0.0.1\nbindcmdaddress /\npidfile %s\nuser root\nlocal stratum 10\n' \
    "$port" "$work/chronyd.pid" >"$work/chrony.conf"
  start chronyd chronyd -d -x -F 1 -f "$work/chrony.conf"
  eventually chronyc -h 127.0.0.1 -p "$port" tracking
  for ((i = 0; i < 30; i++)); do run chronyc -h 127.0.0.1 -p "$port" -n -c activity; done
  run chronyc -h 127.0.0.1 -p "$port" -c tracking | cut -d, -f1-3
  kill -0 "${server[chronyd]}" || fail "chronyd has died"
  stop chronyd
}

both scenario
again scenario XENLOOP_UPGRADE_AFTER=0
