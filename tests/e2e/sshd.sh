#!/usr/bin/env bash
# OpenSSH's server, unmodified. Its child before the login locks itself in and ends; after the login of an ordinary
# user a monitor keeps the connection and never touches it, beside the child that uses it; root's session is the
# monitor itself. Equal sums in both directions, and all that is much goes by FIFOs.
. "$(dirname "$0")/lib.sh"
need sshd ssh ssh-keygen unshare
need_root
[[ -d /run/sshd ]] || { mkdir /run/sshd; cleanups+=("rmdir /run/sshd"); }
user=xenloop-e2e
size=30000000

for key in host client; do ssh-keygen -q -t ed25519 -N '' -f "$work/$key"; done
mkdir "$work/home"
chown 29999:29999 "$work/home"
chmod 644 "$work/client.pub"
# A user of this test's own, whom nobody else sees.
for file in passwd shadow group; do cp "/etc/$file" "$work/$file"; done
echo "$user:x:29999:29999::$work/home:/bin/sh" >>"$work/passwd"
echo "$user:*:19000:0:99999:7:::" >>"$work/shadow"
echo "$user:x:29999:" >>"$work/group"

begin() {
  pick_port port
  cat >"$work/sshd_config" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $work/host
AuthorizedKeysFile $work/client.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PidFile none
END
  start daemon unshare -m bash -c 'cd "$0" && for file in passwd shadow group; do
    mount --bind $file /etc/$file || exit 1; done; exec "$(command -v sshd)" -D -e -f sshd_config' "$work"
  listening "$port"
}

# session USER COMMAND
session() {
  run ssh -F none -i "$work/client" -p "$port" -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR \
    -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes "$1@127.0.0.1" "$2"
}

scenario() {
  begin
  local who
  for who in root $user; do
    echo "$who: $(session $who 'id -un')"
    numbers $size | session $who sha256sum
    session $who "exec cat" <"$work/host.pub" | cmp - "$work/host.pub"
    numbers $size >"$work/large"
    session $who "exec cat $work/large" | sha256sum
  done
  stop daemon
}
both scenario
[[ ${E2E_NATIVE:-} != 1 ]] || exit 0

# tcp_bytes: of the clients, which are at one end of each connection, alone.
tcp_bytes() { jq -s '[.[] | select(.program == "ssh") | .tcp_sent + .tcp_received] | add // 0' "$stats"; }

# Before the hand-over go some KB; until root's monitor is seen to be hot, some MB. Not at each attempt, on a machine
# that keeps two agents waiting. Into a file: of what a pipe does not take at once ssh keeps 2 MB, copies all of it for
# every 32 KiB that come, and so stands still, on such a machine, for longer than a FIFO waits for its reader.
stays_on_fifo() {
  : >"$stats"
  numbers $size | session "$1" sha256sum
  session "$1" "exec cat $work/large" >"$work/copy"
  cmp "$work/large" "$work/copy" || return
  (($(tcp_bytes) < $2))
}
begin
eventually stays_on_fifo $user 1000000
echo "ok an ordinary user's session: $(tcp_bytes) of $((2 * size)) bytes by TCP"
eventually stays_on_fifo root 10000000
echo "ok root's session: $(tcp_bytes) of $((2 * size)) bytes by TCP"
stop daemon >/dev/null
