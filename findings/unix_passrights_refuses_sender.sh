#!/usr/bin/env bash
# A receiver that does not want descriptors makes the sender's sendmsg fail.
#
# Guess:   with SO_PASSRIGHTS off (Linux 6.16 and later) at the receiving end, the bytes arrive without the
#          descriptors and with MSG_CTRUNC, as when the receiver offers no room for them.
# Subject: Linux 6.18.44, UNIX stream sockets; only the kernel.
# Seen:    the sender gets EPERM, and no byte is sent. What stood in the queue before the option was
#          switched off is still delivered with its descriptors.
# Matters: a rendezvous over UNIX sockets that hands over memory and doorbells in one message with its words
#          must take EPERM for "this peer takes no descriptors", and not for a missing right of its own.
# Source:  none known; unix(7) does not have the option yet.
set -euo pipefail

python3 - <<'PYTHON'
import array, errno, os, socket, sys

SO_PASSRIGHTS = 83
pipe, _ = os.pipe()
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pipe]))]
sender, receiver = socket.socketpair()
try:
    receiver.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS)
except OSError:
    print("this kernel has no SO_PASSRIGHTS")
    sys.exit(77)

sender.sendmsg([b"early"], rights)
receiver.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
try:
    late = "%d bytes" % sender.sendmsg([b"late"], rights)
except OSError as error:
    late = errno.errorcode[error.errno]
print("sendmsg with a descriptor, after the peer has switched it off:", late)
data, ancillary, flags, _ = receiver.recvmsg(100, 100)
print("read:", data, len(ancillary), "control messages, flags", flags)
receiver.setblocking(False)
try:
    rest = receiver.recv(100)
except BlockingIOError:
    rest = b""
print("after that:", rest)
if data != b"early":
    sys.exit("something else than the finding went wrong")
if (late, len(ancillary), flags, rest) != ("EPERM", 1, 0, b""):
    sys.exit("CHANGED: the sender is not the one who is told")
PYTHON
echo "as found"
