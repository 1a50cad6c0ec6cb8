#!/usr/bin/env bash
# An old and a new library at the two ends of a connection, whichever is the server: TCP, every byte right, and both ends
# say why. Two builds of the library stand for the other one: its messages are of another version, or its FIFOs are.
. "$(dirname "$0")/lib.sh"
[[ -n $python ]] || skip "python3 is not installed"

cat >"$work/ends.py" <<'END'
import hashlib, socket, sys
def blocks():
    for i in range(1500):
        yield bytes([i % 251]) * (1 + i * 137 % 9000)
def exactly(end, count):
    got = b""
    while len(got) < count:
        part = end.recv(count - len(got))
        assert part, "the stream ends early"
        got += part
    return got
digest = hashlib.sha256()
if sys.argv[1] == "server":
    end = socket.create_server(("127.0.0.1", int(sys.argv[2]))).accept()[0]
    for sent in blocks():
        got = exactly(end, len(sent))
        digest.update(got)
        end.sendall(got)
    assert end.recv(1) == b""
else:
    end = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for sent in blocks():
        end.sendall(sent)
        digest.update(exactly(end, len(sent)))
end.close()
print(digest.hexdigest(), flush=True)
END

scenario() {
  local port
  pick_port port
  [[ $mode == native ]] || client_prefix=(env "LD_PRELOAD=$clients" "XENLOOP_STATS=$stats")
  [[ $mode == native ]] || server_prefix=(env "LD_PRELOAD=$servers" "XENLOOP_STATS=$stats")
  start server "$python" "$work/ends.py" server "$port"
  listening "$port"
  run "$python" "$work/ends.py" client "$port"
  finish server
  echo "server ended with $finished"
  cat "$work/$mode.server.log"
}

ends() { clients=$1 servers=$2; both scenario; }
# Both ends, at their end: by TCP throughout, for this reason.
expect_reason() {
  [[ ${E2E_NATIVE:-} == 1 ]] && return 0
  expect_no_fifo "versions differ"
  [[ $(jq -s --arg words "$1" 'map(.never_upgraded[$words] // 0) | add' "$stats") == 2 ]] ||
    fail "not both say '$1': $(cat "$stats")"
}

for other in "$build/lib/libxenloop-other-control.so" "$build/lib/libxenloop-other-fifo.so"; do
  ends "$other" "$other"
  expect_fifo python3  # it is a whole library
  ends "$library" "$other"
  expect_reason "peer has another version of libxenloop"
  ends "$other" "$library"
  expect_reason "peer has another version of libxenloop"
done
