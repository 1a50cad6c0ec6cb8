#!/usr/bin/env bash
# An rsync daemon forks for every connection; its protocol goes both ways at once over select().
. "$(dirname "$0")/../../e2e/lib.sh"
need rsync
mkdir -p "$work/tree/deep/er"
for i in {1..30}; do numbers $((i * 50000)) >"$work/tree/f$i"; done
numbers 9999999 >"$work/tree/deep/er/large"
printf '%s\n' 'use chroot = no' "uid = $(id -un)" "gid = $(id -gn)" '[tree]' "path = $work/tree" 'read only = no' \
  >"$work/rsyncd.conf"

scenario() {
  pick_port port
  rm -rf "$work/copy" "$work/tree/pushed"
  start rsyncd rsync --daemon --no-detach --address=127.0.0.1 --port="$port" --config="$work/rsyncd.conf"
  listening "$port"
  run rsync "rsync://127.0.0.1:$port/"
  run rsync -a "rsync://127.0.0.1:$port/tree/" "$work/copy"
  diff -r "$work/tree" "$work/copy"
  for i in 3 9 27; do numbers 700000 | tail -c 600000 >"$work/copy/f$i"; done
  touch -d 2001-01-01 "$work"/copy/f*
  run rsync -a --checksum --itemize-changes "rsync://127.0.0.1:$port/tree/" "$work/copy"   # deltas
  run rsync -az "$work/copy/" "rsync://127.0.0.1:$port/tree/pushed"
  diff -r "$work/copy" "$work/tree/pushed"
  rm -rf "$work/tree/pushed"
  run rsync "rsync://127.0.0.1:$port/tree/none" 2>/dev/null || echo "status $?"
  stop rsyncd
}

both scenario
expect_fifo rsync
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo rsync
