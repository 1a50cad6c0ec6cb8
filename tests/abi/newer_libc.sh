#!/bin/sh
# newer_libc.sh DEF NOT_INTERPOSED IRRELEVANT [LIBC...]: what newer C libraries export. Every public name that came after
#   glibc 2.36 must stand in interposed_functions.def, in not_interposed.txt or in newer_irrelevant.txt: a new way to make a
#   process or to touch a descriptor is then found by this test and not by a user. Without LIBC: those of Debian's
#   next releases, fetched (not installed) from where this machine's own apt gets its packages. 77: none can be had.
set -u
export LC_ALL=C
def=$1 not_interposed=$2 irrelevant=$3
shift 3
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# fetch SUITE: the path of its libc.so.6.
fetch() {
  site=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' | awk '$1 == "main" && $2 !~ /security/ {print $2; exit}')
  [ -n "$site" ] || return 1
  mkdir -p "$work/$1/lists/partial" "$work/$1/archives/partial"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keyring] $site $1 main" >"$work/$1/sources"
  set -- "$1" -q -o Dir::Etc::sourcelist="$work/$1/sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/$1/lists" \
    -o Dir::State::status=/dev/null -o Dir::Cache="$work/$1" -o APT::Sandbox::User=root
  suite=$1
  shift
  { apt-get "$@" update && (cd "$work/$suite" && apt-get "$@" download libc6); } >"$work/$suite/log" 2>&1 || return 1
  dpkg -x "$work/$suite"/libc6_*.deb "$work/$suite/root" && find "$work/$suite/root" -name libc.so.6
}

if [ $# = 0 ]; then
  for suite in trixie forky; do
    libc=$(fetch "$suite") || { echo "no libc of $suite can be had here" >&2; exit 77; }
    set -- "$@" "$libc"
  done
fi

sed -n 's/^\(INTERPOSE\|ALIAS\)(\([A-Za-z0-9_]*\).*/\2/p' "$def" | sort >"$work/listed"
sed -e '/^#/d' -e '/^$/d' -e 's/ .*//' "$not_interposed" | sort -u >"$work/excluded"
sed -e '/^#/d' -e '/^$/d' -e 's/ .*//' "$irrelevant" >"$work/patterns"
failed=0
for libc; do
  nm -D --defined-only "$libc" | awk '{print $3}' | sed -n 's/@@*GLIBC_2\.\([0-9]*\).*/ \1/p' |
    awk '$2 > 36 {print $1}' | sort -u >"$work/newer"
  version=$(nm -D --defined-only "$libc" | sed -n 's/.* A GLIBC_\(2\.[0-9]*\)$/\1/p' | sort -t. -k2n | tail -n 1)
  [ -s "$work/newer" ] || { echo "newer_libc: nothing newer than 2.36 in glibc $version" >&2; failed=1; continue; }
  comm -23 "$work/newer" "$work/listed" | comm -23 - "$work/excluded" | grep -vxf "$work/patterns" >"$work/open"
  if [ -s "$work/open" ]; then
    echo "newer_libc: glibc $version has brought names that stand in no list:" >&2
    sed 's/^/    /' "$work/open" >&2
    failed=1
  else
    echo "glibc $version: $(wc -l <"$work/newer") names since 2.36, all in a list"
  fi
done
exit "$failed"
