# A guest moves live, to its own host: before and after, streams go by pages; during the move, by TCP.
# limit: 420
source lib/moving.sh
[[ $guest_type == pvh ]] || skip "live migration needs log-dirty mode: this Xen has none for PV guests (tests/xen/run --type pvh)"
ready_for_programs
needs dom0 xenloop
limit=180
start_load
before=$(domid b)
# Two copies of b are there for a moment.
at=$(now)
dom0 "(xenloop migrate -s '' b 'xl migrate-receive'; echo \$? >/tmp/migrate.status) >/tmp/migrate.log 2>&1 &"
eventually 30 dom0 'grep -q ready /tmp/migrate.log'
off_pages a
eventually 150 dom0 'test -s /tmp/migrate.status'
[[ $(dom0 'cat /tmp/migrate.status') == 0 ]] || fail "migrate: $(dom0 'tail -n 5 /tmp/migrate.log')"
[[ $(domid b) != "$before" ]] || fail "b has not moved"
note "moved in $(since "$at") s"
back_on_pages a 60
end_load
