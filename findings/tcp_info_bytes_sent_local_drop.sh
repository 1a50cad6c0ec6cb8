#!/usr/bin/env bash
# TCP_INFO counts a segment as sent although the machine itself has dropped it.
#
# Guess:   written = tcpi_bytes_sent - tcpi_bytes_retrans + tcpi_notsent_bytes, at every moment. What a
#          local queue refuses has not been sent.
# Subject: Linux 6.18.44; only the kernel, and tc of iproute2 (6.1.0 here).
# Seen:    when the first transmission fails inside the sender's own machine (full queueing discipline;
#          a drop in nftables' output hook does the same), the segment stays unsent, in
#          tcpi_notsent_bytes, and yet is added to tcpi_bytes_sent, once for each further attempt.
#          tcpi_bytes_retrans never learns of it, so the sum stays too high for the rest of the
#          connection's life. Once all is acknowledged, tcpi_bytes_acked and the peer's
#          tcpi_bytes_received are right.
# Matters: who takes this sum for a position in the stream (where TCP ends and shared memory begins) waits
#          for bytes that never come. tcpi_bytes_acked + SIOCOUTQ is not affected; it is one higher at
#          the end that connected, whose SYN is counted.
# Source:  none known.
set -euo pipefail

if [[ ${1:-} != inside ]]; then
  exec unshare -rn -- bash "$0" inside
fi
ip link set lo up
python3 - <<'PYTHON'
import fcntl, socket, struct, subprocess, sys, time

def info(s):
    raw = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    acked, received = struct.unpack_from("=QQ", raw, 120)
    notsent, = struct.unpack_from("=I", raw, 144)
    sent, retransmitted = struct.unpack_from("=QQ", raw, 200)
    queued, = struct.unpack("i", fcntl.ioctl(s, 0x5411, b"\0" * 4))  # SIOCOUTQ
    return sent - retransmitted + notsent, acked + queued - 1, queued, received

def tc(*words):
    subprocess.run(["tc", "qdisc", *words], check=True)

listener = socket.create_server(("127.0.0.1", 0))
a = socket.create_connection(listener.getsockname())
b, _ = listener.accept()

a.send(b"x" * 1000)
print("1000 bytes written:   sum %d, acked + queued %d" % info(a)[:2])
before = info(a)[:2] == (1000, 1000)

tc("add", "dev", "lo", "root", "bfifo", "limit", "1")  # bytes: refuses every segment
a.send(b"x" * 1000)
print("2000, queue refuses:  sum %d, acked + queued %d" % info(a)[:2])
during = info(a)[:2]
tc("del", "dev", "lo", "root")

end = time.monotonic() + 20
while info(a)[2] and time.monotonic() < end:
    time.sleep(0.05)
after, received = info(a), info(b)[3]
print("2000, all delivered:  sum %d, acked + queued %d, the peer has %d" % (after[0], after[1], received))
if not before or after[2] or received != 2000 or after[1] != 2000 or during[1] != 2000:
    sys.exit("something else than the finding went wrong")
if during[0] <= 2000 or after[0] <= 2000:
    sys.exit("CHANGED: what was dropped at home is not counted any more")
PYTHON
echo "as found"
