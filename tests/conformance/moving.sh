#!/usr/bin/env bash
# Conformance while the whole "guest" leaves and arrives, again and again: `xenloop leave` and `arrive` hit the processes at
# every point of a call, beside the routes that the marked points switch. In a network namespace and a realm of its own.
#   moving.sh BINARY LIBRARY TOOL [SUITE...]
set -uo pipefail
if [[ -z ${MOVING_INSIDE:-} ]]; then
  unshare -n true 2>/dev/null || { echo "SKIP conformance_moving: no permission for network namespaces"; exit 77; }
  MOVING_INSIDE=1 exec unshare -n bash -c 'PATH=$PATH:/usr/sbin:/sbin; ip link set lo up; exec bash "$0" "$@"' "$0" "$@"
fi
binary=$1 library=$2 tool=$3
shift 3
# Not BackpressureTest: a fallback at any time makes room, so that a send which must still block may go on.
(($# > 0)) || set -- IntegrityTest ReceiveTest SendTest CloseTest ForkTest EpollTest ThreadTest
XENLOOP_RUNTIME_DIR=$(mktemp -d)
export XENLOOP_RUNTIME_DIR
log=$XENLOOP_RUNTIME_DIR/moves
# A process that ends meanwhile, or is too busy to answer in time, does not make a move fail here.
while :; do
  "$tool" leave
  sleep 0.05
  "$tool" arrive
  sleep 0.1
done >"$log" 2>&1 &
mover=$!
trap 'kill "$mover"; wait "$mover" 2>/dev/null; rm -rf "$XENLOOP_RUNTIME_DIR"' EXIT
"$(dirname "$0")/run.sh" "$binary" "$library" "$@"
status=$?
moves=$(grep -c '^[1-9].*namespace has arrived' "$log")
echo "moving: $moves moves met a process"
((moves > 0)) || { echo "FAILED: nobody has moved"; exit 1; }
exit $status
