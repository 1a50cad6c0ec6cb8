#!/usr/bin/env bash
# What SIOCOUTQ and FIONREAD say of UNIX sockets: the one counts memory, the other one all messages of one kind only.
#
# Guess:   SIOCOUTQ is how many bytes the peer has not taken yet, as on TCP; FIONREAD is how many bytes can be read of a
#          stream, and the length of the next message where there are messages (datagrams, SOCK_SEQPACKET).
# Subject: UNIX sockets of all three kinds, Linux 6.18.44; only the kernel.
# Seen:    SIOCOUTQ is 768 for one unread byte, and again 768 for each further small message: memory with all that
#          the kernel needs around it. FIONREAD is the next message's length for datagrams, but the sum of all
#          messages on SOCK_SEQPACKET: 3 where the next recv gives 1.
# Matters: a shim that carries TCP over a UNIX socket, or compares the two, cannot take either number for bytes in
#          flight; and a buffer sized by FIONREAD on a SOCK_SEQPACKET socket fits no message in particular.
# Source:  unix(7) says of SIOCINQ only that it is the amount of unread data, for SOCK_STREAM.
set -euo pipefail

python3 - <<'PYTHON'
import array, fcntl, socket, sys

SIOCOUTQ, FIONREAD = 0x5411, 0x541B

def ask(end, request):
    answer = array.array("i", [0])
    fcntl.ioctl(end.fileno(), request, answer)
    return answer[0]

seen = {}
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    sender, receiver = socket.socketpair(type=kind)
    sender.send(b"a")
    one = ask(sender, SIOCOUTQ)
    sender.send(b"bb")
    two, readable = ask(sender, SIOCOUTQ), ask(receiver, FIONREAD)
    seen[kind.name] = (one > 100, two > one + 100, readable, len(receiver.recv(100)))
    print("%-14s SIOCOUTQ %4d after one byte, %4d after two more; FIONREAD %d, then recv gives %d" % (
        kind.name, one, two, readable, seen[kind.name][3]))
if seen != {"SOCK_STREAM": (True, True, 3, 3), "SOCK_DGRAM": (True, True, 1, 1), "SOCK_SEQPACKET": (True, True, 3, 1)}:
    sys.exit("CHANGED: %s" % seen)
PYTHON
echo "as found"
