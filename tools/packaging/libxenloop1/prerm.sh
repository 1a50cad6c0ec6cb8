#!/bin/sh
# Before the library goes, its name goes out of /etc/ld.so.preload: ld.so complains in every program that starts while a
# file which stands there is missing. (An upgrade puts the new file in the old one's place in one step.)
set -e

# Entries are separated by blanks and colons, and # begins a comment.
forget() {
  preload=$(readlink -f /etc/ld.so.preload)
  [ -f "$preload" ] || return 0
  entry='(/usr)?(/(\$LIB|\$\{LIB\}|lib32|lib64|lib/[^/[:space:]:]+))?/?libxenloop\.so'
  sed -E ":again; s%^([^#]*[[:space:]:])?$entry([[:space:]:#]|\$)%\1\5%; t again" "$preload" >"$preload.xenloop"
  if cmp -s "$preload" "$preload.xenloop"; then
    rm "$preload.xenloop"
    return 0
  fi
  chmod --reference="$preload" "$preload.xenloop"
  chown --reference="$preload" "$preload.xenloop"
  sync "$preload.xenloop"
  mv "$preload.xenloop" "$preload" # in one step: programs start meanwhile
  echo "libxenloop1: its line in /etc/ld.so.preload is gone"
}

case $1 in
  remove | deconfigure) forget ;;
esac
