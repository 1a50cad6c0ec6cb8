# For the pages about moves: load between a and b in many kinds of connections, and by which route it goes.
source lib/programs.sh

stat() { guest "$1" 'xenloop stat --json'; }
# on_pages NAME: directions of that guest's streams that go by pages.
on_pages() { stat "$1" | jq '[.processes[].streams[] | (.route_send, .route_receive) | select(. == "xen")] | length'; }
at_least() { local count; count=$(on_pages "$2") && ((count >= $1)); }
# shares NAME: pages granted and event channels bound, over all programs of the guest.
shares() { stat "$1" | jq -r '[.processes[].xen // empty | .granted_pages + .event_channels] | add // 0'; }
kernel_well() {
  guest "$1" 'dmesg | grep -E "BUG:|kernel BUG|Oops|Call Trace"' && fail "the kernel of $1 complains"
  return 0
}

# start_load: moving_load and, beside it, one connection without the library, with its server in b.
start_load() {
  serve b server 'exec moving_load serve 7411'
  guest b 'rm -f /tmp/plain.*; setsid sh -c "stream-check receive 0.0.0.0:7412 7; echo \$? >/tmp/plain.status" >/tmp/plain.log 2>&1 </dev/null &'
  listening b 7411; listening b 7412
  serve a client "moving_load client $(address b) 7411"
  guest a "setsid stream-check send $(address b):7412 7 0 >/tmp/plain.log 2>&1 </dev/null &"
  # Three that echo, in both directions; idle: both; full and half-closed: one each.
  eventually 60 at_least 9 a
}
load_runs() {
  local log
  for log in a:client b:server b:plain; do
    [[ -z $(guest "${log%:*}" "cat /tmp/${log#*:}.status 2>/dev/null; true") ]] ||
      fail "${log#*:} has ended: $(guest "${log%:*}" "tail -n 3 /tmp/${log#*:}.log")"
  done
}
# end_load: every account is settled, by the programs themselves.
end_load() {
  load_runs
  kernel_well a; kernel_well b
  guest a 'kill -TERM $(pidof moving_load)'
  ended a client 0 60
  note "$(guest a 'tail -n 1 /tmp/client.log')"
  guest a 'killall stream-check'
  ended b plain
  guest b 'killall moving_load stream-check 2>/dev/null; true'
}
# off_pages NAME: nothing goes by pages, and nothing is shared.
off_pages() {
  [[ $(on_pages "$1") == 0 ]] || fail "$1 is not on TCP: $(guest "$1" 'xenloop stat')"
  [[ $(shares "$1") == 0 ]] || fail "$1 still shares $(shares "$1")"
}
# back_on_pages NAME SECONDS [SINCE]: the busy ones, three in both directions.
back_on_pages() {
  local at since
  lab_clock
  at=${3:-$(now)} since=$lab_ms
  until at_least 6 "$1"; do
    within "$2" "$since" || { look_around; fail "only $(on_pages "$1") directions on pages within $2 s"; }
    sleep 0.2
  done
  note "on pages again after $(since "$at") s, as domain $(domid b)"
}
# sample NAME: that guest notes, again and again, its uptime, how often the connection without the library
# has sent its oldest bytes anew, and what its streams do. To ask from here would take seconds each time.
sample() {
  guest "$1" 'setsid sh -c "while sleep 0.1; do read up rest </proc/uptime; again=\$(grep -i :1CF4 /proc/net/tcp | tr -s \" \" | cut -d \" \" -f 8)
    echo \$up \$((0x\$(echo \$again | cut -d \" \" -f 1))) \$(xenloop stat --json | tr -d \"\\n\"); done" >/tmp/samples 2>/dev/null </dev/null &'
}
# first_sample NAME AT FILTER: seconds from AT (our clock) to the first sample of which the filter is true;
# it finds $again and the streams.
first_sample() {
  local up here line again json
  here=$(now) up=$(guest "$1" 'cut -d " " -f 1 /proc/uptime')
  guest "$1" 'cat /tmp/samples' >"$run/logs/samples-$1"
  while read -r line again json; do
    awk -v a="$2" -v h="$here" -v u="$up" -v l="$line" 'BEGIN { exit !(h - u + l > a) }' || continue
    jq -e --argjson again "$again" "[.processes[].streams[]] | $3" <<<"$json" >/dev/null 2>&1 || continue
    awk -v a="$2" -v h="$here" -v u="$up" -v l="$line" 'BEGIN { printf "%.1f", h - u + l - a }'
    return
  done <"$run/logs/samples-$1"
  echo never
}
# arrival AT BYTES: what took how long after the resume. TCP waits with what it had sent into the frozen
# guest until its timer ends, and nothing that comes later may be read before that. What is ours is
# bounded: the upgrade.
arrival() {
  local joined='map(select(.upgrades > .fallbacks)) | length >= 3' name upgraded=()
  for name in a b; do upgraded+=("$(first_sample "$name" "$1" "$joined")"); done
  note "upgraded in a ${upgraded[0]} s, in b ${upgraded[1]} s after the resume;" \
    "first byte by pages $(first_sample a "$1" "map(.fifo_sent + .fifo_received) | add > $2") s," \
    "the busy ones all $(first_sample a "$1" 'map(select(.route_send == "xen" and .route_receive == "xen")) | length >= 3') s," \
    "plain TCP goes on $(first_sample a "$1" '$again == 0') s"
  for name in "${upgraded[@]}"; do
    awk -v s="$name" -v p="$patience" 'BEGIN { exit !(s != "never" && s <= 5 * p) }' || fail "upgraded later than 5 s after the resume (of a machine to itself: here $((5 * patience)))"
  done
}
# What all sides know, for the log of a failure.
look_around() {
  local name
  for name in dom0 a b; do
    echo "--- $name"
    in_domain "$name" 'tail -n 30 /tmp/xenloopd.log; xenloopd --peers; xenloop stat; ip neigh; dmesg | tail -n 5' 2>&1 || true
  done
  dom0 'xenstore-ls -f /local/domain | grep -E "xenloop|/domid"' || true
}
