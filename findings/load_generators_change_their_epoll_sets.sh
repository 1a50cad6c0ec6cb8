#!/usr/bin/env bash
# redis-benchmark and wrk change their epoll set for every request.
#
# Guess:   a load generator registers a connection once, and its system calls a request are a write, a read and a
#          share of an epoll_wait.
# Subject: redis-tools 5:7.0.15-1~deb12u10 (redis-benchmark, redis-server), wrk 4.1.0-3+b2 (Debian 12).
# Seen:    redis-benchmark makes five epoll_ctl calls a request beside its one write and one read, wrk two: each takes
#          its wish to write or to read out of the set and puts the other in. With -P 16 they are five for sixteen
#          requests.
# Matters: where a system call is dear (page-table isolation), or where reads and writes cost less than one (kernel
#          bypass, shared memory), the rate they print is that of their own epoll_ctl calls, not the server's.
# Source:  none known.
set -euo pipefail

scratch=$(mktemp -d)
server= web=
trap 'for p in $server $web; do kill "$p"; done; rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download redis-tools=5:7.0.15-1~deb12u10 libjemalloc2=5.3.0-1 liblzf1=3.6-3 \
  libatomic1=12.2.0-14+deb12u1 wrk=4.1.0-3+b2 libluajit-5.1-2=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1 \
  strace=6.1-0.1 libunwind8=1.6.2-3 >log 2>&1) ||
  { echo "these versions are not offered any more"; exit 77; }
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch"; done
LD_LIBRARY_PATH=$scratch/usr/lib/x86_64-linux-gnu:$scratch/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
# The server is the same program, by its name.
(cd "$scratch" && exec -a redis-server usr/bin/redis-check-rdb --port "$port" --bind 127.0.0.1 --save '') \
  >"$scratch/server.log" 2>&1 &
server=$!
python3 - "$scratch/web" <<'PYTHON' &
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[1], "w") as file:
    print(listener.getsockname()[1], file=file)
def answer(connection):
    try:
        while connection.recv(4096):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except ConnectionResetError:
        pass
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
PYTHON
web=$!
until [[ -s $scratch/web ]] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$server" "$web" || { cat "$scratch/server.log"; exit 1; }
  read -rt 0.05 <> <(:) || true
done
# COMMAND...: epoll_ctl calls for one write. (Those of connecting are few.)
changes() {
  "$scratch/usr/bin/strace" -f -qq -o "$scratch/trace" -e trace=epoll_ctl,write,sendto "$@" >/dev/null 2>&1 ||
    { echo "strace may not trace here"; exit 77; }
  python3 - "$scratch/trace" <<'PYTHON'
import collections, re, sys
calls = collections.Counter()
for line in open(sys.argv[1], encoding="latin-1"):
    found = re.match(r'\d+ +(epoll_ctl\(|write\(\d+, "(?:\*|GET /)|sendto\(\d+, "(?:\*|GET /))', line)
    if found:
        calls["epoll_ctl" if found[1] == "epoll_ctl(" else "write"] += 1
print(f"{calls['epoll_ctl'] / calls['write']:.2f}")
PYTHON
}
redis=$(changes "$scratch/usr/bin/redis-benchmark" -p "$port" -c 4 -t set -n 3000)
deep=$(changes "$scratch/usr/bin/redis-benchmark" -p "$port" -c 4 -t set -n 30000 -P 16)
wrk=$(changes "$scratch/usr/bin/wrk" -t 1 -c 4 -d 2 "http://127.0.0.1:$(cat "$scratch/web")/")
echo "epoll_ctl calls for one write: redis-benchmark $redis, with -P 16 $deep; wrk $wrk"
python3 - "$redis" "$deep" "$wrk" <<'PYTHON'
import sys
redis, deep, wrk = map(float, sys.argv[1:])
if not (4.9 < redis < 5.2 and 4.8 < deep < 5.3 and 1.9 < wrk < 2.2):
    sys.exit("CHANGED")
PYTHON
echo "as found"
