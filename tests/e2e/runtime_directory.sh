#!/usr/bin/env bash
# A runtime directory that is missing, a file, unwritable, somebody else's, full, read-only or
# filled with garbage: the programs go on (over TCP where it must be), print nothing of ours and end
# in the same way and no later. The library never writes through a link that lies in wait for it.
. "$(dirname "$0")/lib.sh"
check=$build/bin/stream-check
[[ -x $check ]] || fail "$check is missing (build it first)"
realm=$work/realm
chmod 711 "$work"
as=()

# Both ends of a transfer; their whole output and exit statuses are the result.
scenario() {
  pick_port port
  start receiver timeout 20 "${as[@]}" "$check" receive "$port" 7
  listening "$port"
  run timeout 20 "${as[@]}" "$check" send "$port" 7 20000000 2>&1 || echo "sender: exit $?"
  finish receiver
  cat "$work/$mode.receiver.log"
  echo "receiver: exit $finished"
}

# try WHAT [DIRECTORY]
try() {
  local way=both
  [[ ${#as[@]} != 0 || ! -e $work/native.result.scenario ]] || way=again
  $way scenario XENLOOP_RUNTIME_DIR="${2-$realm}" >"$work/try.log"
  echo "ok $1 ($( [[ ${E2E_NATIVE:-} == 1 ]] || fifo_bytes) FIFO bytes)"
}
# fresh: an empty realm, whatever was there before.
fresh() { umount "$realm" 2>/dev/null || true; rm -rf "$realm"; mkdir -m "${1:-700}" "$realm"; }

fresh
try "good"
expect_fifo stream-check
(cd "$realm" && find . -mindepth 1 -printf '%y %P\n') >"$work/entries"
echo "left in the realm: $(tr '\n' ';' <"$work/entries")"

rm -rf "$realm"; try "missing"
rm -rf "$realm"; echo text >"$realm"; try "a plain file"
rm -rf "$realm"; ln -s "$work/nowhere" "$realm"; try "a dangling link"
fresh 555; try "mode 555"
fresh 000; try "mode 000"
fresh 777; try "writable for everybody"
fresh; try "a relative path" realm-that-is-not-there
fresh; try "empty" ""
fresh; try "a path of 5000 bytes" "/$(printf 'x%.0s' {1..5000})"
deep=$work/$(printf 'y%.0s' {1..100})
mkdir -m 700 "$deep"; try "a path too long for a socket's name" "$deep"

# Garbage in the place of each thing that a good run leaves.
victim=$work/victim
while read -r kind name; do
  [[ $kind == s ]] && continue              # its name is new each time
  for garbage in empty text random huge directory link pipe unreadable; do
    fresh
    mkdir -p "$realm/$(dirname "$name")"
    case $garbage in
      empty) : >"$realm/$name" ;;
      text) echo "not what you expect" >"$realm/$name" ;;
      random) head -c 65536 /dev/urandom >"$realm/$name" ;;
      huge) truncate -s 8G "$realm/$name" ;;
      directory) mkdir -m 777 "$realm/$name" ;;
      link) echo precious >"$victim"; ln -s "$victim" "$realm/$name" ;;
      pipe) mkfifo "$realm/$name" ;;
      unreadable) : >"$realm/$name"; chmod 000 "$realm/$name" ;;
    esac
    try "$garbage for $name"
    [[ $garbage != link || $(cat "$victim") == precious ]] || fail "wrote through the link $name"
  done
done <"$work/entries"

[[ $(id -u) == 0 ]] || { echo "not root: mounts and other users are not tried"; exit 0; }
fresh 755; chown nobody "$realm"; try "somebody else's"
as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
fresh 755; try "root's, used by nobody"
as=()
cleanups+=("umount '$realm'")
fresh; mount -t tmpfs -o size=4k none "$realm"; yes 2>/dev/null >"$realm/full" || try "full"
fresh; mount -t tmpfs -o size=8k none "$realm"; try "two pages"
fresh; mount -t tmpfs -o nr_inodes=1 none "$realm"; try "no inodes"
fresh; mount -t tmpfs -o ro none "$realm"; try "read-only"
fresh
# The default place, in mount namespaces of their own.
for options in size=4k nr_inodes=1 ro mode=000 size=1m,mode=700,uid=65534; do
  as=(unshare -m bash -c "mount -t tmpfs -o $options none /dev/shm; exec \"\$@\"" _)
  try "/dev/shm with $options" ""
done
fill='mount -t tmpfs -o size=4k none /dev/shm; yes 2>/dev/null >/dev/shm/full'
as=(unshare -m bash -c "$fill; exec \"\$@\"" _)
try "/dev/shm full" ""
