#!/usr/bin/env bash
# The checks of .clang-tidy over the sources: `tidy.sh [--deep] [--build DIR] [FOLDER...]`, by default all folders. It
# reads the compile commands of a configured build (build/release). What no build compiles (programs of the Xen lab) is
# left out.
#
# clangd runs the checks, on what is written in each file and not on all that it includes: three minutes for everything.
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
needed=$([[ $deep == yes ]] && echo clang-tidy || echo clangd)
command -v "$needed" >/dev/null || { echo "$needed is not installed" >&2; exit 77; }

compiled() { find "$@" -name corpus -prune -o -type f \( -name '*.cc' -o -name '*.c' \) -print | sort |
  grep -Fxf <(jq -r --arg here "$PWD/" '.[].file | ltrimstr($here)' "$commands"); }

deeply() { clang-tidy -p "$1" --quiet "$2" 2>/dev/null; }

# Of a finding clangd tells the line, not the file.
quickly() {
  local told
  told=$(clangd --compile-commands-dir="$1" --check="$2" --check-lines=1-1 --log=error 2>&1) && [[ -z $told ]] ||
    { sed -E "s#^E\[[0-9:.]*\] #$2: #" <<<"$told"; return 1; }
}
export -f deeply quickly

mapfile -t files < <(compiled "$@"; [[ $deep == yes ]] || find "$@" -name '*.h' | sort)
((${#files[@]} > 0)) || { echo "nothing below $* is compiled in $build" >&2; exit 1; }
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "$(nproc)" bash -c "$([[ $deep == yes ]] && echo deeply || echo quickly) \"\$@\"" tidy "$build" || exit 1
echo "${#files[@]} files"
