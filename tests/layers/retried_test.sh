#!/usr/bin/env bash
# retried.py, as tests/run uses it, on a real run of ctest: CTEST is its path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/CTestTestfile.cmake" <<END
add_test(good true)
add_test(flaky sh -c "test -e once || { touch once; exit 1; }")
add_test(bad false)
END
status=0
"$1" --test-dir "$scratch" --repeat until-pass:2 2>&1 | "$here/retried.py" >"$scratch/out" || status=$?
cat "$scratch/out"
((status != 0)) || { echo "ctest's status is lost"; exit 1; }
told=$(grep -A1 '^passed only at a second try: 1$' "$scratch/out" | tail -1)
[[ $told == $'\tflaky' ]] || { echo "not told: flaky"; exit 1; }
# The summary comes after it.
sed '1,/^passed only/d' "$scratch/out" | grep -q '^67% tests passed, 1 tests failed out of 3'
