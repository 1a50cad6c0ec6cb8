#!/usr/bin/env bash
# retried.py, as tests/run uses it, on a real run of ctest: CTEST is its path. One of its tests is the conformance ring's
# run.sh over a program with a suite that fails once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/suites" <<'END'
#!/bin/sh
case $1 in --gtest_list_tests) printf 'Steady.\n  A\nShaky.\n  B\n'; exit ;; esac
case $2 in --gtest_filter=Shaky.*) test -e tried || { touch tried; exit 1; } ;; esac
END
chmod +x "$scratch/suites"
cat >"$scratch/CTestTestfile.cmake" <<END
add_test(good true)
add_test(flaky sh -c "test -e once || { touch once; exit 1; }")
add_test(bad sh -c "seq 40; echo its last words; exit 1")
add_test(suites "$here/../conformance/run.sh" "$scratch/suites")
END
export XENLOOP_RETRIED=$scratch/retried CTEST_OUTPUT_ON_FAILURE=1
: >"$XENLOOP_RETRIED"
status=0
"$1" --test-dir "$scratch" --repeat until-pass:2 2>&1 | "$here/retried.py" "$XENLOOP_RETRIED" >"$scratch/out" || status=$?
cat "$scratch/out"
((status != 0)) || { echo "ctest's status is lost"; exit 1; }
told=$(grep -A2 '^passed only at a second try: 2$' "$scratch/out" | tail -n +2)
[[ $told == $'\tconformance native: Shaky '*$'\n\tflaky' ]] || { echo "not told: Shaky, flaky"; exit 1; }
grep -qx flaky "$XENLOOP_RETRIED" || { echo "not kept for the next ring: flaky"; exit 1; }
said=$(sed -n '/^bad failed/,/^passed only/p' "$scratch/out")
[[ $said == *$'\t17\n'*$'\tits last words\n'* && $said != *$'\t16\n'* ]] || { echo "not told: what bad said last"; exit 1; }
if grep -q '^flaky failed' "$scratch/out"; then echo "told as failed: flaky, which passed later"; exit 1; fi
# The summary comes after it.
sed '1,/^passed only/d' "$scratch/out" | grep -q '^75% tests passed, 1 tests failed out of 4'
