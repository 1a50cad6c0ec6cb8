#!/usr/bin/env bash
# Programs that lock themselves in, and programs that were locked in before they started: the library
# makes no system call that they do not make themselves.
. "$(dirname "$0")/lib.sh"
confined=$build/bin/confined
check=$build/bin/stream-check
[[ -x $confined && -x $check ]] || fail "$confined or $check is missing (build it first)"

# By every way into a filter, in the middle of a hot connection, before the first socket, and with a
# second connection behind it; filters that kill and filters that answer EPERM.
locks_itself_in() {
  local when how
  for when in middle before second; do
    for how in prctl syscall tsync inline; do
      echo "$when $how:" "$(run "$confined" serve "$when" "$how" || true)" \
        "$(run "$confined" serve "$when" "$how" 1 || true)"
    done
  done
}

# What the program calls natively is all that it may call with the library.
was_locked_in() {
  local calls=$work/calls
  [[ $mode != native ]] || "$confined" record "$calls.true" true
  [[ $mode != native ]] || "$confined" record "$calls.traffic" "$confined" traffic
  # Statistics are a file that the program does not write.
  run env -u XENLOOP_STATS "$confined" allow "$calls.true" true && echo "true: fine"
  run env -u XENLOOP_STATS "$confined" allow "$calls.traffic" "$confined" traffic && echo "traffic: fine"
}

# A call that older kernels do not have, and that containers refuse: epoll_pwait2.
refused() {
  local error
  for error in 38 1; do
    pick_port port
    start receiver "$confined" refuse 441 "$error" "$check" receive "$port" 3
    listening "$port"
    run "$check" send "$port" 3 3000000 || echo "sender: exit $?"
    finish receiver
    echo "receiver: exit $finished"
  done
}

# Calls that the library makes around a fork, and the program does not.
forbidden() {
  local call
  for call in getppid kill tgkill; do
    echo "$call: $(run "$confined" forbid "$call" "$confined" children || echo "exit $?")"
  done
}

# A hardened service is accelerated: it is not refused what the library asks for.
hardened() { run "$confined" harden "$python" "$source_dir/tests/e2e/echo.py" 2000; }

one_thread() { run "$confined" alone; }

# On a busy machine the agents may come too late for its few rounds.
by_fifo() {
  one_thread
  (($(fifo_bytes confined) > 0))
}

way=both
for eager in "" XENLOOP_UPGRADE_AFTER=0; do
  $way locks_itself_in $eager
  $way was_locked_in $eager
  $way refused $eager
  $way forbidden $eager
  $way one_thread $eager
  way=again
  [[ ${E2E_NATIVE:-} == 1 ]] || eventually by_fifo
  expect_fifo confined
done
both hardened
expect_fifo python3
