#!/usr/bin/env bash
# A UDP socket that was bound to port 0 has no port any more once it is disconnected.
#
# Guess:   connect() to AF_UNSPEC undoes connect() and nothing else: a socket that has been bound keeps the name
#          that getsockname() has told since, whoever chose the port.
# Subject: Linux 6.18.44, UDP over IPv4; only the kernel.
# Seen:    a port that the program named is kept; one that the kernel chose at bind() is given back, port 0 is told,
#          and what is sent to the old port is refused. The address stays.
# Matters: who keeps a table of UDP sockets by their names must look again after a disconnect, although bind() was
#          never called again; a server that disconnects to serve the next client is gone without an error.
# Source:  ip(7) and connect(2) say that the association is dissolved, not that the port goes with it.
set -euo pipefail

python3 - <<'PYTHON'
import ctypes, errno, socket, sys

libc = ctypes.CDLL(None, use_errno=True)
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.bind(("127.0.0.1", 0))

def after_disconnect(port):
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", port))
    before = bound.getsockname()
    bound.connect(peer.getsockname())
    if libc.connect(bound.fileno(), b"\0" * 16, 16) != 0:
        sys.exit("something else than the finding went wrong: " + errno.errorcode[ctypes.get_errno()])
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.connect(before)
    try:
        asker.send(b"?")
        asker.send(b"?")
        sent = "taken"
    except ConnectionRefusedError:
        sent = "refused"
    now = bound.getsockname()
    return (now[0], "same port" if now[1] == before[1] else "port %d" % now[1], sent)

probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.bind(("127.0.0.1", 0))
free = probe.getsockname()[1]
probe.close()
chosen, named = after_disconnect(0), after_disconnect(free)
print("bound to port 0, disconnected:       ", *chosen)
print("bound to a named port, disconnected: ", *named)
if named != ("127.0.0.1", "same port", "taken"):
    sys.exit("something else than the finding went wrong")
if chosen != ("127.0.0.1", "port 0", "refused"):
    sys.exit("CHANGED: a port that the kernel chose is kept")
PYTHON
echo "as found"
