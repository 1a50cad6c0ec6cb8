# A planned move: before it nothing is shared any more, at either end, and after it streams return by
# themselves. Quiesce and release under load; a program that does not answer.
# limit: 420
# programs: iperf3
source lib/programs.sh
ready_for_programs
needs dom0 xenloop
limit=100
# One stream each way, for as long as the test lasts; every byte is verified where it arrives.
serve b receiver_b "stream-check receive 0.0.0.0:7401 7"
serve a receiver_a "stream-check receive 0.0.0.0:7402 8"
listening b 7401; listening a 7402
serve a sender_a "stream-check send $(address b):7401 7 0"
serve b sender_b "stream-check send $(address a):7402 8 0"

stat() { guest "$1" 'xenloop stat --json'; }
# on_route ROUTE NAME: both streams of that guest go by it.
on_route() {
  stat "$2" | jq -e --arg route "$1" '[.processes[].streams[] | select(.fifo_sent + .fifo_received + .tcp_sent + .tcp_received > 1000) |
    [.route_send, .route_receive] | map(select(. == "xen")) | length > 0] | length == 2 and all(. == ($route == "xen"))' >/dev/null
}
# shares NAME: pages granted and event channels bound, over all programs of the guest.
shares() { stat "$1" | jq -r '[.processes[].xen // empty | .granted_pages + .event_channels] | add // 0'; }
well() {
  local name
  for name in a b; do
    [[ $(guest "$name" "cat /tmp/receiver_$name.status 2>/dev/null; true") == "" ]] ||
      fail "the receiver in $name has ended: $(guest "$name" "tail -n 3 /tmp/receiver_$name.log")"
    guest "$name" 'dmesg | grep -E "BUG:|kernel BUG|Oops|Call Trace"' && fail "the kernel of $name complains"
  done
  return 0
}
eventually 30 on_route xen a
eventually 30 on_route xen b

for round in 1 2 3; do
  note "round $round: $(dom0 'xenloop quiesce b')"
  for name in a b; do
    on_route tcp "$name" || fail "round $round: $name is not on TCP: $(guest "$name" 'xenloop stat')"
    [[ $(shares "$name") == 0 ]] || fail "round $round: $name still shares $(shares "$name")"
  done
  well
  at=$(now)
  dom0 'xenloop release b' || fail "release"
  eventually 20 on_route xen a
  note "on pages again after $(since "$at") s"
done

# A program that does not answer is named, here one of the guest that stays, and nothing has changed.
stopped=$(pid_of a stream-check)
guest a "kill -STOP $stopped"
if dom0 'xenloop quiesce --timeout=3 b' >"$run/logs/quiesce.out" 2>&1; then fail "ready, although a process is stopped"; fi
grep -q 'domain .*: process [0-9]*:stream-check' "$run/logs/quiesce.out" || fail "not named: $(cat "$run/logs/quiesce.out")"
note "$(grep process "$run/logs/quiesce.out")"
guest a "kill -CONT $stopped"
eventually 30 on_route xen a
well
# Those of b may end of that by themselves.
guest a 'killall stream-check'; guest b 'killall stream-check 2>/dev/null; true'

# A hundred hot streams at once, in FIFOs small enough for all of them.
needs a iperf3; needs b iperf3
small='XENLOOP_XEN_FIFO_BYTES=65536'
guest b "setsid env $with_library $small iperf3 -s -1 -p 7403 >/tmp/many.log 2>&1 </dev/null &"
listening b 7403
guest a "setsid env $with_library $small iperf3 -c $(address b) -p 7403 -P 100 -t 600 >/tmp/many.log 2>&1 </dev/null &"
hot() { (($(stat "$1" | jq '[.processes[].streams[] | select(.route_send == "xen" or .route_receive == "xen")] | length') >= 100)); }
eventually 90 hot a
at=$(now)
said=$(dom0 'xenloop quiesce b')
note "100 hot streams: $said; the command took $(since "$at") s"
for name in a b; do [[ $(shares "$name") == 0 ]] || fail "$name still shares $(shares "$name")"; done
dom0 'xenloop release b' || fail "release"
eventually 90 hot a
guest a 'killall iperf3'; guest b 'killall iperf3 2>/dev/null; true'
kernel() { guest "$1" 'dmesg | grep -E "BUG:|kernel BUG|Oops|Call Trace"'; }
for name in a b; do ! kernel "$name" || fail "the kernel of $name complains"; done
