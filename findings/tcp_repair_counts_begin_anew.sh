#!/usr/bin/env bash
# A connection that TCP_REPAIR has moved to another socket keeps its bytes and loses its counts.
#
# Guess:   the restored socket continues the counts of TCP_INFO, as sequence numbers, windows and queues
#          are continued.
# Subject: Linux 6.18.44; only the kernel. CRIU restores TCP connections this way.
# Seen:    tcpi_bytes_sent and tcpi_bytes_acked begin at 0. tcpi_bytes_received does not: what the
#          restorer puts into the receive queue counts as received, what was read before does not. The
#          peer, which notices nothing, goes on with its own counts, so the two ends' counts of one
#          stream differ for ever, each way by another number.
# Matters: the count of one end is no position for the other one after a container was restored; two ends
#          that compare counts must refuse or begin at an agreed difference.
# Source:  none known.
set -euo pipefail

if [[ ${1:-} != inside ]]; then
  exec unshare -rn -- bash "$0" inside
fi
ip link set lo up
python3 - <<'PYTHON'
import fcntl, socket, struct, sys, time

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_WINDOW = 19, 20, 21, 29
RECEIVE_QUEUE, SEND_QUEUE = 1, 2
TCP = socket.IPPROTO_TCP

def counts(s):
    raw = s.getsockopt(TCP, socket.TCP_INFO, 232)
    received, = struct.unpack_from("=Q", raw, 128)
    notsent, = struct.unpack_from("=I", raw, 144)
    sent, retransmitted = struct.unpack_from("=QQ", raw, 200)
    unread, = struct.unpack("i", fcntl.ioctl(s, 0x541b, b"\0" * 4))  # SIOCINQ
    return {"written": sent - retransmitted + notsent, "received": received, "unread": unread}

def sequence(s, queue, value=None):
    s.setsockopt(TCP, TCP_REPAIR_QUEUE, queue)
    if value is None:
        return s.getsockopt(TCP, TCP_QUEUE_SEQ, 4)
    s.setsockopt(TCP, TCP_QUEUE_SEQ, value)

listener = socket.create_server(("127.0.0.1", 0))
there = listener.getsockname()
a = socket.create_connection(there)
b, _ = listener.accept()
here = a.getsockname()
a.send(b"x" * 1000)
b.send(b"y" * 700)
time.sleep(0.1)  # nothing in flight
a.recv(200)
print("before:  ", counts(a))
print("peer:    ", counts(b))

a.setsockopt(TCP, TCP_REPAIR, 1)
next_to_send, next_to_read = sequence(a, SEND_QUEUE), sequence(a, RECEIVE_QUEUE)
unread = a.recv(4096, socket.MSG_PEEK)
window = a.getsockopt(TCP, TCP_REPAIR_WINDOW, 20)
a.close()  # without a word to the peer

c = socket.socket()
c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
c.setsockopt(TCP, TCP_REPAIR, 1)
sequence(c, SEND_QUEUE, next_to_send)
restored = (int.from_bytes(next_to_read, sys.byteorder) - len(unread)) & 0xffffffff
sequence(c, RECEIVE_QUEUE, restored.to_bytes(4, sys.byteorder))
c.bind(here)
c.connect(there)
c.setsockopt(TCP, TCP_REPAIR_QUEUE, RECEIVE_QUEUE)
c.send(unread)
c.setsockopt(TCP, TCP_REPAIR_WINDOW, window)
c.setsockopt(TCP, TCP_REPAIR, 0)
moved, peer = counts(c), counts(b)
print("restored:", moved)
print("peer:    ", peer)

b.send(b"y" * 100)
c.settimeout(10)
got = b""
while len(got) < 600:
    got += c.recv(4096)
print("bytes read after the move:", len(got), "of 600")
if peer != {"written": 700, "received": 1000, "unread": 1000}:
    sys.exit("something else than the finding went wrong")
if moved != {"written": 0, "received": 500, "unread": 500}:
    sys.exit("CHANGED: other counts after TCP_REPAIR")
PYTHON
echo "as found"
