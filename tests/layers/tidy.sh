#!/usr/bin/env bash
# The checks of .clang-tidy over the sources: `tidy.sh [--deep] [--build DIR] [FOLDER...]`, by default all folders. It
# reads the compile commands of a configured build (build/release). What no build compiles (programs of the Xen lab) is
# left out.
#
# clangd runs the checks, on what is written in each file and not on all that it includes: five minutes for everything. What
# has been found clean is kept (tidy_keys.py), in ${XDG_CACHE_HOME:-~/.cache}/xenloop-tidy, and not checked again.
# --deep takes clang-tidy itself, with the analyser and the few checks that clangd leaves out: an hour.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build=build/release
deep=no
if [[ ${1:-} == --deep ]]; then
  deep=yes
  shift
fi
if [[ ${1:-} == --build ]]; then
  build=$2
  shift 2
fi
(($# > 0)) || set -- preload channel discovery tools bench tests
commands=$build/compile_commands.json
[[ -e $commands ]] || { echo "no $commands: cmake --preset release" >&2; exit 1; }
# Other versions have other opinions.
needed=$([[ $deep == yes ]] && echo clang-tidy || echo clangd)
if [[ $("$needed" --version 2>/dev/null || true) != *' version 14.'* ]]; then
  echo "$needed 14 is not installed"
  [[ ${XENLOOP_CI:-} != 1 ]] || exit 1
  exit 77
fi

compiled() { find "$@" -name corpus -prune -o -type f \( -name '*.cc' -o -name '*.c' \) -print | sort |
  grep -Fxf <(jq -r --arg here "$PWD/" '.[].file | ltrimstr($here)' "$commands"); }

known=${XDG_CACHE_HOME:-$HOME/.cache}/xenloop-tidy
mkdir -p "$known"
find "$known" -type f -mtime +30 -delete

deeply() { clang-tidy -p "$1" --quiet "$2" 2>/dev/null; }

# Of a finding clangd tells the line, not the file.
quickly() {
  local told
  told=$(clangd --compile-commands-dir="$1" --check="$2" --check-lines=1-1 --log=error 2>&1) && [[ -z $told ]] ||
    { sed -E "s#^E\[[0-9:.]*\] #$2: #" <<<"$told"; return 1; }
  [[ -z ${3:-} ]] || : >"$known/$3"
}
export -f deeply quickly
export known

mapfile -t files < <(compiled "$@" || true; [[ $deep == yes ]] || find "$@" -name '*.h' | sort)
((${#files[@]} > 0)) || { echo "nothing below $* is compiled in $build" >&2; exit 1; }

# That it can fail.
check=$([[ $deep == yes ]] && echo deeply || echo quickly)
planted=$build/planted.cc
trap 'rm -f "$planted" "$planted.files"' EXIT
printf 'int Planted() {\n  int BadName = 0;\n  return BadName;\n}\n' >"$planted"
! found=$("$check" "$build" "$planted") || { echo "a planted violation was not noticed" >&2; exit 1; }
[[ $found == *readability-identifier-naming* ]] || { echo "the planted violation is told as: $found" >&2; exit 1; }

if [[ $deep == yes ]]; then
  printf '%s\n' "${files[@]}"
else
  tests/layers/tidy_keys.py "$build" "${files[@]}" | while read -r key file; do
    [[ -e $known/$key ]] || echo "$file $key"
  done
fi >"$planted.files"
xargs -a "$planted.files" -r -L 1 -P "$(nproc)" bash -c "$check \"\$@\"" tidy "$build" || exit 1
echo "${#files[@]} files, $(wc -l <"$planted.files") of them checked now"
