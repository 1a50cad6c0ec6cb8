#!/usr/bin/env bash
# vsftpd, whose sessions are chrooted processes beside privileged ones, which meet nobody, with curl
# and with tnftp, whose connections are stdio streams, which libc reads and writes unseen: all TCP.
. "$(dirname "$0")/../../e2e/lib.sh"
need vsftpd tnftp curl
need_root
mkdir -p "$work/ftp/up" "$work/empty"
numbers 20000000 >"$work/large"
numbers 300 >"$work/ftp/small"
ln "$work/large" "$work/ftp/large"
chown daemon "$work/ftp/up"

# tnftp's session: there and back, an empty file, a listing, a name that does not exist.
session() {
  run tnftp -inV "$@" -P "$port" 127.0.0.1 <<END 2>&1 | grep -vE '^(ftp> )*$|^150 '
user anonymous nobody@example.org
binary
get large $work/got
get small $work/got-small
put $work/large up/large
put /dev/null up/empty
nlist
cd up
nlist
delete empty
get none $work/none
quit
END
  sha256sum <"$work/got"
  sha256sum <"$work/got-small"
  sha256sum <"$work/ftp/up/large"
  rm -f "$work"/got* "$work"/ftp/up/*
}

scenario() {
  pick_port port
  cat >"$work/vsftpd.conf" <<END
background=NO
listen=YES
listen_address=127.0.0.1
listen_port=$port
anonymous_enable=YES
anon_root=$work/ftp
anon_upload_enable=YES
anon_other_write_enable=YES
anon_umask=022
write_enable=YES
ftp_username=daemon
nopriv_user=nobody
secure_chroot_dir=$work/empty
xferlog_enable=NO
END
  start vsftpd vsftpd "$work/vsftpd.conf"
  listening "$port"
  local url=ftp://127.0.0.1:$port
  session -p
  session -A
  run curl -sS "$url/large" "$url/small" | sha256sum
  run curl -sS -T "$work/large" "$url/up/a" -T "$work/large" "$url/up/b"
  cat "$work"/ftp/up/* | sha256sum
  run curl -sS "$url/none" 2>/dev/null || echo "status $?"
  run curl -sS -r 1000000-9999999 "$url/large" | sha256sum
  rm -f "$work"/ftp/up/*
  stop vsftpd
}

both scenario
expect_no_fifo "stdio; a server in an empty root folder"
again scenario XENLOOP_UPGRADE_AFTER=0
expect_no_fifo "stdio; a server in an empty root folder"
