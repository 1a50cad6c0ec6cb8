#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over the sources: `tidy.sh [--quick] [--build DIR] [FOLDER...]`, by default all folders. It
# reads the compile commands of a configured build (build/release). What no build compiles (programs of the Xen lab) is
# left out. Nine
# tenths of the time are the analyser's, which --quick leaves out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build=build/release
checks=()
if [[ ${1:-} == --quick ]]; then
  checks=('--checks=-clang-analyzer-*')
  shift
fi
if [[ ${1:-} == --build ]]; then
  build=$2
  shift 2
fi
(($# > 0)) || set -- preload channel discovery tools bench tests
commands=$build/compile_commands.json
[[ -e $commands ]] || { echo "no $commands: cmake --preset release" >&2; exit 1; }

mapfile -t files < <(
  find "$@" -name corpus -prune -o -type f \( -name '*.cc' -o -name '*.c' \) -print | sort |
    while read -r file; do
      ! grep -qF "\"file\": \"$PWD/$file\"" "$commands" || echo "$file"
    done)
((${#files[@]} > 0)) || { echo "nothing below $* is compiled in $build" >&2; exit 1; }
status=0
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$build" "${checks[@]}" --quiet --warnings-as-errors='*' 2>/dev/null ||
  status=$?
((status == 0)) && echo "${#files[@]} files"
exit "$status"
