# A guest is saved and restored under load: its streams go on, and return to pages by themselves.
# limit: 420
source lib/moving.sh
ready_for_programs
needs dom0 xenloop
limit=120
start_load
note "$(dom0 'xenloop quiesce b' | grep ready)"
off_pages a; off_pages b
load_runs
# Not on the shared folder, to which foreign pages cannot be written.
dom0 'mkdir -p /saved && mount -t tmpfs -o size=450m none /saved'
sample b  # goes on after the resume
at=$(now)
dom0 'xenloop save b /saved/b.image' >"$run/logs/save.out" 2>&1 || fail "save: $(tail -n 3 "$run/logs/save.out")"
note "saved in $(since "$at") s"
knows_not a "$(address b)"
off_pages a
bytes=$(stat a | jq '[.processes[].streams[] | .fifo_sent + .fifo_received] | add')
sample a
at=$(now)
# Left paused, so that the resume itself has a time.
dom0 'xenloop restore -p /saved/b.image; status=$?; umount /saved; exit $status' >"$run/logs/restore.out" 2>&1 ||
  fail "restore: $(tail -n 3 "$run/logs/restore.out")"
note "restored in $(since "$at") s"
at=$(now)
dom0 'xl unpause b' || fail "unpause"
back_on_pages a 60 "$at"
arrival "$at" "$bytes"
end_load
