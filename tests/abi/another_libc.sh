#!/bin/sh
# another_libc.sh LIBRARY SOURCE: a program of musl with the library preloaded, which /etc/ld.so.preload or a variable that
#   is inherited does to it: it must start, be silent, and be right; the library follows nothing there. 77: no musl here.
set -u
library=$1 source=$2
command -v musl-gcc >/dev/null || { echo "musl-gcc is not installed (Debian: musl-tools)"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
musl-gcc -O1 -o "$work/program" "$source" || exit 1

expected='every call worked'
run() { # run NAME COMMAND...
  name=$1
  shift
  said=$("$@" 2>&1)
  status=$?
  [ "$status" = 0 ] && [ "$said" = "$expected" ] ||
    { echo "another_libc: $name: status $status: $said" >&2; exit 1; }
}
run natively env -u LD_PRELOAD "$work/program"
run preloaded env LD_PRELOAD="$library" XENLOOP_STATS="$work/statistics" "$work/program"
[ ! -s "$work/statistics" ] || { echo "another_libc: it was followed: $(cat "$work/statistics")" >&2; exit 1; }
# Started by the loader's own name there is another order of things in memory.
loader=$(readelf -l "$work/program" | sed -n 's/.*interpreter: \(.*\)]/\1/p')
run "by its loader" env LD_PRELOAD="$library" "$loader" "$work/program"
echo "a program of musl starts and works with the library in it"
