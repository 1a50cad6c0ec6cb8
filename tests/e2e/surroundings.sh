#!/usr/bin/env bash
# Two ends whose surroundings differ: each in a realm of its own, in namespaces with other clocks, after agents that were
# killed and have left their sockets and hints behind. Every byte is right; who cannot meet stays on TCP with a reason.
. "$(dirname "$0")/lib.sh"
[[ -n $python ]] || skip "python3 is not installed"
need_root
need unshare

cat >"$work/ends.py" <<'END'
import hashlib, socket, sys, time
digest = hashlib.sha256()
if sys.argv[1] == "server":
    end = socket.create_server(("127.0.0.1", int(sys.argv[2]))).accept()[0]
    while block := end.recv(65536):
        end.sendall(block)
else:
    end = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for i in range(2000):
        sent = bytes([i % 251]) * (1 + i * 137 % 9000)
        end.sendall(sent)
        got = b""
        while len(got) < len(sent):
            got += end.recv(65536)
        assert got == sent
        digest.update(got)
    if len(sys.argv) > 3:
        print("there", flush=True)
        time.sleep(100)
print(digest.hexdigest(), flush=True)
END
server_in=() client_in=()
scenario() {
  local port
  pick_port port
  start server "${server_in[@]}" "$python" "$work/ends.py" server "$port"
  listening "$port"
  run "${client_in[@]}" "$python" "$work/ends.py" client "$port"
  finish server
  echo "server ended with $finished"
}
mkdir -m 711 "$work/realm-a" "$work/realm-b" "$work/realm-c"

server_in=(env "XENLOOP_RUNTIME_DIR=$work/realm-a") client_in=(env "XENLOOP_RUNTIME_DIR=$work/realm-b")
both scenario
expect_no_fifo "two realms"
[[ ${E2E_NATIVE:-} == 1 ]] || [[ $(jq -s 'map(.never_upgraded | to_entries[] | .value) | add' "$stats") == 2 ]] ||
  fail "two realms: an end says no reason: $(cat "$stats")"

# Clocks that stand an hour and a day apart: nothing that one end writes into shared memory is a time to the other.
if unshare --time --monotonic 3600 --boottime 3600 --fork true 2>/dev/null; then
  server_in=(unshare --time --monotonic 3600 --boottime 3600 --fork) client_in=(unshare --time --monotonic 86400 --boottime 86400 --fork)
  again scenario
  expect_fifo python3
fi

# Both ends are killed while they share FIFOs. Those that come after them in the same realm meet all the same.
server_in=(env "XENLOOP_RUNTIME_DIR=$work/realm-c") client_in=("${server_in[@]}")
if [[ ${E2E_NATIVE:-} != 1 ]]; then
  copy_library
  with_library
  pick_port port
  start old_server "${server_in[@]}" "$python" "$work/ends.py" server "$port"
  listening "$port"
  start old_client "${client_in[@]}" "$python" "$work/ends.py" client "$port" stays
  eventually grep -q there "$work/xenloop.old_client.log"
  left=$(find "$work/realm-c" -name '*.sock' | wc -l)
  ((left == 2)) || fail "the agents have $left sockets in the realm"
  kill -KILL "${server[old_server]}" "${server[old_client]}"
  finish old_server
  finish old_client
  left=$(find "$work/realm-c" -name '*.sock' | wc -l)
  ((left == 2)) || fail "what was killed has tidied up, and this tries nothing: $left sockets"
fi
again scenario
expect_fifo python3
