#!/usr/bin/env bash
# The administrator's rules in /etc/xenloop.conf: what they except stays on TCP, bytes right, and the
# environment cannot widen them; what they name is accelerated. In a mount namespace with an /etc of
# its own.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
[[ -x $check ]] || fail "$check is missing (build it first)"
[[ ${E2E_NATIVE:-} != 1 ]] || { echo "nothing to run natively"; exit 0; }
copy_library
mkdir "$work/etc"
cp -a /etc/. "$work/etc/" 2>/dev/null || true     # without root, without what only root may read
mount --bind "$work/etc" /etc
pick_port port
pick_port other_port

# bytes_by_fifo PORT: of one transfer, 60 MB, whose bytes are checked.
bytes_by_fifo() {
  : >"$stats"
  start receiver "$check" receive "$1" 5
  listening "$1"
  run "$check" send "$1" 5 60000000 >/dev/null
  finish receiver
  ((finished == 0)) || fail "the receiver ended with $finished"
  fifo_bytes stream-check
}
# expect yes|no TEXT-OF-THE-FILE [PORT]
expect() {
  printf '%b' "$2" >/etc/xenloop.conf
  local bytes
  bytes=$(bytes_by_fifo "${3:-$port}")
  [[ $1 == yes ]] && ((bytes > 0)) && return
  [[ $1 == no ]] && ((bytes == 0)) && return
  fail "$bytes bytes by FIFO, expected: $1, with the rules: $2"
}

with_library XENLOOP_UPGRADE_AFTER=1
expect yes ''
expect no 'except_programs = nginx stream-check\n'
expect no 'programs = nginx\n'
expect yes "programs = nginx, $check\n"
expect no "except_ports = $port\n"
expect yes "except_ports = $port\n" "$other_port"
expect yes "ports = $port\n"
expect no 'except_addresses = 127.0.0.0/8\n'
expect yes 'addresses = 127.0.0.1 ::1\n'
expect no 'addresses = 10.0.0.0/8\n'
expect no 'except_users = 0\n'
expect no 'users = nobody\n'
expect yes 'users = root\n'
expect no 'ports = http\n'                       # what cannot be understood forbids
with_library XENLOOP_UPGRADE_AFTER=1 XENLOOP=on XENLOOP_PROGRAMS=stream-check
expect no 'programs = nginx\n'
printf 'programs = nginx\nports = 80-70\n' >/etc/xenloop.conf
"$tool" doctor "$check" >"$work/doctor.log" && fail "doctor finds no problem in a broken file"
grep -q 'line 2: ports: not a port' "$work/doctor.log" || fail "doctor does not name the line"
printf 'programs = nginx\n' >/etc/xenloop.conf
"$tool" doctor "$check" >"$work/doctor.log" && fail "doctor does not see that a rule forbids it"
grep -q 'program not named in the configuration' "$work/doctor.log" || fail "doctor does not name the rule"
echo "ok rules"
