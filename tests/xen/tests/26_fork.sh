# fork and exec with a connection between guests: the child of a PV guest cannot reach what its
# parent has mapped, so the connection goes back to TCP first; no message is lost or wrong.
# limit: 240
source lib/programs.sh
needs a stream_fork
ready_for_programs
limit=100
port=7600
for how in fork exec; do
  for pair in 'a b' 'b a'; do
    read -r from to <<<"$pair"
    port=$((port + 1))
    serve "$to" server "XENLOOP_UPGRADE_AFTER=2 stream_fork serve $port"
    listening "$to" $port
    guest "$from" "$with_library XENLOOP_UPGRADE_AFTER=2 stream_fork $how $(address "$to") $port" ||
      fail "$how in $from: ended with $?"
    ended "$to" server
    # What a program has counted ends with its exec; the other end has it all.
    bytes=$(fifo_bytes "$to")
    ((bytes > counted[$to])) || fail "$how in $from: no FIFO byte in $to"
    note "$how in $from: FIFO bytes $((bytes - counted[$to]))"
    for name in a b; do counted[$name]=$(fifo_bytes $name); done
  done
done
[[ $(guest a 'cat /tmp/stats.json') == *'fork: a child cannot reach'* ]] || fail "no fallback at fork: $(guest a 'cat /tmp/stats.json')"
for name in a b; do
  guest $name 'dmesg | grep -E "BUG:|Oops|segfault" && exit 1 || exit 0' || fail "$name: $(guest $name 'dmesg | tail -n 3')"
done
