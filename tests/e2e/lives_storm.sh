#!/usr/bin/env bash
# Short connections that are parked (XENLOOP_PARK=on), at random, while their clients and servers are killed, fork, exec and
# open their listener anew: no wrong byte, no hang, no descriptor left behind. By hand, with more of them:
#   LD_PRELOAD=build/release/lib/libxenloop.so XENLOOP_PARK=on build/release/bin/lives-storm 100000 SEED
. "$(dirname "$0")/lib.sh"
storm=$build/bin/lives-storm
[[ -x $storm ]] || fail "$storm is missing (build it first)"
copy_library
with_library XENLOOP_PARK=on
timeout 100 "${server_prefix[@]}" "$storm" "${E2E_LIVES:-6000}" "${E2E_SEED:-1}" >"$work/storm.log" 2>&1 ||
  fail "the storm ended with $?: $(tail -n 1 "$work/storm.log")"
parked=$(sed -n 's/.*"lives":{"connected":\([0-9]*\).*/\1/p' "$stats" | awk '{n += $1} END {print n + 0}')
echo "ok $case_name: $(tail -n 1 "$work/storm.log"); of the processes that ended by themselves $parked were parked" >&"$out"
