# In a root of some release, whose /source is this source tree: matrix.sh FOLDER fast | redis | nginx | postgresql | openssh.
# The library and the tool `xenloop` are FOLDER's, which were built elsewhere. Of the fast rings those tests are built
# here, with this release's compiler and libraries, that run programs with the library: conformance and abi.
set -Eeuo pipefail
library=$1/libxenloop.so column=$2
folder=$1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CCACHE_DIR=/var/cache/compiled XENLOOP_CI=1
build=/source/build/matrix log=/source/build/matrix-$column.log
mkdir -p /source/build

if [[ $column == fast ]]; then
  cd /source
  # By hand, since the cmake of Debian 11 knows no presets of ours. Quickly compiled: the library is not what is built here.
  # abi_calls calls every function by its name; glibc 2.31 lacks five of them.
  calls=(abi_calls)
  printf '2.35\n%s\n' "$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2)" | sort -V -C || calls=()
  left_out='another_libc|libc_versions|exports|socket_options'
  ((${#calls[@]} > 0)) || { left_out+='|calls_.*'; echo "abi_calls is left out: this libc lacks functions that it calls"; }
  { cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG=-O0 -DCMAKE_CXX_FLAGS_DEBUG=-O0 \
    -DXENLOOP_BUILD_BENCH=OFF -DXENLOOP_TEST_PATIENCE=5 -DCMAKE_FIND_PACKAGE_PREFER_CONFIG=ON \
    -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache &&
    cmake --build "$build" -j "$(nproc)" --target xenloop-conformance "${calls[@]}" early_io early_main behind_main behind_calls \
      behind_tail_calls stopped_clock stopped_clock_main one_thread -- -k 0; } >"$log" 2>&1 ||
    { grep -A12 FAILED: "$log" || tail -n 30 "$log"; exit 1; }
  mkdir -p "$build/lib"
  cp "$library" "$build/lib/libxenloop.so"
  cd "$build"
  ctest -L '^fast$' -R '^(conformance|abi)_' -E "^abi_($left_out)\$" \
    --no-tests=error --parallel "$(nproc)" --repeat until-pass:2 --output-on-failure >"$log" 2>&1 ||
    { tail -n 60 "$log"; exit 1; }
  grep 'tests passed' "$log"
  exit
fi
cd "$folder/source"
if ! "$folder/bin/xenloop" --version >/dev/null 2>&1; then
  # Built for a later release than this: the cases only start programs by it.
  printf '#!/bin/sh\nshift 2\nLD_PRELOAD=%s exec "$@"\n' "$folder/lib/libxenloop.so" >"$folder/bin/xenloop"
fi
case=tests/e2e/$column.sh
[[ -e $case ]] || case=tests/foreign/programs/$column.sh
XENLOOP_BUILD=$folder E2E_PATIENCE=5 bash "$case" >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }
tail -n 1 "$log"
