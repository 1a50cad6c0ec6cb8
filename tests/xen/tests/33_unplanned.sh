# A guest is saved and restored by somebody who tells nobody: no wrong byte, the guest's kernel lives, every
# stream goes on where its reader stands, and new connections go by pages again. Once more where the daemons cannot ask each
# other: what cannot go on is reset.
# limit: 600
source lib/moving.sh
[[ $guest_type == pvh ]] || skip "a PV guest's process dies of the first touch of a page that is gone (README, Migration)"
ready_for_programs
limit=120
dom0 'mkdir -p /saved && mount -t tmpfs -o size=450m none /saved'
begin() {
  serve b server 'exec moving_load serve 7411'
  serve b taker 'stream-check receive 0.0.0.0:7413 7'
  serve a taker 'stream-check receive 0.0.0.0:7414 8'
  listening b 7411; listening b 7413; listening a 7414
  serve a client "moving_load client $(address b) 7411"
  serve a giver "stream-check send $(address b):7413 7 0"
  serve b giver "stream-check send $(address a):7414 8 0"
  eventually 60 at_least 9 a
}
# vanish: b is saved and restored by xl alone.
vanish() {
  local before
  before=$(guest b 'grep -c "suspended without notice" /tmp/xenloopd.log; true')
  dom0 'xl save b /saved/b.image' >"$run/logs/save.out" 2>&1 || fail "save: $(tail -n 3 "$run/logs/save.out")"
  dom0 'xl restore /saved/b.image; status=$?; rm /saved/b.image; exit $status' >"$run/logs/restore.out" 2>&1 ||
    fail "restore: $(tail -n 3 "$run/logs/restore.out")"
  eventually 60 guest b "test \$(grep -c 'suspended without notice' /tmp/xenloopd.log) -gt $before"
  knows a "$(address b)" "$(domid b)" 30
  sleep "$1"
  look_around
  kernel_well a; kernel_well b
}
# goes_on GUEST:LOG...
goes_on() {
  local log
  for log in "$@"; do
    [[ -z $(guest "${log%:*}" "cat /tmp/${log#*:}.status 2>/dev/null; true") ]] ||
      fail "${log#*:} in ${log%:*} has ended: $(guest "${log%:*}" "tail -n 3 /tmp/${log#*:}.log")"
  done
}
resets() { guest b 'grep -c "reset fd" /tmp/*.log | awk -F: "{ n += \$2 } END { print n }"'; }

begin
vanish 12
# b asks where its readers stand; bytes that only ever went from a to b need no question.
goes_on b:server b:taker b:giver a:taker a:client a:giver
# Three that echo, in both directions, and the two of one direction each; idle and half-closed ones stay on TCP.
eventually 60 at_least 8 a
guest a 'kill -TERM $(pidof moving_load)'
ended a client 0 60
guest a 'killall stream-check'
ended b taker
note "after a suspension without notice all streams have gone on, by pages again: $(guest a 'tail -n 1 /tmp/client.log')"
guest b 'killall moving_load stream-check; sleep 1'
kernel_well a; kernel_well b

# The daemon of a takes no questions: what b had written and a had perhaps not read cannot be settled.
daemon a --position_port=0
knows a "$(address b)" "$(domid b)" 30
begin
vanish 42
for log in a:giver b:taker; do goes_on "$log"; done
for log in b:giver a:taker a:client; do
  eventually 30 guest "${log%:*}" "test -s /tmp/${log#*:}.status"
  status=$(guest "${log%:*}" "cat /tmp/${log#*:}.status")
  note "not to be asked: ${log#*:} in ${log%:*}: $status, $(guest "${log%:*}" "tail -n 1 /tmp/${log#*:}.log")"
  guest "${log%:*}" "grep -qi wrong /tmp/${log#*:}.log" && fail "wrong bytes"
done
guest b 'grep -c "suspended without notice" /tmp/stats.json' || fail "not counted: $(guest b 'cat /tmp/stats.json')"
guest a 'killall stream-check'; guest b 'killall moving_load stream-check; sleep 1'
kernel_well b
dom0 'umount /saved'
# New programs, new connections.
serve b receiver "stream-check receive 0.0.0.0:7302 42"
listening b 7302
b=$(domid b)
guest a "$with_library stream-check send $(address b):7302 42 20000000" || fail "the sender ended with $?"
ended b receiver
expect_fifo 'after a suspension without notice'
kernel_well b
