# Daemons end, die and come again; the tables follow.
# limit: 300
source lib/discovery.sh
daemons a b
meet a b
b=$(domid b)
knows a "$(address b)" "$b"
generation() { guest a "xenloopd --peers | awk -v a=$(address b) '\$1 == a { print \$3 }'"; }
before=$(generation)

# A guest's daemon is killed and comes again: another generation, so nobody takes it for the old one.
guest b 'killall -9 xenloopd'
daemon b
for ((i = 0; i < 50; i++)); do [[ $(generation) != "$before" && $(generation) ]] && break; sleep 0.2; done
[[ $(generation) != "$before" ]] || fail "the generation is $before as before"

# It ends in order: gone.
guest b 'killall xenloopd'
knows_not a "$(address b)"
daemon b; meet a b
knows a "$(address b)" "$b"

# Dom0's daemon ends in order: nobody is coresident. It comes again: all as before.
dom0 'killall xenloopd'
knows_not a "$(address b)"
daemon dom0 --dom0
knows a "$(address b)" "$b"
# Dom0's daemon is killed; meanwhile b leaves; the next one finds out.
dom0 'killall -9 xenloopd'
guest b 'killall xenloopd'
knows a "$(address b)" "$b" 1
daemon dom0 --dom0
knows_not a "$(address b)"
daemon b; meet a b
knows a "$(address b)" "$b"

# xenstored is replaced by itself ("live update"): everybody goes on.
if dom0 'xenstore-control live-update -t 5 /usr/bin/xenstored' >"$run/logs/live-update.out" 2>&1; then
  guest b 'killall xenloopd'
  knows_not a "$(address b)"
  daemon b; meet a b
  knows a "$(address b)" "$b"
  note "live update of xenstored: everybody went on"
else
  note "no live update here: $(head -c 100 "$run/logs/live-update.out" | tr '\n' ' ')"
fi

# A full quota: b cannot say that it takes part, says why, and does when there is room again.
limit=100 guest b 'killall xenloopd; sleep 0.5; xenstore-rm data/xenloop 2>/dev/null; n=0
  # Fifty nodes by one program, then one by one: under emulation each program costs. In lots: a
  # directory with 500 children is as big as a node may be, and is refused for that.
  lot() { pairs=""; k=0; while [ $k -lt 50 ]; do pairs="$pairs data/fill/$1/$k x"; k=$((k + 1)); done
    xenstore-write $pairs 2>/dev/null; }
  while [ $n -lt 60 ] && lot $n; do n=$((n + 1)); done
  i=0
  while [ $i -lt 200 ] && xenstore-write data/fill/last/$i x 2>/dev/null; do i=$((i + 1)); done
  [ $n -lt 60 ] && [ $i -lt 200 ] && ! xenstore-write data/more x 2>/dev/null &&
    echo $((n * 50 + i)) nodes' >"$run/logs/quota.out" || fail "no quota found: $(cat "$run/logs/quota.out")"
note "quota: $(tail -n 1 "$run/logs/quota.out")"
guest b 'rm -f /tmp/xenloopd.log'
daemon b
eventually 15 guest b 'grep -q "no peers" /tmp/xenloopd.log'
note "b says: $(guest b 'grep "no peers" /tmp/xenloopd.log | tail -n 1')"
guest b 'xenstore-rm data/fill; xenstore-rm data/more 2>/dev/null; true'
meet a b
knows a "$(address b)" "$b"
