#!/usr/bin/env bash
# A program of one thread waits in a call that is counted nowhere, and a handler makes its connection hot meanwhile: that
# comes to a FIFO when the call is over and not beneath it, where nobody would take the bytes.
. "$(dirname "$0")/lib.sh"

lone() {
  run "$build/bin/lone-stream" return
  run "$build/bin/lone-stream" jump
  run "$build/bin/lone-stream" handlers
  # Before each fifth of the last instructions that lead into the kernel.
  local count back steps=()
  count=$(run "$build/bin/lone-stream" step 0)
  for back in {20..75..5}; do
    ((count > back)) || continue
    run "$build/bin/lone-stream" step $((count - back)) >"$work/step-$back" &
    steps+=($!)
  done
  wait "${steps[@]}"
  sort -u "$work"/step-*
}

both lone
[[ ${E2E_NATIVE:-} != 1 ]] || exit 0
"$python" - "$stats" <<'PY' || fail "see above"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
unread = sum(line["fallbacks"].get("what was sent lay unread", 0) for line in lines)
assert unread == 0, f"{unread} FIFOs lay unread"
assert sum(line["fifo_received"] for line in lines) > 0, "nothing went by FIFO after the call"
PY
