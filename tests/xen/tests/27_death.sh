# kill -9 where nothing but the kernel's own word can tell: daemons stopped, network cut. The granted
# page that says "alive" is cleared and the event channel rings, so the survivor's agent knows at once.
# limit: 200
source lib/programs.sh
ready_for_programs
limit=60
# The cards of both: else the emulator's own network would answer for the one that is cut off.
cards() { dom0 "for id in $a $b; do ip link set vif\$id.0 $1; done"; }
port=7700
for victim in receiver sender; do
  port=$((port + 1))
  [[ $victim == receiver ]] && { gone=b survivor=a; } || { gone=a survivor=b; }
  serve b receiver "stream-check receive 0.0.0.0:$port 11"
  listening b $port
  serve a sender "stream-check send $(address b):$port 11 50000000000"
  eventually 60 guest $survivor 'xenloop stat | grep -q xen'
  for name in a b; do guest $name 'killall -STOP xenloopd; rm -f /tmp/killed /tmp/known'; done
  # Only when the network is cut, which XenStore tells: else a reset may come by TCP.
  guest $gone 'setsid sh -c "until xenstore-read data/cut; do usleep 100000; done
    date +%s >/tmp/killed; killall -9 stream-check" </dev/null >/dev/null 2>&1 &'
  guest $survivor 'setsid sh -c "i=0; until xenloop stat | grep -q peer.s.agent.has.gone || [ \$i -gt 100 ]
    do usleep 100000; i=\$((i + 1)); done; xenloop stat >/tmp/known; date +%s >>/tmp/known" </dev/null >/dev/null 2>&1 &'
  cards down
  dom0 "xenstore-write /local/domain/${!gone}/data/cut 1"
  sleep 12
  cards up
  dom0 "xenstore-rm /local/domain/${!gone}/data/cut"
  for name in a b; do eventually 10 answers $name; done
  eventually 30 guest $survivor "test -s /tmp/known"
  known=$(guest $survivor 'cat /tmp/known')
  [[ $known == *"agent has gone"* ]] || fail "$victim killed: not known in $survivor: $known"
  note "$victim killed: known within $(($(tail -n 1 <<<"$known") - $(guest $gone 'cat /tmp/killed') + 1)) s, without network and daemons"
  for name in a b; do guest $name 'killall -CONT xenloopd; sleep 1; killall -9 stream-check 2>/dev/null || :'; done
done
for name in a b; do
  guest $name 'dmesg | grep -E "BUG:|Oops" && exit 1 || exit 0' || fail "$name: $(guest $name 'dmesg | tail -n 3')"
done
