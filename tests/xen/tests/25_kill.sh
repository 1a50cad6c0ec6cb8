# kill -9 at either end in mid-stream: the other end sees a prefix of what was sent and an end or a
# reset, as with TCP; nothing of the dead process stays behind in the daemons.
# limit: 240
source lib/programs.sh
ready_for_programs
limit=100
# route NAME: a stream of that guest goes through pages.
route() { eventually 60 guest "$1" 'xenloop stat | grep -q " xen"'; }
open_events() {
  guest "$1" "ls -l /proc/$(pid_of "$1" xenloopd)/fd | grep -c /dev/xen/evtchn"
}
port=7500
for victim in receiver sender; do
  port=$((port + 1))
  before="$(open_events a) $(open_events b)"
  serve b receiver "stream-check receive 0.0.0.0:$port 11"
  listening b $port
  serve a sender "stream-check send $(address b):$port 11 50000000000"
  route a
  if [[ $victim == receiver ]]; then
    guest b 'killall -9 stream-check'
    # 3: the peer is gone, and every byte before that was right.
    ended a sender 3
  else
    guest a 'killall -9 stream-check'
    eventually 30 guest b 'test -s /tmp/receiver.status'
    [[ $(guest b 'cat /tmp/receiver.status') != 1 ]] || fail "wrong bytes: $(guest b 'cat /tmp/receiver.log')"
  fi
  same_events() { [[ "$(open_events a) $(open_events b)" == "$before" ]]; }
  eventually 10 same_events
  note "$victim killed: $(guest b 'cat /tmp/receiver.log' | head -n 1)"
done
guest a 'dmesg | grep -E "BUG:|Oops" && exit 1 || exit 0' || fail "the guest's kernel complains"
