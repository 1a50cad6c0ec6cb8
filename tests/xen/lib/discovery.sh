# For the tests of discovery: daemons and what they know.

# daemon NAME [OPTION...]: (re)starts xenloopd in the domain.
daemon() {
  local name=$1
  shift
  in_domain "$name" "killall xenloopd 2>/dev/null; sleep 0.2
    setsid xenloopd $* >>/tmp/xenloopd.log 2>&1 </dev/null &"
}
daemons() {
  needs dom0 xenloopd
  daemon dom0 --dom0
  local name
  for name; do daemon "$name"; done
}
peers() { in_domain "$1" 'xenloopd --peers'; }
# knows NAME ADDRESS DOMID, knows_not NAME ADDRESS: what stands in the table of peers. One call that
# waits there, at most $3 or $4 seconds (10): asking from outside costs a tenth of a second each time.
knows() {
  in_domain "$1" "i=0; until xenloopd --peers 2>/dev/null | grep -q '^$2 $3 '; do
    i=\$((i + 1)); [ \$i -lt ${4:-10}0 ] || exit 1; usleep 100000; done" ||
    fail "$1 does not know that $2 is domain $3: $(peers "$1"); log: $(in_domain "$1" 'tail -n 5 /tmp/xenloopd.log')"
}
knows_not() {
  in_domain "$1" "i=0; while xenloopd --peers 2>/dev/null | grep -q '^$2 '; do
    i=\$((i + 1)); [ \$i -lt ${3:-10}0 ] || exit 1; usleep 100000; done" ||
    fail "$1 still knows $2: $(peers "$1"); log: $(in_domain "$1" 'tail -n 5 /tmp/xenloopd.log')"
}
# meet NAME OTHER: fills both neighbour tables.
meet() { in_domain "$1" "ping -c 1 -W 3 $(address "$2") >/dev/null && ping -c 1 -W 3 $(address6 "$2") >/dev/null"; }
