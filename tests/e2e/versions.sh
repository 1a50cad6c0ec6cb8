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

# xenloopd of another version: it hears a question in a language that is not its own, and says which it speaks. Its place is
# taken by a program with the table of a guest and the socket that agents ask at; the other end is in another namespace,
# as one in another guest is.
[[ $(id -u) == 0 && ${E2E_NATIVE:-} != 1 ]] || exit 0
cat >"$work/daemon.py" <<'END'
import os, socket, struct
os.mkdir("/run/xenloop")
# The header and one row of discovery/peer_table.h: 10.78.0.2 is domain 2, we are domain 1.
header = struct.pack("<8sIIQII32x", b"XENPEERS", 1, 1022, 2, 1, 1)
row = bytes(10) + b"\xff\xff" + socket.inet_aton("10.78.0.2") + struct.pack("<IIQ", 2, 1, 0)
with open("/run/xenloop/peers", "wb") as table:
    table.write((header + row).ljust(64 + 1022 * 32, b"\0"))
os.chmod("/run/xenloop/peers", 0o644)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("/run/xenloop/daemon.sock")
listener.listen()
while True:
    agent = listener.accept()[0]
    magic, version = struct.unpack_from("<II", agent.recv(1000))
    agent.send(struct.pack("<III", magic, version + 1, 1).ljust(160, b"\0"))
    agent.close()
END
there=xenloop-$$-there
ip netns add "$there" || skip "no permission for network namespaces"
cleanups+=("ip netns del $there")
natively
start here unshare -nm bash -ec 'ip link set lo up; mount -t tmpfs none /run; exec sleep 100'
in_here=(nsenter -t "${server[here]}" -n -m)
eventually "${in_here[@]}" findmnt -n -t tmpfs /run
ip -n "$there" link add veth0 type veth peer name veth0 netns "${server[here]}"
ip -n "$there" addr add 10.78.0.2/24 dev veth0
ip -n "$there" link set veth0 up
ip -n "$there" link set lo up
"${in_here[@]}" bash -ec 'ip addr add 10.78.0.1/24 dev veth0; ip link set veth0 up'
start daemon "${in_here[@]}" "$python" "$work/daemon.py"
eventually "${in_here[@]}" test -S /run/xenloop/daemon.sock
sed 's/"127.0.0.1"/"10.78.0.2"/' "$work/ends.py" >"$work/far_ends.py"
start far ip netns exec "$there" "$python" "$work/far_ends.py" server 7000
listening 7000 ip netns exec "$there"
: >"$stats"
run "${in_here[@]}" env LD_PRELOAD="$library" XENLOOP_STATS="$stats" "$python" "$work/far_ends.py" client 7000 >"$work/far.result"
finish far
[[ $finished == 0 && $(cat "$work/native.far.log") == "$(cat "$work/far.result")" ]] ||
  fail "a byte was wrong beside a daemon of another version"
[[ $(jq -s 'map(.never_upgraded["xenloopd is of another version"] // 0) | add' "$stats") == 1 ]] ||
  fail "not said of xenloopd's version: $(cat "$stats")"
echo "ok xenloopd of another version: it is named"
