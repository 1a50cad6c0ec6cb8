#!/bin/sh
# libc_versions.sh LIBRARY COMPILER: one library is for every glibc since 2.17, so it may ask for no version of a symbol
#   that came later. ld.so refuses a library that does, and with it every program that /etc/ld.so.preload gives it to. What
#   is newer is looked up when it is needed (preload/libc/symbols.h). The same look must find a planted one.
set -u
export LC_ALL=C
library=$1 compiler=$2
oldest=17
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# newer OBJECT: the versions that it asks for and that came after. A name that is no number (GLIBC_PRIVATE,
# GLIBC_ABI_...) is newer than all.
newer() {
  readelf -VW "$1" | sed -n '/version needs/I,$p' | grep -o 'Name: [A-Za-z0-9_.]*' | sed 's/Name: //' | sort -u >"$work/needed"
  [ -s "$work/needed" ] || echo "no versions at all in $1"
  while read -r version; do
    case $version in
      GLIBC_2.*[!0-9.]*) echo "$version" ;;
      GLIBC_2.*)
        minor=${version#GLIBC_2.}
        [ "${minor%%.*}" -le "$oldest" ] || echo "$version"
        ;;
      *) echo "$version" ;;
    esac
  done <"$work/needed"
}

cat >"$work/planted.c" <<'C'
#define _GNU_SOURCE
#include <stdlib.h>
void* planted(void* memory);
void* planted(void* memory) { return reallocarray(memory, 2, 3); }
C
"$compiler" -shared -fPIC -o "$work/planted.so" "$work/planted.c" || exit 1
[ "$(newer "$work/planted.so")" = GLIBC_2.26 ] || {
  echo "libc_versions: reallocarray is of glibc 2.26, and this test does not see it: $(newer "$work/planted.so")" >&2
  exit 1
}

found=$(newer "$library")
[ -z "$found" ] || {
  echo "libc_versions: newer than glibc 2.$oldest:" >&2
  for version in $found; do nm -D --undefined-only "$library" | grep -F "@$version" >&2 || echo "  $version" >&2; done
  exit 1
}
echo "$(nm -D --undefined-only "$library" | grep -c '@GLIBC') symbols of glibc, none newer than 2.$oldest"
