#!/usr/bin/env bash
# netcat: poll(), and -N, which shuts its direction down while the other goes on.
. "$(dirname "$0")/../../e2e/lib.sh"
need nc
numbers 6000000 >"$work/large"
numbers 3000000 | rev >"$work/other"

scenario() {
  local i
  for i in 1 2 3; do
    pick_port port
    # One way, and the other (both at once lose bytes natively, too: nc ends with its first direction).
    start listener bash -c "exec nc -N -l 127.0.0.1 $port <'$work/other'"
    listening "$port"
    run nc 127.0.0.1 "$port" </dev/null | sha256sum
    finish listener
    echo "listener ended with $finished"
    # The answer is made after the question has ended.
    pick_port port
    start answer bash -c "rm -f '$work/pipe'; mkfifo '$work/pipe'
      nc -N -l 127.0.0.1 $port <'$work/pipe' | sha256sum >'$work/pipe'"
    listening "$port"
    run nc -N 127.0.0.1 "$port" <"$work/large"
    finish answer
  done
}

both scenario
expect_fifo nc
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo nc
