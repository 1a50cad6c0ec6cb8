# A guest is saved and restored by somebody who tells nobody: no wrong byte, the guest's kernel lives, what
# cannot go on is reset, what can goes on, and new connections go by pages again.
# limit: 420
source lib/moving.sh
[[ $guest_type == pvh ]] || skip "a PV guest's process dies of the first touch of a page that is gone (README, Migration)"
ready_for_programs
limit=120
serve b server 'exec moving_load serve 7411'
serve b taker 'stream-check receive 0.0.0.0:7413 7'
serve a taker 'stream-check receive 0.0.0.0:7414 8'
listening b 7411; listening b 7413; listening a 7414
serve a client "moving_load client $(address b) 7411"
serve a giver "stream-check send $(address b):7413 7 0"
serve b giver "stream-check send $(address a):7414 8 0"
eventually 60 at_least 9 a
dom0 'mkdir -p /saved && mount -t tmpfs -o size=450m none /saved'
dom0 'xl save b /saved/b.image' >"$run/logs/save.out" 2>&1 || fail "save: $(tail -n 3 "$run/logs/save.out")"
dom0 'xl restore /saved/b.image; status=$?; umount /saved; exit $status' >"$run/logs/restore.out" 2>&1 ||
  fail "restore: $(tail -n 3 "$run/logs/restore.out")"
eventually 60 guest b 'grep -q "suspended without notice" /tmp/xenloopd.log'
knows a "$(address b)" "$(domid b)" 30
sleep 10
look_around
kernel_well a; kernel_well b
# Bytes only ever went from a to b: where b stands is in a's own memory, and the stream goes on.
for log in a:giver b:taker; do
  [[ -z $(guest "${log%:*}" "cat /tmp/${log#*:}.status 2>/dev/null; true") ]] ||
    fail "a's stream has ended: $(guest "${log%:*}" "tail -n 3 /tmp/${log#*:}.log")"
done
# Of what b was sending, nobody knows how much has been taken: reset, at both ends.
for log in b:giver a:taker a:client; do
  eventually 30 guest "${log%:*}" "test -s /tmp/${log#*:}.status"
  status=$(guest "${log%:*}" "cat /tmp/${log#*:}.status")
  note "${log#*:} in ${log%:*}: $status, $(guest "${log%:*}" "tail -n 1 /tmp/${log#*:}.log")"
  guest "${log%:*}" "grep -qi wrong /tmp/${log#*:}.log" && fail "wrong bytes"
done
guest b 'xenloop stat --json' >"$run/logs/stat.out"
guest b 'grep -c "suspended without notice" /tmp/stats.json' || fail "not counted: $(guest b 'cat /tmp/stats.json')"
guest a 'killall stream-check'; guest b 'killall moving_load stream-check; sleep 1'
kernel_well b
# New programs, new connections.
serve b receiver "stream-check receive 0.0.0.0:7302 42"
listening b 7302
b=$(domid b)
guest a "$with_library stream-check send $(address b):7302 42 20000000" || fail "the sender ended with $?"
ended b receiver
expect_fifo 'after a suspension without notice'
kernel_well b
