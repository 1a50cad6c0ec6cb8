#!/usr/bin/env bash
# UDP of real programs with `udp = on`: equal results, and how much went by FIFOs. memcached over
# UDP, socat both ways, syslog from a python sender (over IPv4 and IPv6), DTLS (openssl), and where they are
# installed qperf, sipp, dnsperf to unbound, and rsyslog to rsyslog. Servers that set SO_REUSEADDR (openssl s_server,
# qperf, unbound, rsyslog's imudp) get what is sent to them from the kernel, since another socket may take the port;
# what they answer goes by FIFOs.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
need socat
[[ -n $python ]] || skip "python3 is not installed"
export XENLOOP_UDP=on
bound() { [[ -n $(ss -Huln "sport = :$1") ]]; }

# datagrams PROGRAM: received and sent by FIFOs, over its processes.
datagrams() {
  jq -rs --arg p "$1" '[.[] | select(.program | startswith($p)) | .datagrams // {} |
    (.fifo_sent // 0) + (.fifo_received // 0)] | add // 0' "$stats"
}
# expect_reason PROGRAM WORDS: a socket of it is with the kernel for that.
expect_reason() {
  [[ ${E2E_NATIVE:-} == 1 ]] || grep -F "\"program\":\"$1\"" "$stats" | grep -qF "$2" ||
    fail "no socket of $1 is with the kernel because of: $2"
}
# expect_datagrams PROGRAM...: each had some by FIFO.
expect_datagrams() {
  [[ ${E2E_NATIVE:-} != 1 ]] || return 0
  local program
  for program; do
    echo "$program: $(datagrams "$program") datagrams by FIFO"
    (($(datagrams "$program") > 0)) || fail "no datagram of $program went by a FIFO"
  done
}
told() { [[ ${E2E_NATIVE:-} == 1 ]] || echo "$1: $(datagrams "$1") datagrams by FIFO"; }
# expect_met PROGRAM: a socket of it had a FIFO. (A receiver that sleeps before each datagram is woken by the kernel.)
expect_met() {
  [[ ${E2E_NATIVE:-} == 1 ]] || jq -es --arg p "$1" 'any(.[]; .program == $p and .datagrams.upgrades > 0)' "$stats" >/dev/null ||
    fail "no socket of $1 had a FIFO"
}

memcached_udp() {
  pick_port port
  start memcached memcached -U "$port" -p "$port" -l 127.0.0.1 -u root -t 1
  eventually bound "$port"
  run "$python" - "$port" <<'PY'
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
s.settimeout(10)
good = 0
for number in range(3000):
    id_ = number & 0xffff
    def ask(text):
        s.send(struct.pack(">HHHH", id_, 0, 1, 0) + text)
        while True:
            answer = s.recv(65536)
            if struct.unpack_from(">H", answer)[0] == id_:
                return answer[8:]
    value = b"v%d" % (number * 7919)
    stored = ask(b"set k%d 0 0 %d\r\n%s\r\n" % (number % 50, len(value), value))
    got = ask(b"get k%d\r\n" % (number % 50))
    good += stored == b"STORED\r\n" and value in got
print("memcached: good answers", good)
PY
  stop memcached
}

# Through socat, there and back: each question waits for its answer, so nothing may be lost.
socat_relay() {
  pick_port port
  pick_port behind
  start echo "$python" -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    text, source = s.recvfrom(1500)
    s.sendto(text[::-1], source)' "$behind"
  start socat socat "UDP-LISTEN:$port,bind=127.0.0.1" "UDP:127.0.0.1:$behind"
  eventually bound "$behind"
  eventually bound "$port"
  run "$python" - "$port" <<'PY'
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
s.settimeout(20)
good = 0
for number in range(2000):
    texts = [b"%d:%d" % (number, part) for part in range(3)]
    for text in texts:
        s.send(text)
    good += [s.recv(1500)[::-1] for _ in texts] == texts
print("socat: good answers", good)
PY
  stop socat >/dev/null
  stop echo >/dev/null
}

# What a program of many short messages does: statsd, syslog.
messages() { messages_to 127.0.0.1 127.0.0.1; }
messages_ipv6() { messages_to ::1 ::1; }
# A sender of IPv4 to a server of both.
messages_mapped() { messages_to :: 127.0.0.1; }
messages_to() {
  pick_port port
  start receiver "$python" -c '
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[2], int(sys.argv[1])))
s.settimeout(20)
sums = {}
while True:
    text = s.recv(1500).decode()
    if text == "end":
        break
    name, rest = text.split(":")
    sums[name] = sums.get(name, 0) + int(rest.split("|")[0])
print(sorted(sums.items()))' "$port" "$1"
  eventually bound "$port"
  run "$python" - "$port" "$2" <<'PY'
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, socket.SOCK_DGRAM)
address = (sys.argv[2], int(sys.argv[1]))
for number in range(4000):
    s.sendto(b"counter%d:%d|c" % (number % 7, number), address)
    if number % 20 == 0:
        time.sleep(0.002)
s.sendto(b"end", address)
PY
  finish receiver
  cat "$work/$mode.receiver.log"
}

dtls() {
  pick_port port
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" -days 2 \
    -subj /CN=localhost >/dev/null 2>&1
  mkfifo "$work/$mode.hold"
  setsid "${server_prefix[@]}" openssl s_server -dtls -accept "127.0.0.1:$port" -key "$work/key.pem" \
    -cert "$work/cert.pem" -quiet <"$work/$mode.hold" >"$work/$mode.said" 2>"$work/$mode.s_server.log" {out}>&- &
  local server_pid=$!
  cleanups+=("kill $server_pid")
  exec 8>"$work/$mode.hold"
  eventually bound "$port"
  # By one process: it is 64 within a second that count, and a busy machine starts no 64 sleeps in that time.
  lines() { "$python" -c 'import time; [(print("line", i, flush=True), time.sleep(0.002)) for i in range(1, 301)]'; }
  { lines; eventually grep -q 'line 300' "$work/$mode.said"; lines >&8; sleep 0.5; } |
    run openssl s_client -dtls -connect "127.0.0.1:$port" -quiet -no_ign_eof >"$work/$mode.s_client.log" 2>&1 || true
  kill $server_pid
  wait $server_pid 2>/dev/null || true
  exec 8>&-
  sort -u "$work/$mode.said" | grep -c '^line '
  sort -u "$work/$mode.s_client.log" | grep -c '^line '
}

qperf_udp() {
  pick_port port
  start qperf qperf --listen_port "$port"
  listening "$port"
  run qperf 127.0.0.1 --listen_port "$port" -t 1 udp_lat >"$work/$mode.qperf.log" || echo "qperf: exit $?"
  grep -c latency "$work/$mode.qperf.log"
  stop qperf >/dev/null
}

sipp_calls() {
  pick_port port
  pick_port from
  start sipp sipp -sn uas -p "$port" -i 127.0.0.1 -nostdin -m 600
  eventually bound "$port"
  run sipp -sn uac "127.0.0.1:$port" -i 127.0.0.1 -p "$from" -m 600 -r 300 -d 0 -nostdin >"$work/$mode.uac.log" 2>&1 ||
    echo "sipp: exit $?"
  grep -aE 'Successful call|Failed call' "$work/$mode.uac.log" | tail -n 2
  finish sipp
  echo "sipp: exit $finished"
}

# What comes in by TCP is sent on as datagrams.
rsyslog() {
  pick_port port
  pick_port front
  cat >"$work/$mode.to.conf" <<END
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="$port")
template(name="text" type="string" string="%msg%\n")
action(type="omfile" file="$work/$mode.messages" template="text")
END
  cat >"$work/$mode.from.conf" <<END
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="$front")
action(type="omfwd" target="127.0.0.1" port="$port" protocol="udp")
END
  start to rsyslogd -n -f "$work/$mode.to.conf" -i "$work/$mode.to.pid"
  eventually bound "$port"
  start from rsyslogd -n -f "$work/$mode.from.conf" -i "$work/$mode.from.pid"
  listening "$front"
  run "$python" -c '
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for i in range(1000):
    s.send(b"<13>Jan  1 00:00:00 host prog: message %d\n" % i)
    if i % 20 == 0: time.sleep(0.002)' "$front"
  eventually grep -q 'message 999$' "$work/$mode.messages"
  sort -u "$work/$mode.messages" | wc -l
  stop from
  stop to
}

dns() {
  pick_port port
  cat >"$work/unbound.conf" <<END
server:
  interface: 127.0.0.1
  port: $port
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "$work"
  use-syslog: no
  logfile: ""
  num-threads: 1
  module-config: "iterator"
  do-not-query-localhost: no
  pidfile: "$work/unbound.pid"
  local-zone: "test." static
$(for i in {1..50}; do echo "  local-data: \"host$i.test. IN A 10.0.0.$i\""; done)
END
  for i in {1..50}; do echo "host$i.test A"; done >"$work/queries"
  start unbound unbound -d -c "$work/unbound.conf"
  eventually bound "$port"
  run dnsperf -s 127.0.0.1 -p "$port" -d "$work/queries" -n 40 -c 1 -q 8 >"$work/$mode.dnsperf.log" 2>&1 ||
    echo "dnsperf: exit $?"
  grep -E 'Queries (sent|completed|lost)|NOERROR' "$work/$mode.dnsperf.log"
  stop unbound >/dev/null
}

for scenario in messages messages_ipv6 messages_mapped; do
  both $scenario
  expect_datagrams python3
done
both socat_relay
told socat
if command -v memcached >/dev/null; then
  both memcached_udp
  expect_datagrams python3
  expect_datagrams memcached
fi
if command -v openssl >/dev/null; then
  both dtls
  told openssl
  expect_met openssl
fi
if command -v qperf >/dev/null; then
  both qperf_udp
  expect_datagrams qperf
fi
if command -v sipp >/dev/null; then
  both sipp_calls
  expect_datagrams sipp
fi
if command -v rsyslogd >/dev/null; then
  both rsyslog
  expect_reason rsyslogd 'UDP port that others can share'
fi
if command -v dnsperf >/dev/null && command -v unbound >/dev/null; then
  both dns
  expect_datagrams dnsperf unbound
fi
