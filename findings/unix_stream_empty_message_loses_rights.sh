#!/usr/bin/env bash
# A message without a byte takes its descriptors along on a UNIX datagram, and loses them on a UNIX stream.
#
# Guess:   sendmsg with a descriptor and no byte fails on a stream (there is nothing that it could come with), or
#          delivers the descriptor with the next byte.
# Subject: Linux 6.18.44, UNIX sockets of all three types; only the kernel.
# Seen:    on a stream sendmsg returns 0, which is no error, and the descriptor is closed in silence: the other end
#          of a pipe that was passed so hangs up. On a datagram and a seqpacket socket the same call delivers it.
# Matters: who counts what a process has handed on must take 0 for "not gone" on a stream and for "gone" elsewhere,
#          and a program that passes sockets this way leaks nothing and passes nothing.
# Source:  unix(7) advises to send at least one byte on streams, and does not say what happens otherwise.
set -euo pipefail

python3 - <<'PYTHON'
import array, os, select, socket, sys

def passed(kind):
    sender, receiver = socket.socketpair(socket.AF_UNIX, kind)
    reading, writing = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))]
    returned = sender.sendmsg([b""], rights)
    os.close(writing)
    hung_up = select.poll()
    hung_up.register(reading, 0)
    gone = bool(hung_up.poll(0))
    receiver.setblocking(False)
    try:
        came = len(receiver.recvmsg(10, socket.CMSG_SPACE(4))[1])
    except BlockingIOError:
        came = 0
    return returned, "closed" if gone else "alive", came

stream, datagram, packet = (passed(kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET))
for name, seen in (("stream", stream), ("datagram", datagram), ("seqpacket", packet)):
    print("%-10s sendmsg returns %d, the descriptor is %s, %d arrived" % (name, *seen))
if datagram != (0, "alive", 1) or packet != (0, "alive", 1):
    sys.exit("something else than the finding went wrong")
if stream != (0, "closed", 0):
    sys.exit("CHANGED: an empty message on a stream does otherwise")
PYTHON
echo "as found"
