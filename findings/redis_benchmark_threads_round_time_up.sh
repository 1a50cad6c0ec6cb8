#!/usr/bin/env bash
# redis-benchmark --threads measures time in steps of a quarter of a second.
#
# Guess:   the requests per second that it prints are requests by the time that they took, with threads as without.
# Subject: redis-tools 5:7.0.15-1~deb12u10, redis-server of the same version (Debian 12).
# Seen:    with --threads a run is over when a timer of 250 ms next looks: 1,000 requests that take 30 ms give at most
#          4,000 a second, 4,000 give at most 16,000, however fast the server. Without it the same runs give their
#          true rate. The latencies beside it are true in both.
# Matters: short runs of two routes (TCP and shared memory, say) look equally fast, or exactly twice as fast, as they
#          fall into the same or the next quarter. Use enough requests for several seconds, or no threads.
# Source:  none known; `redis-benchmark --help` does not say it.
set -euo pipefail

scratch=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download redis-tools=5:7.0.15-1~deb12u10 libjemalloc2=5.3.0-1 liblzf1=3.6-3 \
  libatomic1=12.2.0-14+deb12u1 >log 2>&1) || { echo "these versions are not offered any more"; exit 77; }
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch"; done
LD_LIBRARY_PATH=$scratch/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
# The server is the same program, by its name.
(cd "$scratch" && exec -a redis-server usr/bin/redis-check-rdb --port "$port" --bind 127.0.0.1 --save '') \
  >"$scratch/server.log" 2>&1 &
server=$!
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$server" || { cat "$scratch/server.log"; exit 1; }
  read -rt 0.05 <> <(:) || true
done
seconds() {  # REQUESTS OPTIONS...: that the rate it prints stands for
  local requests=$1
  shift
  "$scratch/usr/bin/redis-benchmark" -p "$port" -c 4 -t get -n "$requests" --csv "$@" |
    awk -F'"' -v n="$requests" '/GET/ { printf "%.3f", n / $4 }'
}
alone=$(seconds 1000) threads=$(seconds 1000 --threads 2) more=$(seconds 4000 --threads 2)
echo "seconds for 1,000 requests: $alone; with --threads 2: $threads; for 4,000 with --threads 2: $more"
python3 - "$alone" "$threads" "$more" <<'PYTHON'
import sys
alone, threads, more = map(float, sys.argv[1:])
if alone > 0.2:
    print("this machine is too slow to show it")
    sys.exit(77)
if not all(0.25 <= run and run % 0.25 < 0.05 for run in (threads, more)):
    sys.exit("CHANGED: not in steps of a quarter of a second")
PYTHON
echo "as found"
