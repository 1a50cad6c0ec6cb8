#!/usr/bin/env bash
# A "guest" (a network and mount namespace on a bridge) moves between two emulated hosts (realms: one
# runtime directory each) under load, and back: every stream is on TCP while it moves, on shared memory
# to the programs of the host where it arrives, and no byte is wrong. One move is not announced.
#
#   MIGRATION_MOVES=N    announced moves (4)
#   MIGRATION_STREAMS=N  hot streams between the guest and each host (8)
. "$(dirname "$0")/lib.sh"
need ip unshare nsenter
need_root
[[ -n $python ]] || skip "python3 is not installed"
load=("$python" -u "$source_dir/tests/e2e/moving_load.py")
moves=${MIGRATION_MOVES:-4}
echoes=${MIGRATION_STREAMS:-8}     # hot streams to each host

# guest 10.78.0.1, host-1 10.78.0.11, host-2 10.78.0.12, one bridge between them
places=(guest host-1 host-2)
addresses=(10.78.0.1 10.78.0.11 10.78.0.12)
prefix=xlm$$
ip netns add $prefix-bridge 2>/dev/null || skip "no permission for network namespaces"
cleanups+=("ip netns del $prefix-bridge")
ip -n $prefix-bridge link add br0 type bridge
ip -n $prefix-bridge link set br0 up
for i in 0 1 2; do
  ns=$prefix-${places[i]}
  ip netns add "$ns"
  cleanups+=("ip netns del $ns")
  ip -n "$ns" link set lo up
  ip -n $prefix-bridge link add "v$i" type veth peer name eth0 netns "$ns"
  ip -n $prefix-bridge link set "v$i" master br0 up
  ip -n "$ns" addr add "${addresses[i]}/24" dev eth0
  ip -n "$ns" link set eth0 up
done
realm=$work/realm
mkdir -m 700 "$realm" "$work/host-1" "$work/host-2"

# The guest's mount namespace lives in a process of its own.
ip netns exec $prefix-guest unshare -m bash -c \
  "mount --make-rprivate /; mount --bind '$work/host-1' '$realm'; echo >'$work/guest-is-there'; exec sleep 1000" \
  >/dev/null 2>&1 {out}>&- &
guest_pid=$!
cleanups+=("kill $guest_pid")
eventually test -e "$work/guest-is-there"
in_guest=(nsenter -t "$guest_pid" -m -n --)

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

# streams HOST: the guest's connections to the programs of that host by route of their two directions,
# as "BOTH-LOCAL ALL".
streams() {
  XENLOOP_RUNTIME_DIR=$1 "${in_guest[@]}" "$tool" stat --json |
    jq -r --arg peer "${addresses[${2:?}]}:" '[.processes[].streams[] | select(.peer | startswith($peer)) |
      select(.local | startswith("10.78.0.1:"))] |
      "\(map(select(.route_send == "local" and .route_receive == "local")) | length) \(length)"'
}
# on_fifos DIRECTORY HOST-NUMBER AT-LEAST
on_fifos() { local both all; read -r both all <<<"$(streams "$1" "$2")"; ((both >= $3)); }
off_fifos() { local both all; read -r both all <<<"$(streams "$1" "$2")"; ((both == 0 && all > 0)); }
arrive() { XENLOOP_RUNTIME_DIR=$1 "${in_guest[@]}" "$tool" arrive >/dev/null; }
swap() { "${in_guest[@]}" bash -c "umount -l '$realm'; mount --bind '$1' '$realm'"; }

# move FROM TO, announced
move() {
  local from=$work/host-$1 to=$work/host-$2 start left upgraded
  on_fifos "$from" "$1" $echoes || fail "before the move: $(streams "$from" "$1") on FIFOs to host-$1"
  start=$(now_ms)
  XENLOOP_RUNTIME_DIR=$from "${in_guest[@]}" "$tool" leave >/dev/null || fail "leave"
  left=$(now_ms)
  off_fifos "$from" "$1" || fail "after leave: $(streams "$from" "$1") on FIFOs to host-$1"
  off_fifos "$from" "$2" || fail "after leave: $(streams "$from" "$2") on FIFOs to host-$2"
  swap "$to"
  sleep 0.3           # the freeze; nobody may meet anybody meanwhile
  off_fifos "$from" "$2" || fail "between hosts: $(streams "$from" "$2") on FIFOs to host-$2"
  local begin
  begin=$(now_ms)
  arrive "$from" || fail "arrive"
  eventually on_fifos "$to" "$2" $echoes
  upgraded=$(now_ms)
  off_fifos "$to" "$1" || fail "after the move: $(streams "$to" "$1") on FIFOs to host-$1, which is elsewhere"
  echo "move host-$1 -> host-$2: left in $((left - start)) ms, on FIFOs again $((upgraded - begin)) ms after arrival" >&"$out"
}

scenario() {
  local i
  [[ $mode == native ]] || mount_env=(env XENLOOP_RUNTIME_DIR="$realm")
  start guest "${in_guest[@]}" "${mount_env[@]}" "${load[@]}" serve 10.78.0.1 7000
  listening 7000 ip netns exec $prefix-guest
  for i in 1 2; do
    local host_env=()
    [[ $mode == native ]] || host_env=(env XENLOOP_RUNTIME_DIR="$work/host-$i")
    start "client$i" "${host_env[@]}" ip netns exec "$prefix-host-$i" "${load[@]}" client 10.78.0.1 7000 $echoes
  done
  for i in 1 2; do eventually grep -q loaded "$work/$mode.client$i.log"; done
  if [[ $mode != native ]]; then
    eventually on_fifos "$work/host-1" 1 $echoes
    local here=1
    for ((i = 0; i < moves; i++)); do
      move $here $((3 - here))
      here=$((3 - here))
    done
    # Not announced: the directory is another one all at once.
    swap "$work/host-$((3 - here))"
    sleep 0.3
    arrive "$work/host-$here"
    eventually on_fifos "$work/host-$((3 - here))" $((3 - here)) $echoes
    off_fifos "$work/host-$((3 - here))" "$here" || fail "still on FIFOs to the host that was left"
    echo "unannounced move: ok" >&"$out"
    # Home again for the accounts of a second scenario.
    [[ $((3 - here)) == 1 ]] || swap "$work/host-1"
  fi
  for i in 1 2; do
    kill -TERM "${server[client$i]}"
    finish "client$i"
    echo "client $i ended with $finished"
    tail -n 1 "$work/$mode.client$i.log"
  done
  kill -KILL "${server[guest]}"
  finish guest
}
mount_env=()
both scenario
expect_fifo python
