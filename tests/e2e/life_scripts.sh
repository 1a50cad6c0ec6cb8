#!/usr/bin/env bash
# Short connections that are parked (XENLOOP_PARK=on): random scripts of a client and a server, step by step. What every call
# gives is what it gave without the library, in two runs that agree. By hand, with others: E2E_SEED=N E2E_SCRIPTS=N.
. "$(dirname "$0")/lib.sh"
scripts=$build/bin/life-scripts
[[ -x $scripts ]] || fail "$scripts is missing (build it first)"
seed=${E2E_SEED:-1} count=${E2E_SCRIPTS:-250}
"$scripts" "$seed" "$count" >"$work/oracle.1" &
oracle=$!
"$scripts" "$seed" "$count" >"$work/oracle.2" || fail "the first scripts ended with $?"
wait "$oracle" || fail "the second ended with $?"
copy_library
with_library XENLOOP_PARK=on
timeout 80 "${client_prefix[@]}" "$scripts" "$seed" "$count" "$work/oracle.1" "$work/oracle.2" >"$work/scripts.log" 2>&1 ||
  fail "not as without the library (seed $seed)"
parked=$(sed -n 's/.*"lives":{"connected":\([0-9]*\),"accepted":\([0-9]*\).*/\1 \2/p' "$stats" | awk '{n += $1 + $2} END {print n + 0}')
((parked >= 50)) || fail "only $parked connections were parked"
echo "ok $case_name: $(tail -n 1 "$work/scripts.log"), $parked connections parked" >&"$out"
