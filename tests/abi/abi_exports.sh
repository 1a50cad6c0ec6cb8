#!/bin/sh
# abi_exports.sh LIBRARY DEF NOT_INTERPOSED: what libxenloop.so shows and asks of the process that it is loaded into.
#   It exports the names in the .def and nothing else; libc has each of them; so are their siblings; it needs libc.so.6
#   alone; it is initialised first, and nothing in it at the program's start but by its own few constructors.
set -u
export LC_ALL=C
library=$1 def=$2 not_interposed=$3
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
  echo "abi_exports: $1" >&2
  [ ! -s "${2:-/dev/null}" ] || sed 's/^/    /' "$2" >&2
  failed=1
}

sed -n 's/^\(INTERPOSE\|ALIAS\)(\([A-Za-z0-9_]*\).*/\2/p' "$def" >"$work/unsorted"
sort "$work/unsorted" >"$work/listed"
# What a newer libc has brought: this machine's need not have it.
sed -n 's/^\(INTERPOSE\|ALIAS\)(\([A-Za-z0-9_]*\).*glibc [0-9.]*$/\2/p' "$def" | sort >"$work/newer"
uniq -d "$work/listed" >"$work/twice"
[ ! -s "$work/twice" ] || fail "listed twice:" "$work/twice"
sed -e '/^#/d' -e '/^$/d' -e 's/ .*//' "$not_interposed" | sort -u >"$work/excluded"

# Exports are exactly the list.
nm -D --defined-only "$library" | awk '{print $3}' | sort >"$work/exported"
[ -s "$work/listed" ] && [ -s "$work/exported" ] || fail "no names in $def or $library"
comm -13 "$work/listed" "$work/exported" >"$work/extra"
comm -23 "$work/listed" "$work/exported" >"$work/missing"
[ ! -s "$work/extra" ] || fail "exported but not listed:" "$work/extra"
[ ! -s "$work/missing" ] || fail "listed but not exported:" "$work/missing"
nm -D "$library" | awk '{print $NF}' | grep '^_Z' >"$work/mangled" &&
  fail "C++ names in the dynamic symbol table:" "$work/mangled"

# libc has them all. GLIBC_PRIVATE is not for us.
libc=$(ldd "$library" | awk '$1 == "libc.so.6" {print $3}')
[ -r "$libc" ] || { fail "no libc.so.6 for $library"; exit 1; }
nm -D --defined-only "$libc" | awk '$3 !~ /GLIBC_PRIVATE/ {sub(/@.*/, "", $3); print $3}' | sort -u \
  >"$work/libc"
comm -23 "$work/listed" "$work/libc" | comm -23 - "$work/newer" >"$work/unknown"
[ ! -s "$work/unknown" ] || fail "listed but not in $libc:" "$work/unknown"
comm -12 "$work/listed" "$work/excluded" >"$work/both"
[ ! -s "$work/both" ] || fail "in both lists:" "$work/both"
sed -n 's/^\([A-Za-z0-9_]*\) *glibc 2\.[0-9]*: .*/\1/p' "$not_interposed" | sort >"$work/newer"
comm -23 "$work/excluded" "$work/libc" | comm -23 - "$work/newer" >"$work/unknown"
[ ! -s "$work/unknown" ] || fail "excluded but not in $libc:" "$work/unknown"

# Siblings: whoever calls the other name must meet us too.
while read -r name; do
  base=${name#_IO_}
  base=${base#__}
  base=${base%_chk}
  for sibling in "$base" "__$base" "_IO_$base" "__libc_$base" "${base}64" "__${base}64" "${base}64v2" \
    "__${base}_chk" "__${base}64_chk" "__${base}_2" "__${base}64_2" "__${base}_time64"; do
    echo "$sibling"
  done
done <"$work/listed" | sort -u | comm -12 - "$work/libc" | comm -23 - "$work/listed" |
  comm -23 - "$work/excluded" >"$work/siblings"
[ ! -s "$work/siblings" ] || fail "siblings in no list:" "$work/siblings"

# What it asks for.
readelf -d "$library" >"$work/dynamic"
sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$work/dynamic" >"$work/needed"
[ "$(cat "$work/needed")" = libc.so.6 ] || fail "needs more than libc.so.6:" "$work/needed"
for flag in NOW NODELETE INITFIRST; do
  grep 'FLAGS_1' "$work/dynamic" | grep -qw "$flag" || fail "flag $flag is not set"
done
grep -q '(TEXTREL)' "$work/dynamic" && fail "has text relocations"
readelf -lW "$library" | grep GNU_STACK | grep -q E && fail "wants an executable stack"
nm -D --undefined-only "$library" | awk '$1 == "U" {print $2}' | grep -v '@GLIBC_' >"$work/foreign" &&
  fail "asks for what libc does not have:" "$work/foreign"
# Each program would pay for an object that is made when the library is loaded, the pages it writes to included.
nm -C "$library" | grep '_GLOBAL__sub_I' >"$work/initialised" && fail "objects initialised at the start:" "$work/initialised"

[ "$failed" = 0 ] && echo "$(wc -l <"$work/listed") names, all of $libc"
exit "$failed"
