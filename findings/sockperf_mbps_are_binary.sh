#!/usr/bin/env bash
# sockperf's "Mbps" are units of 1,048,576 bits per second.
#
# Guess:   the message rate times the message size times 8 is the printed number of Mbps, with a million
#          bits to one, as iperf3 has it. "MBps" may be binary.
# Subject: sockperf 3.7-1 (Debian 12).
# Seen:    both are binary: BandWidth in Mbps = rate * size * 8 / 1048576.
# Matters: a table with sockperf's figures for one route and another tool's for the other one has an error of
#          4.9 percent in favour of the other one; as much as many an optimisation brings.
# Source:  none known.
set -euo pipefail

scratch=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download sockperf=3.7-1 >log 2>&1) ||
  { echo "this version is not offered any more"; exit 77; }
dpkg-deb -x "$scratch"/*.deb "$scratch"
sockperf=$scratch/usr/bin/sockperf

port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
"$sockperf" server --tcp -i 127.0.0.1 -p "$port" >"$scratch/server" 2>&1 &
server=$!
python3 - "$port" <<'PYTHON'
import socket, sys, time
for _ in range(100):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
        break
    except OSError:
        time.sleep(0.05)
PYTHON
"$sockperf" throughput --tcp -i 127.0.0.1 -p "$port" -t 1 -m 1000 >"$scratch/seen" 2>&1
grep Summary "$scratch/seen"
python3 - "$scratch/seen" <<'PYTHON'
import re, sys
text = open(sys.argv[1]).read()
rate = int(re.search(r"Message Rate is (\d+)", text).group(1))
megabytes, megabits = map(float, re.search(r"BandWidth is ([\d.]+) MBps \(([\d.]+) Mbps\)", text).groups())
print("bits per second / Mbps = %.0f" % (rate * 1000 * 8 / megabits))
print("bytes per second / MBps = %.0f" % (rate * 1000 / megabytes))
if abs(rate * 1000 * 8 / megabits / 1048576 - 1) > 0.001:
    sys.exit("CHANGED: Mbps are not binary any more")
PYTHON
echo "as found"
