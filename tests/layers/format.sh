#!/usr/bin/env bash
# All C and C++ is formatted as clang-format 14 has it (.clang-format). `format.sh --fix` makes it so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Other versions have other opinions.
formatter=
for candidate in clang-format-14 clang-format; do
  case $("$candidate" --version 2>/dev/null || true) in
    *' 14.'*) formatter=$candidate; break ;;
  esac
done
if [[ -z $formatter ]]; then
  echo "clang-format 14 is not installed"
  [[ ${XENLOOP_CI:-} != 1 ]] || exit 1
  exit 77
fi

mapfile -d '' -t files < <(
  find preload channel discovery tools bench tests -name corpus -prune -o \
    -type f \( -name '*.h' -o -name '*.cc' -o -name '*.c' \) -print0)
((${#files[@]} > 100)) || { echo "only ${#files[@]} files found"; exit 1; }
if [[ ${1:-} == --fix ]]; then
  exec "$formatter" -i "${files[@]}"
fi

# That it can fail.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf 'int  Planted( ){return 0;}\n' >"$scratch/planted.cc"
if "$formatter" --style=file:.clang-format --dry-run -Werror "$scratch/planted.cc" 2>/dev/null; then
  echo "a planted line is not found"
  exit 1
fi

if ! printf '%s\0' "${files[@]}" |
  xargs -0 -n 40 -P "$(nproc)" "$formatter" --dry-run -Werror 2>"$scratch/found"; then
  grep 'error:' "$scratch/found" || cat "$scratch/found"
  echo "tests/layers/format.sh --fix"
  exit 1
fi
echo "${#files[@]} files"
