# Every source file by each of these compilers, with the warnings of the build as errors: warnings.sh COMPILER...
# (g++, clang++, clang++-19). In the source tree, or in a root of some release: tests/releases/run --warnings.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# clang warns of what it reads, g++ also of what it finds while it optimises.
checked() { # checked FOLDER COMMAND: prints what the compiler says
  local how=-fsyntax-only
  [[ $2 == *clang* ]] || how='-o /dev/null -c'
  cd "$1" && eval "$(sed -E "s# -o [^ ]+ -c # $how #" <<<"$2")" 2>&1
}
export -f checked

for compiler; do
  build=build/warnings-$compiler
  mkdir -p "$build"
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DXENLOOP_WERROR=ON -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_C_COMPILER="$(sed 's/clang++/clang/; s/g++/gcc/' <<<"$compiler")" >"$build/configure.log" 2>&1 ||
    { tail -n 20 "$build/configure.log"; exit 1; }
  jq -j '.[] | select(.file | test("\\.(c|cc)$")) | .directory, "\u0000", .command, "\u0000"' \
    "$build/compile_commands.json" >"$build/commands"
  # That it can fail: a narrowing that is no error of the language.
  printf 'int Planted(long wide);\nint Planted(long wide) {\n  int narrow = wide;\n  return narrow;\n}\n' >"$build/planted.cc"
  planted=$(sed -zn '2{s# -c .*# -c planted.cc#;p}' "$build/commands" | tr -d '\0')
  ! (checked "$PWD/$build" "$planted" >"$build/planted.log") && grep -q conver "$build/planted.log" ||
    { cat "$build/planted.log"; echo "$compiler: a planted warning was not noticed" >&2; exit 1; }
  count=$(tr -cd '\0' <"$build/commands" | wc -c)
  xargs -0 -n 2 -P "$(nproc)" bash -c 'checked "$@" || exit 1' _ <"$build/commands" >"$build/found.log" ||
    { cat "$build/found.log"; exit 1; }
  [[ ! -s $build/found.log ]] || { cat "$build/found.log"; exit 1; }
  echo "$("$compiler" --version | head -n 1): $((count / 2)) files, no warning"
done
