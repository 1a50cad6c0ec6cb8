#!/usr/bin/env bash
# Datagrams of real programs with `udp = on`: iperf3 -u, sockperf (ping-pong, throughput, one socket
# and several by epoll, poll and select), python. With the library they say what they say natively,
# and datagrams have gone by FIFOs. A receiver that is killed is heard of; its port's next owner
# gets nothing old.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
need iperf3
need sockperf
export XENLOOP_UDP=on

bound() { ss -Hulpn "sport = :$1" 2>/dev/null | grep -q .; }

iperf() {
  pick_port port
  start iperf3 iperf3 -s -1 -p "$port"
  listening "$port"
  run iperf3 -c 127.0.0.1 -p "$port" -u -b 40M -l 1400 -n 4M "$@" --json >"$work/iperf3.json"
  finish iperf3
  "$python" - "$work/iperf3.json" <<'PY'
import json, sys
end = json.load(open(sys.argv[1]))["end"]["sum"]
print("iperf3: all sent", end["packets"] > 2900)  # what is lost is the machine's load
PY
}

# measure SERVER-OPTIONS -- CLIENT-OPTIONS
measure() {
  local from_server=() status=0
  while [[ $1 != -- ]]; do from_server+=("$1"); shift; done
  shift
  start sockperf sockperf server "${from_server[@]}"
  eventually bound "$port"
  run sockperf "$@" -t 1 >"$work/$mode.client.log" 2>&1 || status=$?
  local described=${*//$port/PORT}
  echo "sockperf ${described//$work\//}: exit $status"
  [[ $1 == throughput ]] || grep -o '# dropped messages.*' "$work/$mode.client.log"
  absent 'error|integrity.*fail|corrupt' "$work/$mode.client.log"
  stop sockperf INT
}

killed() {
  pick_port port
  "${client_prefix[@]}" "$python" - "$port" <<'PY'
import os, signal, socket, sys, time
address = ("127.0.0.1", int(sys.argv[1]))
def receiver():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(address)
    return s
ready, tell = os.pipe()
pid = os.fork()
if pid == 0:
    s = receiver()
    os.write(tell, b"x")
    while True:
        if s.recv(100) == b"stop":
            time.sleep(100)  # what comes now is never read
os.read(ready, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(address)
for i in range(3000):
    s.send(b"%d" % i)
    if i % 50 == 0:
        time.sleep(0.001)
s.send(b"stop")
time.sleep(0.05)
for i in range(100):
    s.send(b"old")
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
time.sleep(0.2)
refused = 0
for i in range(3):
    try:
        s.send(b"nobody")
        time.sleep(0.01)
    except ConnectionRefusedError:
        refused += 1
print("refused", refused > 0)
next_owner = receiver()
next_owner.settimeout(2)
while True:
    try:
        s.send(b"new")
        break
    except ConnectionRefusedError:
        pass
print("next owner", next_owner.recv(100))
PY
}

scenario() {
  iperf
  iperf --reverse
  pick_port port
  pick_port second
  local one=(-i 127.0.0.1 -p "$port") way
  printf 'U:127.0.0.1:%d\nU:127.0.0.1:%d\n' "$port" "$second" >"$work/feed"
  measure "${one[@]}" -- ping-pong "${one[@]}" --mps 100000 --data-integrity
  measure "${one[@]}" --nonblocked -- ping-pong "${one[@]}" --mps 50000 --nonblocked
  measure "${one[@]}" -- throughput "${one[@]}" -m 1400
  for way in e p s; do
    measure -f "$work/feed" -F $way -- ping-pong -f "$work/feed" -F $way --mps 100000
  done
  killed
}

both scenario
[[ ${E2E_NATIVE:-} != 1 ]] || exit 0
by_fifo=$("$python" - "$stats" <<'PY'
import json, sys
print(sum(json.loads(line).get("datagrams", {}).get("fifo_received", 0) for line in open(sys.argv[1])))
PY
)
((by_fifo > 1000)) || fail "only $by_fifo datagrams went by FIFOs"
