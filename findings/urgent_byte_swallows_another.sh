#!/usr/bin/env bash
# On TCP an urgent byte that nobody has read vanishes when the next one comes; on a UNIX socket it stays.
#
# Guess:   the older urgent byte, no longer urgent, becomes an ordinary byte of the stream, on both.
# Subject: Linux 6.18.44 (CONFIG_AF_UNIX_OOB); only the kernel.
# Seen:    a, b urgent, then c: a UNIX socket has b urgent and "ac" in the stream. TCP has b urgent and
#          "c": the byte a, which was sent, acknowledged and counted by TCP_INFO, is read by nobody. That is so
#          only while a is the next byte to read: with an ordinary byte before it, it is kept.
# Matters: bytes sent and bytes read of a TCP stream may differ with no error at either end. Who compares
#          the two (as accelerators do that switch routes at a byte's number) must leave a connection
#          alone that has seen urgent data; a UNIX socket shows none of it.
# Source:  net/ipv4/tcp_input.c, tcp_check_urg.
set -euo pipefail

python3 - <<'PYTHON'
import select, socket, sys, time

def tcp():
    listener = socket.create_server(("127.0.0.1", 0))
    a = socket.create_connection(listener.getsockname())
    return a, listener.accept()[0]

def read(pair, first):
    a, b = pair
    for data, how in first, (b"b", socket.MSG_OOB), (b"c", 0):
        a.send(data, how)
        time.sleep(0.1)
    b.setblocking(False)
    urgent = b.recv(1, socket.MSG_OOB)
    stream = b""
    try:
        while True:
            stream += b.recv(10)
    except BlockingIOError:
        return urgent, stream

URGENT = (b"a", socket.MSG_OOB)
seen = {"UNIX": read(socket.socketpair(), URGENT), "TCP": read(tcp(), URGENT)}
for name, (urgent, stream) in seen.items():
    print(f"{name}: urgent {urgent}, stream {stream}")
if seen["UNIX"] != (b"b", b"ac"):
    sys.exit("CHANGED: the UNIX socket does otherwise")
if seen["TCP"] != (b"b", b"c"):
    sys.exit("CHANGED: TCP keeps the older urgent byte")
PYTHON
echo "as found"
