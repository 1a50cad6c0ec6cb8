#!/usr/bin/env bash
# Another malloc preloaded together with the library, before it and after it: jemalloc starts
# threads and reads files from its constructor, tcmalloc replaces malloc before ours has run, and
# both call into us while the program is still being put together. Results are the native ones.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark
[[ -n $python ]] || skip "python3 is not installed"

# Debian: libjemalloc2, libtcmalloc-minimal4.
mallocs=()
for name in libjemalloc.so.2 libtcmalloc_minimal.so.4; do
  path=$(/sbin/ldconfig -p | awk -v n="$name" '$1 == n && !path { path = $NF } END { print path }')
  [[ -n $path ]] || skip "$name is not installed"
  mallocs+=("$path")
done

# bears MALLOC: whether redis itself bears it, without us. Debian 13's redis 8.0 dies of tcmalloc at its start.
bears() {
  local port status=0
  pick_port port
  LD_PRELOAD=$1 timeout 3 redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >"$work/bears.log" 2>&1 || status=$?
  ((status == 124)) || { echo "redis-server dies with ${1##*/} natively ($status): python3 alone with it"; return 1; }
}

redis_scenario() {
  pick_port port
  start redis redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$work"
  listening "$port"
  grep -o "${malloc##*/}" "/proc/${server[redis]}/maps" | sort -u
  numbers 3000000 | run redis-cli -p "$port" -x set big
  run redis-cli -p "$port" get big | sha256sum
  run redis-benchmark -p "$port" -q -c 8 -n 10000 -t set,incr,lrange_100 >>"$work/$mode.benchmark.log" 2>&1
  run redis-cli -p "$port" get counter:__rand_int__
  absent error "$work/$mode.benchmark.log"
  stop redis
}

preload=
scenario() {
  local how=()
  [[ -z $preload || $mode == native ]] || how=(env "LD_PRELOAD=$preload" "XENLOOP_STATS=$stats")
  [[ -z $malloc || $mode != native ]] || how=(env "LD_PRELOAD=$malloc")
  server_prefix=("${how[@]}") client_prefix=("${how[@]}")
  [[ $programs != *redis* ]] || redis_scenario
  run "$python" "$source_dir/tests/e2e/echo.py" 2000 --pauses 2>&1  # an upgrade needs a moment without a thread in the kernel
}

for malloc in "${mallocs[@]}"; do
  way=both programs="redis-server python3"
  bears "$malloc" || programs=python3
  for preload in "$library:$malloc" "$malloc:$library"; do
    $way scenario
    way=again
    expect_fifo $programs
  done
done
