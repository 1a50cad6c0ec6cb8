#!/usr/bin/env bash
# tidy_keys.py: a key stays while nothing changes, be the folder another one, and changes with each thing that it is made of.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v clangd >/dev/null && command -v dpkg-query >/dev/null || { echo "no clangd or no dpkg here"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# key: of a.cc in a folder of its own, where sub/a.cc includes b.h, b.h c.h, and nobody d.h.
made=0
key() {
  local root=$scratch/$((++made))
  mkdir -p "$root/tests/layers" "$root/build" "$root/sub"
  cd "$root"
  echo '#include "b.h"' >sub/a.cc
  echo '#include "c.h"' >b.h
  touch c.h d.h
  echo 'Checks: misc-*' >.clang-tidy
  echo 'InheritParentConfig: true' >sub/.clang-tidy
  touch tests/layers/tidy.sh
  echo "[{\"directory\": \"$root\", \"command\": \"c++ -I$root sub/a.cc\", \"file\": \"$root/sub/a.cc\"}]" >build/compile_commands.json
  "$@"
  "$here/tidy_keys.py" build sub/a.cc
}
append() { echo "// more" >>"$1"; }
other_flags() { sed -i 's/c++ /c++ -O1 /' build/compile_commands.json; }

key true >"$scratch/first"
key append d.h | cmp - "$scratch/first"
for changed in "append sub/a.cc" "append b.h" "append c.h" "append .clang-tidy" "append sub/.clang-tidy" "append tests/layers/tidy.sh" other_flags; do
  key $changed >"$scratch/other"
  ! cmp -s "$scratch/other" "$scratch/first" || { echo "the key does not depend on: $changed"; exit 1; }
done
