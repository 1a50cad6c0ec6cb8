# The root of guest b attacks programs and the daemon of guest a with all that Xen and the protocol let
# him reach: garbage in place of pages, references and ports, revoking, absurd indices, a doorbell that
# never stops, a daemon's link full of nonsense. Whatever he tries, a's programs do not crash, hang or
# spin, what can go on goes on by TCP, the bytes of others stay right, and a's kernel is well.
# limit: 400
source lib/programs.sh
needs b hostile_probe
ready_for_programs
limit=60
here=$(address a)
port=7800
daemon=$(pid_of a xenloopd)
# ended_by_itself NAME LOG: any end but a signal's, within a time.
ended_by_itself() {
  eventually 30 guest "$1" "test -s /tmp/$2.status"
  local status
  status=$(guest "$1" "cat /tmp/$2.status")
  ((status < 126)) || fail "$2 in $1 died of a signal: $status: $(guest "$1" "tail -n 3 /tmp/$2.log")"
  echo "$status"
}
# its NAME PORT: the process of a stream-check of that port.
its() { guest "$1" "ps | awk '\$3 == \"stream-check\" && /:$2 / { print \$1 }'"; }
# ticks PID: of a second's hundred, what it uses in a.
ticks() {
  guest a "set -- \$(cat /proc/$1/stat); t=\$((\${14} + \${15})); sleep 1; set -- \$(cat /proc/$1/stat); echo \$((\${14} + \${15} - t))"
}
# quiet PID: idle again, or soon.
quiet() { (($(ticks "$1") < 20)); }
healthy() {
  [[ $(pid_of a xenloopd) == "$daemon" ]] || fail "$1: a's daemon has died: $(guest a 'tail -n 5 /tmp/xenloopd.log')"
  guest a 'dmesg | grep -E "BUG:|Oops|segfault|Call Trace" && exit 1 || exit 0' || fail "$1: a's kernel: $(guest a 'dmesg | tail -n 5')"
  [[ $(guest a 'cat /tmp/bystander.status 2>/dev/null; true') == "" ]] ||
    fail "$1: the bystander ended: $(guest a 'cat /tmp/bystander.status; tail -n 3 /tmp/bystander.log')"
}

# A bystander: another stream between the same guests, of other processes, for as long as this lasts.
serve a bystander "stream-check receive 0.0.0.0:$port 11"
listening a $port
serve b honest "stream-check send $here:$port 11 0"
eventually 30 guest a 'xenloop stat | grep -q "[ /]xen"'

# What must be refused; the connection goes on by TCP, and its program sees nothing of it.
for attack in hello-page hello-port hello-noise offer-reference offer-references offer-noise offer-magic \
    offer-identity offer-capacity offer-odd offer-pages offer-few packets ring; do
  port=$((port + 1))
  serve a victim "XENLOOP_UPGRADE_AFTER=2 stream_fork serve $port"
  listening a $port
  said=$(guest b "hostile_probe talk $here $port $attack 2>&1") || fail "$attack: $said"
  [[ $attack != ring ]] || note "doorbell flooded: $(head -n 1 <<<"$said")"
  ended a victim
  healthy "$attack"
done
note 'refused, and on by TCP: garbage for pages, references, ports, sizes, identity; noise for packets'

# What a lawful peer may break: its own connection, and no more than that.
for attack in indices revoke; do
  port=$((port + 1))
  serve a victim "XENLOOP_UPGRADE_AFTER=2 stream_fork serve $port"
  listening a $port
  said=$(guest b "hostile_probe talk $here $port $attack 2>&1") || fail "$attack: $said"
  note "$attack: the victim ended with $(ended_by_itself a victim)"
  healthy "$attack"
done

# Streams at full speed, in either direction, whose other end's memory is filled with nonsense.
for victim in receive send receive send; do
  port=$((port + 1))
  if [[ $victim == receive ]]; then
    serve a victim "stream-check receive 0.0.0.0:$port 42"
    listening a $port
    serve b scribbled "stream-check send $here:$port 42 0"
  else
    serve b scribbled "stream-check receive 0.0.0.0:$port 42"
    listening b $port
    serve a victim "stream-check send $(address b):$port 42 0"
  fi
  eventually 30 guest a "xenloop stat | grep ':$port ' | grep -q xen"
  pid=$(its b $port)
  said=$(guest b "hostile_probe scribble $pid 3 $port 2>&1") || fail "scribbling: $said"
  why=$(guest a "xenloop stat | grep ':$port '" | tr -s ' ' | cut -d ' ' -f 7-) || why='ended'
  guest b "kill -9 $pid 2>/dev/null; true"
  note "victim's $victim, $said: ended with $(ended_by_itself a victim); was '$why'"
  healthy "scribbling, $victim"
done

# The daemon's link: b's daemon says nothing but nonsense. Others' streams go back to TCP at the worst.
said=$(guest b "hostile_probe scribble $(pid_of b xenloopd) 5 1 2>&1") || fail "the daemon: $said"
note "a's daemon after $said of b's: $(guest a 'grep -c "broke down\|nonsense\|has gone" /tmp/xenloopd.log') links begun anew, $(guest a "grep VmRSS /proc/$daemon/status" | tr -s ' \t' ' ')"
healthy 'the link'
daemon b
eventually 20 quiet "$daemon"

guest b "kill $(its b 7800) 2>/dev/null; true"
status=$(ended_by_itself a bystander)
[[ $status == 0 || $status == 3 ]] || fail "the bystander got wrong bytes: $status: $(guest a 'tail -n 3 /tmp/bystander.log')"
note "bystander: $(guest a 'tail -n 1 /tmp/bystander.log'), all right"

# After all that, two honest programs meet again.
knows a "$(address b)" "$b"; knows b "$here" "$a"
for name in a b; do guest $name ': >/tmp/stats.json'; counted[$name]=0; done
serve a receiver "stream-check receive 0.0.0.0:7899 42"
listening a 7899
guest b "$with_library stream-check send $here:7899 42 20000000" || fail "the sender ended with $?"
ended a receiver
expect_fifo 'afterwards'
