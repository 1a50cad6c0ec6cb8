#!/usr/bin/env bash
# A run that is ended from outside, however, leaves no emulator behind: not that of the lab, and not the second
# host that a page has started. Without a boot: what starts an emulator is looked at, not what runs in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
build=${1:-../../build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
# soon COMMAND...: a minute, on however busy a machine
soon() {
  local i
  for ((i = 0; i < 600; i++)); do ! "$@" || return 0; sleep 0.1; done
  return 1
}
gone() { ! kill -0 "$1" 2>/dev/null; }

for signal in TERM KILL; do
  XENLOOP_XEN_RUN=$work/run ./run --only none --keep --build "$build" </dev/null >"$work/log" 2>&1 &
  runner=$!
  until [[ -s $work/run/pid ]]; do
    kill -0 $runner 2>/dev/null || { status=0; wait $runner || status=$?; cat "$work/log"; exit "$status"; }
    sleep 0.1
  done
  emulator=$(cat "$work/run/pid")
  kill -0 "$emulator" || fail "there is no emulator"
  kill -$signal $runner
  soon gone "$emulator" || { kill -9 "$emulator"; fail "after SIG$signal for the run, emulator $emulator is still there"; }
  wait $runner 2>/dev/null || true
  echo "SIG$signal: the emulator has ended with the run"
  rm -rf "$work/run"
done

# A page's: the page ends with the run, and its second host with the page.
mkdir -p "$work/second"
cat >"$work/page.sh" <<'END'
source lib/machine.sh
run=$1 images=$1 emulator=$1/emulator
PATH=$1:$PATH
emulate "$1/second" 64 ""
echo $! >"$1/second.pid"
sleep 600
END
printf '#!/bin/sh\nexec sleep 600\n' >"$work/qemu-system-x86_64"
chmod 755 "$work/qemu-system-x86_64"
bash -c 'setpriv --pdeathsig TERM timeout -k 5 600 bash "$1/page.sh" "$1" & echo $! >"$1/page.pid"; wait' _ "$work" &
runner=$!
soon test -s "$work/second.pid" || fail "no second emulator"
kill -KILL $runner
soon gone "$(cat "$work/page.pid")" || fail "the page is still there"
soon gone "$(cat "$work/second.pid")" || fail "the page's second host is still there"
echo "SIGKILL: the page and its second host have ended with the run"
