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
# pid_of NAME PROGRAM: the living one; busybox's pidof also names those that nobody has waited for.
pid_of() { in_domain "$1" "ps | awk '\$3 == \"$2\" { print \$1; exit }'"; }
peers() { in_domain "$1" 'xenloopd --peers'; }
# knows NAME ADDRESS DOMID, knows_not NAME ADDRESS: what stands in the table of peers; waits there, at
# most $4 or $3 seconds (10). $when is then the domain's time of day at which it was so.
knows() {
  when=$(in_domain "$1" "peer_probe $2 $3 $((${4:-10} * patience))") ||
    fail "$1 does not know that $2 is domain $3: $(peers "$1"); log: $(in_domain "$1" 'tail -n 5 /tmp/xenloopd.log')"
}
knows_not() {
  when=$(in_domain "$1" "peer_probe $2 none $((${3:-10} * patience))") ||
    fail "$1 still knows $2: $(peers "$1"); log: $(in_domain "$1" 'tail -n 5 /tmp/xenloopd.log')"
}
# difference FROM TO: seconds between two times of day. All domains have the hypervisor's clock.
difference() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b - a }'; }
# meet NAME OTHER: fills both neighbour tables.
meet() { in_domain "$1" "ping -c 1 -W $((3 * patience)) $(address "$2") >/dev/null && ping -c 1 -W $((3 * patience)) $(address6 "$2") >/dev/null"; }
