# A guest vanishes from the others' tables when it is destroyed, with no word of its own.
source lib/discovery.sh
daemons a b
meet a b; meet b dom0
b=$(domid b)
knows a "$(address b)" "$b"
at=$(now)
dom0 'xl destroy b'
note "xl destroy took $(since "$at") s"
knows_not a "$(address b)" 5
knows_not a "$(address6 b)" 1
knows_not dom0 "$(address b)" 2
note "b was gone from a's table $(since "$at") s after the command was given"
[[ $(dom0 "xenstore-exists /local/domain/$b && echo there || echo gone") == gone ]] || fail "keys were left behind"
create b || fail "b did not come up again"
daemon b
meet a b
knows a "$(address b)" "$(domid b)"
[[ $(domid b) != "$b" ]]
