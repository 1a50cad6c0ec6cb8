#!/usr/bin/env bash
# iperf3 -n: the receiver does not read all that the sender has sent, and whole blocks are sent.
#
# Guess:   iperf3 -n 50000000 carries 50,000,000 bytes, and the receiver counts as many: TCP loses none.
# Subject: iperf3 3.12-1+deb12u2 (Debian 12); over the loopback interface.
# Seen:    the sender rounds up to blocks of 128 KiB and counts 50,069,504. The receiver stops reading when it hears
#          on the control connection that the test is over, closes, and counts some megabytes less; after a short
#          test (-n 1000: one block of 131,072 bytes) it may have read nothing. Both sums stand in one report,
#          and no error is told.
# Matters: bytes by route, lost bytes or a checksum of what an accelerator has carried cannot be had from
#          iperf3's two sums; and a short run's "received" rate is too low by what was on the way.
# Source:  none known; the manual says "number of bytes to transmit".
set -euo pipefail
version=3.12-1+deb12u2
here=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$here"' EXIT
cd "$here"
apt-get download -q "iperf3=$version" "libiperf0=$version" libsctp1 >/dev/null 2>&1 || { echo "iperf3 $version is not to be had"; exit 77; }
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-gnu)
iperf3=$here/usr/bin/iperf3

python3 - "$iperf3" <<'PYTHON'
import json, socket, subprocess, sys, time

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
server = subprocess.Popen([sys.argv[1], "-s", "-p", port], stdout=subprocess.DEVNULL)

def run(bytes_wanted):
    client = subprocess.run([sys.argv[1], "-c", "127.0.0.1", "-p", port, "-n", str(bytes_wanted), "-J"],
                            capture_output=True, text=True)
    end = json.loads(client.stdout)["end"] if client.returncode == 0 else None
    return (end["sum_sent"]["bytes"], end["sum_received"]["bytes"], end["sum_sent"]["retransmits"]) if end else None

until = time.monotonic() + 15
while run(1) is None:  # it does not listen yet
    if time.monotonic() > until:
        sys.exit("the server does not answer")
    time.sleep(0.1)
sums = [run(50_000_000) for _ in range(8)]
for sent, received, retransmits in sums:
    print(f"-n 50000000: sent {sent:,}, received {received:,}, retransmits {retransmits}")
small = run(1000)
server.kill()
print(f"-n 1000: sent {small[0]:,}, received {small[1]:,}")
if any(sent != 382 * 131072 for sent, _, _ in sums) or small[0] != 131072:
    sys.exit("CHANGED: another length than whole blocks")
if all(received == sent for sent, received, _ in sums):
    sys.exit("CHANGED: the receiver reads all")
PYTHON
echo "as found"
