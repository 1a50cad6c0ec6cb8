#!/usr/bin/env bash
# memcached with four threads: files in and out by checksum, its protocol test suite (ASCII and
# binary), concurrent load; what the server counted is compared too.
. "$(dirname "$0")/lib.sh"
need memcached memccp memccat memccapable memcslap

scenario() {
  pick_port port
  local servers=--servers=127.0.0.1:$port name size
  start memcached memcached -t 4 -p "$port" -U 0 -l 127.0.0.1 -m 256 -I 8m -u root
  listening "$port"
  mkdir -p "$work/files"
  for size in 1 100 4095 65536 700000 4000000; do numbers "$size" >"$work/files/f$size"; done
  run memccp "$servers" "$work"/files/*
  for name in f1 f100 f4095 f65536 f700000 f4000000; do
    run memccat "$servers" "$name" >"$work/answer"  # which adds a newline
    head -c "${name#f}" "$work/answer" | sha256sum
  done
  # One connection, many operations: pipelined sets and gets, read back in order.
  { seq 1 5000 | awk '{ v = $1 * 7919 ""; printf "set k%d 0 0 %d\r\n%s\r\n", $1, length(v), v }'
    seq 1 5000 | awk '{ printf "get k%d\r\n", $1 }'
    printf 'incr k5 1\r\nappend k6 0 0 3\r\nabc\r\nget k6\r\nquit\r\n'; } >"$work/session"
  run bash -c "exec 9<>/dev/tcp/127.0.0.1/$port; cat '$work/session' >&9 & cat <&9; wait" |
    sha256sum
  run memccapable -h 127.0.0.1 -p "$port" -a 2>&1 || echo "memccapable: exit $?"
  run memccapable -h 127.0.0.1 -p "$port" -b 2>&1 || echo "memccapable: exit $?"
  local test
  for test in set get mget; do
    run memcslap "$servers" --concurrency=8 --execute-number=2000 --test=$test \
      >"$work/$mode.slap.log" 2>&1
    absent 'error|fail' "$work/$mode.slap.log"
  done
  stop memcached
}

both scenario
expect_fifo memcached memcslap
