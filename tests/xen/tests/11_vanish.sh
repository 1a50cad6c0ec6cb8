# A guest vanishes from the others' tables when it is destroyed, with no word of its own.
source lib/discovery.sh
daemons a b
meet a b; meet b dom0
b=$(domid b)
knows a "$(address b)" "$b"
guest a "setsid peer_probe $(address b) none 30 >/tmp/gone 2>&1 </dev/null &"
read -r before after <<<"$(dom0 'peer_probe :: none 1; xl destroy b; peer_probe :: none 1' | tr '\n' ' ')"
knows_not a "$(address b)"
knows_not a "$(address6 b)" 1
knows_not dom0 "$(address b)" 5
gone=$(guest a 'cat /tmp/gone')
note "xl destroy took $(difference "$before" "$after") s; b was gone from a's table $(difference "$before" "$gone") s after its beginning"
awk -v s="$(difference "$after" "$gone")" 'BEGIN { exit !(s < 2) }' || fail "more than 2 s after the end of xl destroy"
[[ $(dom0 "xenstore-exists /local/domain/$b && echo there || echo gone") == gone ]] || fail "keys were left behind"
create b || fail "b did not come up again"
daemon b
meet a b
knows a "$(address b)" "$(domid b)"
[[ $(domid b) != "$b" ]]
