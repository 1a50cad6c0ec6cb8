# The transport's contract on real grants and event channels, against Xen's own libraries at the
# other end: order, room, waking, what may be written.
# limit: 200
needs a pair_probe
for roles in 'ours library a b' 'library ours a b' 'ours library b a' 'library ours b a'; do
  read -r producer consumer from to <<<"$roles"
  guest "$from" "rm -f /tmp/pair.*; setsid sh -c 'pair_probe $producer-produce $(domid "$to") >/tmp/pair.ticket 2>/tmp/pair.log; echo \$? >/tmp/pair.status' >/dev/null 2>&1 </dev/null &
    for i in \$(seq $((100 * patience))); do [ -s /tmp/pair.ticket ] && break; usleep 50000; done"
  ticket=$(guest "$from" 'cat /tmp/pair.ticket')
  [[ $ticket ]] || fail "no ticket: $(guest "$from" 'cat /tmp/pair.log')"
  at=$(now)
  note "$producer in $from, $consumer in $to: $(limit=60 guest "$to" "pair_probe $consumer-consume $(domid "$from") $ticket 2>/dev/null") in $(since "$at") s"
  eventually 10 guest "$from" 'test -s /tmp/pair.status'
  [[ $(guest "$from" 'cat /tmp/pair.status') == 0 ]] || fail "the producer: $(guest "$from" 'cat /tmp/pair.log')"
done
