# For the tests of programs between guests: the library preloaded at both ends, and what it counted.
# XENLOOP_STATS has one JSON object for each process that has ended.
source lib/discovery.sh

with_library='LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libxenloop.so XENLOOP_STATS=/tmp/stats.json'

declare -A counted=([a]=0 [b]=0)

# Daemons up, the guests acquainted, no old counts. Skips without a library that knows Xen.
ready_for_programs() {
  local name
  needs a stream-check
  guest a 'grep -q /dev/xen/gntalloc /usr/lib/x86_64-linux-gnu/libxenloop.so' || skip "this libxenloop.so has no Xen transport"
  daemons a b
  meet a b
  a=$(domid a) b=$(domid b) counted=([a]=0 [b]=0)
  for name in a b; do guest "$name" 'rm -f /tmp/stats.json; : >/tmp/stats.json; chmod 666 /tmp/stats.json'; done
  knows a "$(address b)" "$b"; knows a "$(address6 b)" "$b"
  knows b "$(address a)" "$a"; knows b "$(address6 a)" "$a"
}

# serve NAME LOG COMMAND: in the background, under the library, in its own session.
serve() { guest "$1" "rm -f /tmp/$2.*; setsid env $with_library sh -c '$3; echo \$? >/tmp/$2.status' >/tmp/$2.log 2>&1 </dev/null &"; }
# listening NAME PORT
listening() { eventually 15 guest "$1" "netstat -ltn | grep -q ':$2 '"; }
# ended NAME LOG [STATUS]: a served command has ended, with that status (0).
ended() {
  eventually "${4:-30}" guest "$1" "test -s /tmp/$2.status"
  local status
  status=$(guest "$1" "cat /tmp/$2.status")
  [[ $status == "${3:-0}" ]] || fail "$2 in $1 ended with $status: $(guest "$1" "tail -n 5 /tmp/$2.log")"
}
# fifo_bytes NAME: sent and received through FIFOs, over all processes of the guest that have ended.
fifo_bytes() {
  guest "$1" 'cat /tmp/stats.json' |
    jq -rs '[.[] | .fifo_sent + .fifo_received] | add // 0'
}
# tcp_bytes NAME: the same by TCP; what went before the upgrade, and what stayed there.
tcp_bytes() { guest "$1" 'cat /tmp/stats.json' | jq -rs '[.[] | .tcp_sent + .tcp_received] | add // 0'; }
# expect_fifo WHAT: since the last call, bytes went through FIFOs at both ends.
expect_fifo() {
  local name bytes more=()
  for name in a b; do
    bytes=$(fifo_bytes "$name")
    ((bytes > counted[$name])) ||
      fail "$1: no FIFO byte in $name: a: $(guest a 'tail -n 2 /tmp/stats.json') b: $(guest b 'tail -n 3 /tmp/stats.json')"
    more+=("$name $((bytes - counted[$name]))")
    counted[$name]=$bytes
  done
  note "$1: FIFO bytes ${more[*]} (by TCP so far: a $(tcp_bytes a))"
}
