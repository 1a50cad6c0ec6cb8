#!/usr/bin/env bash
# Few descriptors, little memory: with exactly the limits a program needs natively it works with the
# library too, over TCP where it must, and prints nothing of ours. What the library takes for itself
# must never be what the program lacks later.
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
farm=$build/bin/worker-farm
[[ -x $check && -x $farm ]] || fail "$check or $farm is missing (build it first)"

as=()
# limited COMMAND...: the command under $limit; its output goes through a pipe (ulimit -f).
limited() {
  set -o pipefail
  (ulimit $limit; exec "$@") 2>&1 | cat
}
export -f limited

scenario() {
  export limit
  pick_port port
  start receiver "${as[@]}" bash -c 'limited "$@"' _ "$check" receive "$port" 7
  listening "$port"
  run "${as[@]}" bash -c 'limited "$@"' _ "$check" send "$port" 7 20000000 || echo "sender: exit $?"
  finish receiver
  cat "$work/$mode.receiver.log"
  echo "receiver: exit $finished"
}

# Eight connections at once in one client, opened while the first are already hot.
crowd() {
  pick_port port
  start farm "$farm" serve prefork 2 "$port"
  listening "$port"
  export limit
  { run bash -c 'limited "$@"' _ "$farm" ask "$port" 8 200 || echo "client: exit $?"; } |
    grep -v 'workers seen'
  stop farm
}

# The receiver needs five descriptors, the crowd three and one a connection.
for n in 5 6 7 8 9 10 12 16; do
  limit="-n $n"
  echo "with ulimit $limit"
  both scenario XENLOOP_UPGRADE_AFTER=0
done
for n in 11 12 13 14 16 20; do
  limit="-n $n"
  echo "with ulimit $limit"
  both crowd XENLOOP_UPGRADE_AFTER=0
done

# Address space: little more than the program and the library need to be loaded, then more. What the
# library would like to have must not make the program's own allocations fail.
for megabytes in 14 16 18 20 21 22 24 28 32 48 64 96; do
  limit="-v $((megabytes * 1024))"
  echo "with ulimit $limit"
  both scenario XENLOOP_UPGRADE_AFTER=0
done
# Locked memory, stack, size of files (a library that lets SIGXFSZ happen kills its host), threads.
for limit in "-l 0" "-s 64" "-f 0"; do
  echo "with ulimit $limit"
  both scenario XENLOOP_UPGRADE_AFTER=0
done
limited() { ulimit $limit; exec "$@" 2>&1; }
[[ $(id -u) != 0 ]] || as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
chmod 711 "$work"
limit="-u 1"
echo "with ulimit $limit"
both scenario XENLOOP_UPGRADE_AFTER=0
