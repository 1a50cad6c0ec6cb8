#!/bin/bash
# Two network namespaces joined by a veth pair, as two containers are, put into one realm by a
# shared runtime directory: a transfer between them must be upgraded, and the suites pass with the
# peers on the other side. Needs root and `ip netns`; exits 77 with the reason where these are missing.
#
# usage: two_namespaces.sh CONFORMANCE_BINARY LIBXENLOOP_SO

set -u
program=$1
library=$2

if [ "$(id -u)" -ne 0 ]; then echo "skipped: needs root"; exit 77; fi
if ! command -v ip > /dev/null; then echo "skipped: no ip command (iproute2)"; exit 77; fi

a=xenloop-a-$$
b=xenloop-b-$$
realm=$(mktemp -d) || exit 1
server_output=$realm.server
server=

clean_up() {
  if [ -n "$server" ]; then kill "$server" 2> /dev/null; wait "$server" 2> /dev/null; fi
  ip netns delete "$a" 2> /dev/null
  ip netns delete "$b" 2> /dev/null
  rm -rf "$realm" "$server_output"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

if ! ip netns add "$a" 2> /dev/null || ! ip netns add "$b" 2> /dev/null; then
  echo "skipped: this system does not allow network namespaces"; exit 77
fi
if ! ip link add veth-a netns "$a" type veth peer name veth-b netns "$b" 2> /dev/null; then
  echo "skipped: this kernel has no veth"; exit 77
fi
ip -n "$a" address add 10.71.0.1/24 dev veth-a || exit 1
ip -n "$b" address add 10.71.0.2/24 dev veth-b || exit 1
ip -n "$a" address add fd71::1/64 dev veth-a nodad || exit 1
ip -n "$b" address add fd71::2/64 dev veth-b nodad || exit 1
for name in "$a:veth-a" "$b:veth-b"; do
  ip -n "${name%:*}" link set lo up || exit 1
  ip -n "${name%:*}" link set "${name#*:}" up || exit 1
done

# run NAMESPACE ARGUMENTS...
run() {
  local namespace=$1
  shift
  ip netns exec "$namespace" env LD_PRELOAD="$library" XENLOOP_TEST_POINTS=1 \
      XENLOOP_UPGRADE_AFTER=1000000 XENLOOP_RUNTIME_DIR="$realm" \
      XENLOOP_CONFORMANCE_MODE="${XENLOOP_CONFORMANCE_MODE:-local}" "$program" "$@"
}

port=7100
status=0
for address in 10.71.0.1 fd71::1; do
  run "$a" --role=server --address="$address" --port="$port" > "$server_output" 2>&1 &
  server=$!
  run "$b" --role=client --address="$address" --port="$port" || status=1
  wait "$server" || status=1
  server=
  cat "$server_output"
  port=$((port + 1))
done
# The suites whose peers are processes and whose addresses are not those of one host. First the oracle.
suites="BackpressureTest CloseTest DupTest EpollEdgeTest EpollTest ForkTest IntegrityTest JumpTest JumpStormTest
  LastWordsTest MmsgTest PollTest QueryTest ReceiveFlagsTest ReceiveTest ResetTest SelectTest SendTest
  SendfileTest SignalIoTest InheritTest PassingTest PassedToAnotherUserTest PassedToAProgramTest
  KilledPeerTest SpliceTest StdioTest TimeoutTest VectorTest"
here=$(dirname "$0")
for mode in native local; do
  preload=
  [ $mode = native ] || preload=$library
  ip netns exec "$a" env XENLOOP_TEST_POINTS=1 XENLOOP_UPGRADE_AFTER=1000000 \
      XENLOOP_RUNTIME_DIR="$realm" XENLOOP_CONFORMANCE_MODE=$mode \
      XENLOOP_CONFORMANCE_PEER_NAMESPACE="/run/netns/$b" \
      bash "$here/run.sh" "$program" "$preload" $suites || status=1
done
if [ "$status" -ne 0 ]; then
  echo "FAILED; reproduce: $0 $program $library"
fi
exit "$status"
