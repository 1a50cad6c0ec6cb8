#!/usr/bin/env bash
# One mode of the conformance binary, a process a suite, so that a hang costs one suite and not the rest.
# These are timing-sensitive tests of concurrent behaviour on a machine that may be busy: what fails is tried again, twice
# at the most, and every such case is named FLAKY in the output: it is a finding to look into, not a pass like the others.
# E2E_PATIENCE=N: N times as long as the limits say.
# XENLOOP_RETRIED=FILE: named there as well, a line each, for the count at the end of tests/run.
#   run.sh BINARY [LIBRARY [SUITE...]]   LIBRARY is preloaded into the binary only; without suites, all; -SUITE: all but this
set -uo pipefail
binary=$1
preload=${2:-}
limit=$((70 * ${E2E_PATIENCE:-1}))
[[ -z ${E2E_PATIENCE:-} ]] || export XENLOOP_CONFORMANCE_SECONDS=$((20 * E2E_PATIENCE))  # main.cc's watchdog
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# try FILTER: one run of the tests that match.
try() {
  if [[ -n $preload ]]; then
    LD_PRELOAD=$preload timeout -k 5 "$limit" "$binary" --gtest_brief=1 --gtest_filter="$1" >"$out" 2>&1
  else
    timeout -k 5 "$limit" "$binary" --gtest_brief=1 --gtest_filter="$1" >"$out" 2>&1
  fi
}

shift $(($# < 2 ? $# : 2))
suites=$*
but=
[[ $suites != -* ]] || { but=${suites//-/} suites=; }
[[ -n $suites ]] || suites=$("$binary" --gtest_list_tests | sed -n 's/^\([A-Za-z0-9_/]*\)\..*/\1/p' | sed 's,.*/,,' | sort -u)
[[ -n $suites ]] || { echo "no suites in $binary"; exit 1; }
failed=() flaky=() count=0
for suite in $suites; do
  [[ " $but " != *" $suite "* ]] || { echo "left out: $suite"; continue; }
  ((++count))
  filter="$suite.*:*/$suite.*"
  try "$filter" && continue
  cat "$out"
  good=no
  for again in 1 2; do
    # Only what failed, unless the process ended before it could say.
    names=$(sed -n 's/^\[  FAILED  \] \([A-Za-z0-9_/]*\.[A-Za-z0-9_/]*\).*/\1/p' "$out" | sort -u | paste -sd:)
    if grep -q '^\[==========\] .* ran' "$out" && [[ -n $names ]]; then filter=$names; fi
    if try "$filter"; then good=yes; break; fi
    cat "$out"
  done
  if [[ $good == yes ]]; then flaky+=("$suite ($filter)"); else failed+=("$suite"); fi
done
for suite in "${flaky[@]}"; do
  echo "FLAKY $suite"
  [[ -z ${XENLOOP_RETRIED:-} ]] || echo "conformance ${XENLOOP_CONFORMANCE_MODE:-native}: $suite" >>"$XENLOOP_RETRIED"
done
for suite in "${failed[@]}"; do echo "FAILED three times: $suite"; done
echo "${XENLOOP_CONFORMANCE_MODE:-native}: $count suites, ${#flaky[@]} flaky, ${#failed[@]} failed"
((${#failed[@]} == 0))
