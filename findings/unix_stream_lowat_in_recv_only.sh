#!/usr/bin/env bash
# On a UNIX stream socket SO_RCVLOWAT holds recv back, but not poll; and MSG_PEEK ends MSG_WAITALL.
#
# Guess:   a UNIX stream socket does what TCP does: with SO_RCVLOWAT 50 and 20 bytes there, poll does not
#          report them and a blocking recv waits; a peek with MSG_WAITALL waits for all that it asked for.
# Subject: Linux 6.18.44; only the kernel.
# Seen:    recv waits on both. poll on the UNIX socket reports the 20 bytes, so a program that polls first
#          is told to read and then sleeps. The peek returns at once with 20 bytes on the UNIX socket, and
#          waits (here for SO_RCVTIMEO) on TCP.
# Matters: replacing TCP on loopback by a UNIX stream socket, as several accelerators do, is not
#          transparent; and UNIX sockets are no oracle for a test of TCP's meaning.
# Source:  none known; socket(7) says of all sockets that poll reports them only from SO_RCVLOWAT bytes on.
set -euo pipefail

python3 - <<'PYTHON'
import select, socket, struct, sys, time

def tcp():
    listener = socket.create_server(("127.0.0.1", 0))
    a = socket.create_connection(listener.getsockname())
    return a, listener.accept()[0]

def ask(pair):
    a, b = pair
    b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 50)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 400000))
    a.send(b"x" * 20)
    time.sleep(0.1)  # the bytes are there, also on TCP
    poll = select.poll()
    poll.register(b, select.POLLIN)
    polled = bool(poll.poll(0))
    def waits(*how):
        begin = time.monotonic()
        got = len(b.recv(100, *how))
        return got, time.monotonic() - begin > 0.3
    peek = waits(socket.MSG_PEEK | socket.MSG_WAITALL)
    recv = waits()
    return polled, recv, peek

seen = {"TCP": ask(tcp()), "UNIX": ask(socket.socketpair())}
for name, (polled, recv, peek) in seen.items():
    print(f"{name}: poll says readable: {polled}; recv has {recv[0]} bytes, after waiting: {recv[1]};"
          f" peek for all has {peek[0]}, after waiting: {peek[1]}")
if seen["TCP"] != (False, (20, True), (20, True)):
    sys.exit("something else than the finding went wrong")
if seen["UNIX"] != (True, (20, True), (20, False)):
    sys.exit("CHANGED: a UNIX stream socket does otherwise")
PYTHON
echo "as found"
