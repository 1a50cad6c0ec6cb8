#!/usr/bin/env bash
# Two network namespaces joined by veth, as containers are. In one realm (a shared runtime
# directory) they talk through FIFOs, also from PID namespaces of their own; without a realm never.
# The same addresses and ports in both namespaces at the same time are never mixed up.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark ip unshare
need_root

a=xenloop-$$-a b=xenloop-$$-b
for ns in $a $b; do
  ip netns add $ns || skip "no permission for network namespaces"
  cleanups+=("ip netns del $ns")
  ip -n $ns link set lo up
done
ip -n $a link add veth0 type veth peer name veth0 netns $b
ip -n $a addr add 10.77.0.1/24 dev veth0
ip -n $b addr add 10.77.0.2/24 dev veth0
ip -n $a link set veth0 up
ip -n $b link set veth0 up
in_a=(ip netns exec $a) in_b=(ip netns exec $b)
open=(--bind 10.77.0.1 --protected-mode no --save '')
mkdir -m 700 "$work/realm"

session() {
  for ((i = 0; i < 500; i++)); do echo "set k$i $1-$i"; echo "get k$((i / 2))"; done
  echo dbsize
}
benchmark() {
  run "$@" redis-benchmark -h 10.77.0.1 -q -c 8 -n 20000 -t incr >"$work/$mode.benchmark.log"
}

across() {
  start redis "${in_a[@]}" redis-server --port 6379 "${open[@]}" --dir "$work"
  listening 6379 "${in_a[@]}"
  session across | run "${in_b[@]}" redis-cli -h 10.77.0.1 | sha256sum
  numbers 3000000 | run "${in_b[@]}" redis-cli -h 10.77.0.1 -x set big
  run "${in_b[@]}" redis-cli -h 10.77.0.1 get big | sha256sum
  benchmark "${in_b[@]}"
  run "${in_b[@]}" redis-cli -h 10.77.0.1 get counter:__rand_int__
  stop redis
}

# The same between PID, IPC and UTS namespaces of their own.
containers() {
  local contained=(unshare --pid --fork --kill-child --mount-proc --ipc --uts)
  start redis "${contained[@]}" "${in_a[@]}" redis-server --port 6379 "${open[@]}" --dir "$work"
  listening 6379 "${in_a[@]}"
  session contained | run "${contained[@]}" "${in_b[@]}" redis-cli -h 10.77.0.1 | sha256sum
  benchmark "${contained[@]}" "${in_b[@]}"
  run "${in_b[@]}" redis-cli -h 10.77.0.1 get counter:__rand_int__
  run "${in_b[@]}" redis-cli -h 10.77.0.1 shutdown nosave
  finish redis
  echo "server: exit $finished"
}

# Each namespace has a server and a client on 127.0.0.1, at the same time, with the same server port
# and only a dozen client ports: equal addresses and ports in both are then nearly certain.
twins() {
  local ns client
  pick_port port
  for ns in $a $b; do
    ip netns exec $ns bash -c 'echo 40000 40011 >/proc/sys/net/ipv4/ip_local_port_range'
    start "redis-$ns" ip netns exec $ns redis-server --port "$port" --bind 127.0.0.1 --save '' \
      --dir "$work"
  done
  for ns in $a $b; do listening "$port" ip netns exec $ns; done
  for _ in {1..10}; do
    session here-a | run "${in_a[@]}" redis-cli -p "$port" >"$work/$mode.a" & client=$!
    session here-b | run "${in_b[@]}" redis-cli -p "$port" >"$work/$mode.b"
    wait $client
    sha256sum <"$work/$mode.a"
    sha256sum <"$work/$mode.b"
  done
  for ns in $a $b; do
    stop "redis-$ns" >/dev/null
    ip netns exec $ns bash -c 'echo 32768 60999 >/proc/sys/net/ipv4/ip_local_port_range'
  done
}

for scenario in across containers twins; do
  both $scenario XENLOOP_RUNTIME_DIR="$work/realm"
  expect_fifo redis-server
done
both across
expect_no_fifo "different network namespaces without a realm"
both twins XENLOOP_RUNTIME_DIR="$work/realm" XENLOOP_UPGRADE_AFTER=0
