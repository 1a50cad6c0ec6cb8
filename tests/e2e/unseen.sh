#!/usr/bin/env bash
# A server that waits by system calls made in line, which the library does not see (D-22): each answer comes, and once a
# thread of it has been found asleep so, the whole program goes by TCP and says why.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
[[ -n $python ]] || skip "python3 is not installed"
connections=8

scenario() {
  pick_port port
  start server "$build/bin/unseen-server" "$port" $connections
  listening "$port"
  run "$python" - "$port" $connections <<'PY'
import os, socket, sys
port, connections = map(int, sys.argv[1:])
right = 0
for _ in range(connections):
    peer = socket.create_connection(("127.0.0.1", port))
    for _ in range(400):
        asked = os.urandom(100)
        peer.sendall(asked)
        right += peer.recv(100, socket.MSG_WAITALL) == asked
    peer.close()
print("answers", right)
PY
  finish server
  echo "server: exit $finished"
}

both scenario
[[ ${E2E_NATIVE:-} == 1 ]] && exit 0
words="the program waits by system calls of its own making"
jq -es --arg words "$words" --argjson most $connections '
  map(select(.program | startswith("unseen-server"))) |
  (map((.never_upgraded[$words] // 0) + (.fallbacks[$words] // 0)) | add) >= 1 and
  (map(.upgraded) | add) >= 1 and (map(.upgraded) | add) < $most' "$stats" >/dev/null ||
  fail "the statistics say $(cat "$stats")"
echo "ok: $words"
