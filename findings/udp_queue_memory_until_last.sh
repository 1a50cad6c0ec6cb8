#!/usr/bin/env bash
# The memory of a UDP receive queue falls when the last datagram is read, and not before.
#
# Guess:   after nine of ten datagrams are read, the queue is charged for one (SK_MEMINFO_RMEM_ALLOC, and
#          Recv-Q in `ss -u`).
# Subject: Linux 6.18.44; only the kernel.
# Seen:    it is charged for all ten until the tenth is read, then for none. A reader gives memory back
#          in bulk: when the queue is empty, or a quarter of SO_RCVBUF has gathered.
# Matters: Recv-Q of a UDP socket is no backlog: a reader that is always one datagram behind looks as if it
#          were far behind. Who emulates a UDP queue, or decides by its length when to leave the kernel's
#          way, must count datagrams.
# Source:  net/ipv4/udp.c, udp_rmem_release (forward_deficit).
set -euo pipefail

python3 - <<'PYTHON'
import socket, struct, sys

SO_MEMINFO = 55
to = socket.socket(type=socket.SOCK_DGRAM)
to.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200000)
to.bind(("127.0.0.1", 0))
sender = socket.socket(type=socket.SOCK_DGRAM)

def charged():
    return struct.unpack("=I", to.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)[:4])[0]

sender.sendto(b"x" * 1000, to.getsockname())
one = charged()
to.recv(2000)
for _ in range(10):
    sender.sendto(b"x" * 1000, to.getsockname())
seen = [charged()]
for _ in range(10):
    to.recv(2000)
    seen.append(charged())
print("one datagram is charged", one)
print("ten, and after each of ten reads:", *seen)
if one == 0 or seen[0] != 10 * one or seen[-1] != 0:
    sys.exit("something else than the finding went wrong")
if seen[:-1] != 10 * [10 * one]:
    sys.exit("CHANGED: memory is given back earlier")
PYTHON
echo "as found"
