#!/usr/bin/env bash
# A packet on lo passes a packet socket twice, going out and coming in; what tools make of the second copy.
#
# Guess:   `tcpdump -i lo -Q out` has each packet once, as -Q in and no -Q have. netsniff-ng has each once
#          too, and reports no drop where nothing was dropped.
# Subject: tcpdump 4.99.3-1 with libpcap 1.10.3-1; netsniff-ng 0.6.8-3 (Debian 12). Root.
# Seen:    -Q out has nothing at all: libpcap takes the outgoing copy for the superfluous one before it
#          looks at the direction that was asked for. "received by filter" counts both copies all the
#          same. netsniff-ng writes each packet once, and counts the copy that it skips as "failed filter
#          (out of space)": half of all packets, a droprate of 50 percent.
# Matters: captures of loopback traffic are how people see whether bytes go by TCP or not, and how much a
#          measurement has lost. Nothing captured, or half of it dropped, is no sign of either here.
# Source:  libpcap, pcap-linux.c, linux_check_direction; the other none known.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 netsniff-ng=0.6.8-3 \
  libgeoip1=1.6.12-10 libnl-3-200=3.7.0-0.2+b1 libnl-genl-3-200=3.7.0-0.2+b1 \
  libnl-route-3-200=3.7.0-0.2+b1 >log 2>&1) ||
  { echo "these versions are not offered any more"; exit 77; }
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch"; done

cat >"$scratch/inside" <<'INSIDE'
set -euo pipefail
cd "$1"
libraries=$(find "$1" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
export LD_LIBRARY_PATH=$libraries
ip link set lo up
for way in out in inout; do
  timeout -s INT 4 usr/bin/tcpdump -Z root -n -i lo -Q "$way" -w "$way.pcap" udp 2>"tcpdump.$way" &
done
timeout -s INT 4 usr/sbin/netsniff-ng --in lo --out netsniff.pcap --silent >netsniff 2>&1 &
for _ in $(seq 300); do  # until all four listen
  (($(wc -l </proc/net/packet) < 5)) || break  # with the line of titles
  read -rt 0.01 <> <(:) || true
done
read -rt 0.5 <> <(:) || true
python3 -c '
import socket
to = socket.socket(type=socket.SOCK_DGRAM)
to.bind(("127.0.0.1", 0))
sender = socket.socket(type=socket.SOCK_DGRAM)
for _ in range(10):
    sender.sendto(b"x", to.getsockname())'
wait || true
packets() { usr/bin/tcpdump -Z root -nr "$1.pcap" 2>/dev/null | wc -l; }
for way in out in inout netsniff; do echo "$way: $(packets "$way") packets in the file"; done
grep -h 'received by filter' tcpdump.out
grep -E 'packets|droprate' netsniff
INSIDE
unshare -n bash "$scratch/inside" "$scratch" | tee "$scratch/seen"

for line in '^out: 0 packets' '^in: 10 packets' '^inout: 10 packets' '^netsniff: 10 packets' \
  '^20 packets received by filter' ' 10 .*packets failed filter' ' 50\.0000% packet droprate'; do
  grep -Eq "$line" "$scratch/seen" || { echo "CHANGED: no line '$line'"; exit 1; }
done
echo "as found"
