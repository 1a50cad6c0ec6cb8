# One test of the lab: lib/one_test.sh RUN_DIRECTORY FILE. A test is a page of shell against a running
# lab; it may leave the guests as it likes, since the driver brings back what is gone.
#
#   # limit: SECONDS          (a comment of the test) its time-out, 120 if not given
#   # programs: A B           programs of this machine that it wants in the domains; /A/B: there under that path
#
# $patience: by what a limit inside a domain is to be multiplied (machine.sh).
# Exit status: 0 passed, 77 skipped, else failed. `note` lines are shown in the table.
set -Eeuo pipefail
run=$1
source "$run/state"
source lib/machine.sh
measure_patience

note() { echo "NOTE $*"; }
fail() { echo "FAIL: $*"; exit 1; }
skip() { echo "SKIP $*"; exit 77; }
# needs NAME PROGRAM...: what the payload could not bring is a skip.
needs() {
  local name=$1 program
  shift
  for program; do in_domain "$name" "command -v $program >/dev/null" || skip "no $program in $name"; done
}
# eventually SECONDS COMMAND...
eventually() {
  local seconds=$1 since
  lab_clock
  since=$lab_ms
  shift
  until "$@" >/dev/null 2>&1; do within "$seconds" "$since" || fail "did not happen in time: $*"; sleep 0.1; done
}
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }

trap 'echo "FAIL: line $LINENO: $BASH_COMMAND"' ERR
source "$2"
