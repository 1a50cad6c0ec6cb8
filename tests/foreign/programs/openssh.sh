#!/usr/bin/env bash
# sshd with keys of its own: login, exit status, scp both ways, rsync over ssh, a forwarded port and
# a connection shared by a control master. sshd hands connections to re-executed, sandboxed and
# unprivileged processes.
. "$(dirname "$0")/../../e2e/lib.sh"
need ssh sshd scp rsync ssh-keygen
need_root
ssh-keygen -q -t ed25519 -N '' -f "$work/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$work/user_key"
cp "$work/user_key.pub" "$work/authorized_keys"
mkdir -p /run/sshd "$work/tree"
for i in {1..20}; do numbers $((i * 30000)) >"$work/tree/f$i"; done
numbers 20000000 >"$work/large"
sshd=$(command -v sshd)
old_protocol=(-O)
[[ $(scp -O 2>&1) != *'unknown option'* ]] || old_protocol=()   # OpenSSH before 8.7 knows no other

scenario() {
  pick_port port
  pick_port forwarded
  rm -rf "$work/got" "$work/back" "$work/copy"
  cat >"$work/sshd_config" <<END
ListenAddress 127.0.0.1
Port $port
HostKey $work/host_key
PidFile none
AuthorizedKeysFile $work/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
END
  local options=(-F none -i "$work/user_key" -o StrictHostKeyChecking=no -o LogLevel=ERROR
    -o UserKnownHostsFile=/dev/null -o BatchMode=yes)
  start sshd "$sshd" -D -e -f "$work/sshd_config"
  listening "$port"
  run ssh "${options[@]}" -p "$port" root@127.0.0.1 'echo hello; exit 7' || echo "status $?"
  run ssh "${options[@]}" -p "$port" root@127.0.0.1 'wc -c; sha256sum </dev/null' <"$work/large"
  run ssh "${options[@]}" -p "$port" root@127.0.0.1 "cat $work/large" | sha256sum
  run scp "${options[@]}" -P "$port" "$work/large" "root@127.0.0.1:$work/got"
  run scp "${old_protocol[@]}" "${options[@]}" -P "$port" "root@127.0.0.1:$work/large" "$work/back"
  sha256sum <"$work/got"
  sha256sum <"$work/back"
  run rsync -a -e "ssh ${options[*]} -p $port" "$work/tree/" "root@127.0.0.1:$work/copy"
  diff -r "$work/tree" "$work/copy"
  # A port forwarded to sshd itself, and two sessions over one master.
  start master ssh "${options[@]}" -p "$port" -N -M -S "$work/control" -L "$forwarded:127.0.0.1:$port" root@127.0.0.1
  listening "$forwarded"
  run ssh "${options[@]}" -p "$forwarded" root@127.0.0.1 "cat $work/large" | sha256sum
  run ssh "${options[@]}" -S "$work/control" root@127.0.0.1 "cat $work/large" | sha256sum
  # Not by a signal: one that comes between its look and its poll is heard at the next event only, natively too.
  run ssh "${options[@]}" -S "$work/control" -O exit root@127.0.0.1 2>/dev/null
  finish master
  stop sshd
}

both scenario
expect_fifo ssh
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo ssh
