#!/usr/bin/env bash
# redis-server with redis-cli and redis-benchmark: commands, megabyte values, mass insertion,
# pub/sub, pipelining, 20 clients at once, a replica, IPv4 and IPv6. Data sets are compared by
# redis's own digest.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark

debug=(--enable-debug-command yes)
[[ $(redis-server --version) =~ v=([0-9]+) && ${BASH_REMATCH[1]} -ge 7 ]] || debug=()  # always allowed there

cli() { run redis-cli -p "$port" "$@"; }
digest() { cli debug digest; }

commands() {
  local i
  for ((i = 0; i < 300; i++)); do
    echo "set key:$i value-$((i * i))"; echo "incrby counter $i"; echo "rpush list $i"
    echo "hset hash field:$i $i"; echo "zadd board $i member:$i"; echo "get key:$((i / 2))"
  done
  printf '%s\n' 'lrange list 0 -1' 'hgetall hash' 'zrange board 0 -1 withscores' 'no such command'
}

pubsub() {
  local i subscriber
  run redis-cli -p "$port" subscribe news >"$work/$mode.subscriber" {out}>&- & subscriber=$!
  eventually bash -c "redis-cli -p $port pubsub numsub news | grep -qx 1"
  for ((i = 0; i < 500; i++)); do echo "publish news message-$i"; done | cli >/dev/null
  eventually grep -qx message-499 "$work/$mode.subscriber"
  kill "$subscriber"
  wait "$subscriber" || true
  sha256sum <"$work/$mode.subscriber"
}

benchmark() { run redis-benchmark -p "$port" -q "$@" >>"$work/$mode.benchmark.log" 2>&1; }

scenario() {
  rm -f "$work"/*.rdb   # what redis 6 has written for its replica, the next server would load
  pick_port port
  start redis redis-server --port "$port" --bind 127.0.0.1 ::1 --save '' --dir "$work" \
    "${debug[@]}" --repl-diskless-sync-delay 0
  listening "$port"
  commands | cli
  digest
  numbers 3000000 | cli -x set big
  cli get big | sha256sum
  run redis-cli -h ::1 -p "$port" get big | sha256sum
  seq 1 20000 | sed 's/.*/SET mass:& value-&/' | cli --pipe | grep replies
  digest
  pubsub
  benchmark -c 20 -n 20000 -t get,set,incr,lpush,lrange_100,mset
  cli get counter:__rand_int__
  benchmark -c 20 -n 100000 -P 16 -t get,incr
  benchmark -c 4 -n 2000 -d 100000 -t set,get
  cli strlen key:__rand_int__
  absent error "$work/$mode.benchmark.log"

  local replica_port
  pick_port replica_port
  start replica redis-server --port "$replica_port" --bind 127.0.0.1 --save '' --dir "$work" \
    --dbfilename replica.rdb "${debug[@]}" --replicaof 127.0.0.1 "$port"
  eventually bash -c "redis-cli -p $replica_port info replication | grep -q master_link_status:up"
  commands | cli >/dev/null
  cli wait 1 5000
  [[ $(digest) == $(run redis-cli -p "$replica_port" debug digest) ]] && echo "replica equal"
  stop replica
  stop redis
}

both scenario
expect_fifo redis-server redis-cli redis-benchmark
