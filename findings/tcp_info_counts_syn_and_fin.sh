#!/usr/bin/env bash
# TCP_INFO's counts of acknowledged and received bytes hold the SYN and the FIN, each at one end only.
#
# Guess:   tcpi_bytes_acked is how many bytes of mine the peer has acknowledged, tcpi_bytes_received how many of its
#          bytes have come: both 10 where ten have gone each way, at both ends, before and after the end of the stream.
# Subject: TCP_INFO, SIOCOUTQ, Linux 6.18.44; only the kernel.
# Seen:    who has connected has 11 acknowledged, who has accepted 10: the SYN that connect() sends counts, the one
#          that answers does not. A FIN counts at its sender (acknowledged) and at its receiver (received). FIONREAD
#          takes the FIN out again.
# Matters: bytes acked + SIOCOUTQ is where in the stream a sender stands, if one is taken off at the end that
#          connected, and another once it has shut down. With TCP_REPAIR or a descriptor received from elsewhere
#          one must know which end it was.
# Source:  RFC 4898, tcpEStatsAppHCThruOctetsAcked and ...Received, which the kernel's header names, speak of octets.
set -euo pipefail

python3 - <<'PYTHON'
import socket, struct, sys, time

def counts(end):
    info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("QQ", info, 120)  # tcpi_bytes_acked, tcpi_bytes_received

def settled(ends, wanted):  # acknowledgements take their time
    for _ in range(100):
        if [counts(end) for end in ends] == wanted:
            break
        time.sleep(0.02)
    return [counts(end) for end in ends]

listener = socket.create_server(("127.0.0.1", 0))
connected = socket.create_connection(listener.getsockname())
accepted, _ = listener.accept()
ends = (connected, accepted)
connected.sendall(b"x" * 10)
accepted.sendall(b"y" * 10)
connected.recv(10), accepted.recv(10)
open_counts = settled(ends, [(11, 10), (10, 10)])
print("ten bytes each way:          who connected %s, who accepted %s (acknowledged, received)" % tuple(open_counts))
connected.shutdown(socket.SHUT_WR)
half = settled(ends, [(12, 10), (10, 11)])
print("after its end of the stream: who connected %s, who accepted %s" % tuple(half))
accepted.shutdown(socket.SHUT_WR)
closed = settled(ends, [(12, 11), (11, 11)])
print("after both:                  who connected %s, who accepted %s" % tuple(closed))
if [open_counts, half, closed] != [[(11, 10), (10, 10)], [(12, 10), (10, 11)], [(12, 11), (11, 11)]]:
    sys.exit("CHANGED: the counts are others")
PYTHON
echo "as found"
