# A guest moves live to another host and back, under load. Its streams to the peer left behind go on by TCP and
# return to pages with it; those to the peer that it finds there, which were TCP, go onto pages in mid-life.
# limit: 900
# hosts: 2
source lib/moving.sh
source lib/hosts.sh
[[ $guest_type == pvh ]] || skip "live migration needs log-dirty mode: this Xen has none for PV guests (tests/xen/run --type pvh)"
ready_for_programs
needs dom0 xenloop
limit=180
at=$(now)
second_host
guests_there c
note "the second host and its guest c came up in $(since "$at") s"
daemon dom0x --dom0; daemon c
meet c b
start_load
# The same load between c and b, which are on two hosts.
serve b far 'exec moving_load serve 7421'
listening b 7421
serve c client "moving_load client $(address b) 7421"
eventually 60 guest c 'xenloop stat | grep -q 7421'
off_pages c
note "b is domain $(domid b) on the first host"

migrate b dom0 dom0x
at=$(now)
back_on_pages c 90
off_pages a
load_runs
sleep 3
[[ $(on_pages a) == 0 ]] || fail "a shares memory with a guest of another host: $(guest a 'xenloop stat')"

migrate b dom0x dom0
back_on_pages a 90
off_pages c
load_runs

guest c 'kill -TERM $(pidof moving_load)'
ended c client 0 60
note "c: $(guest c 'tail -n 1 /tmp/client.log')"
kernel_well c
end_load
