# A guest is destroyed in mid-stream: what the other got until then is right, its programs end as
# they would with TCP, and the guest is well.
# limit: 400
source lib/programs.sh
ready_for_programs
limit=100
for victim in sender receiver; do
  [[ $victim == sender ]] && { from=b to=a; } || { from=a to=b; }
  serve $to receiver "timeout $((60 * patience)) stream-check receive 0.0.0.0:7301 7"
  listening $to 7301
  serve $from sender "timeout $((60 * patience)) stream-check send $(address $to):7301 7 0"
  sleep 4
  busy=""
  dom0 'xl destroy b'
  knows_not a "$(address b)" 10
  if [[ $victim == sender ]]; then
    # No end and no error comes from a machine that is gone: with TCP too it would wait. It must not
    # have got a wrong byte (status 1), nor spin.
    sleep 3
    [[ $(guest a 'cat /tmp/receiver.status 2>/dev/null') != 1 ]] || fail "wrong bytes: $(guest a 'cat /tmp/receiver.log')"
  else
    sleep 3
    [[ $(guest a 'cat /tmp/sender.status 2>/dev/null') != 1 ]] || fail "the sender: $(guest a 'cat /tmp/sender.log')"
  fi
  pid=$(pid_of a stream-check)
  [[ ! $pid ]] || busy=$(guest a "set -- \$(cat /proc/$pid/stat); t=\$((\${14} + \${15})); sleep 2
    set -- \$(cat /proc/$pid/stat); echo \$((\${14} + \${15} - t))" 2>/dev/null) || busy=""   # it has ended meanwhile
  note "after the $victim's end the other used ${busy:-no} ticks in 2 s"
  ((${busy:-0} < 100)) || fail "it spins"
  guest a 'killall stream-check timeout 2>/dev/null; dmesg | grep -E "BUG:|kernel BUG|Oops|Call Trace" && exit 1 || exit 0' || fail "the guest's kernel complains"
  create b || fail "b did not come up: $(limit=20 dom0 'xl list; tail -n 3 /var/log/xen/*' 2>&1)"
  ready_for_programs
done
# After all that, streams between the guests go through pages again.
serve b receiver "stream-check receive 0.0.0.0:7302 42"
listening b 7302
guest a "$with_library stream-check send $(address b):7302 42 20000000" || fail "the sender ended with $?"
ended b receiver
guest a ': >/tmp/ignored'
expect_fifo 'after two destroyed guests'
