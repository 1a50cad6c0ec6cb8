#!/usr/bin/env bash
# SIOCGSTAMP: the first answer of a socket is the time of the question, not that of the packet.
#
# Guess:   as socket(7) has it, the time at which the last packet was received that the program has got. Without one:
#          ENOENT.
# Subject: ioctl(SIOCGSTAMP) on UDP, Linux 6.18.44; only the kernel.
# Seen:    ENOENT before the first packet. Behind a packet the first question succeeds and says now, however long ago
#          the packet came and was read: nobody had noted its time. Asked again, the same answer, until another packet
#          is read. What comes after the first question has the time at which it came, also if it is read much later.
# Matters: a program that takes the delay of its first packet, or of a burst that waited, from SIOCGSTAMP measures its
#          own question. Ask once right after socket(), which gives ENOENT and begins the noting, or use SO_TIMESTAMP.
# Source:  socket(7) says "the receive timestamp of the last packet passed to the user"; net/core/sock.c, sock_gettstamp:
#          a stamp of 0 is replaced by the time of now, and kept.
set -euo pipefail

python3 - <<'PYTHON'
import errno, fcntl, socket, struct, sys, time

SIOCGSTAMP, PAUSE = 0x8906, 0.3

def stamp(end):
    seconds, microseconds = struct.unpack("ll", fcntl.ioctl(end, SIOCGSTAMP, bytes(16)))
    return seconds + microseconds / 1e6

def nearest(what, moments):
    return min(moments, key=lambda name: abs(moments[name] - what))

sender, receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
sender.connect(receiver.getsockname())

fresh = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    stamp(fresh)
    seen = ["an answer"]
except OSError as error:
    seen = [errno.errorcode[error.errno]]

def passed():
    """One packet, read and asked about with pauses between. Which moment is the answer?"""
    moments = {}
    sender.send(b"x")
    moments["came"] = time.time()
    time.sleep(PAUSE)
    receiver.recv(10)
    moments["was read"] = time.time()
    time.sleep(PAUSE)
    moments["was asked"] = time.time()
    return nearest(stamp(receiver), moments)

seen.append(passed())
first = stamp(receiver)
time.sleep(PAUSE)
seen.append("the same" if stamp(receiver) == first else "another")
seen.append(passed())
print("no packet: %s; first question: when it %s; again: %s; of what came after it: when it %s" % tuple(seen))
if seen != ["ENOENT", "was asked", "the same", "came"]:
    sys.exit("CHANGED: %s" % seen)
PYTHON
echo "as found"
