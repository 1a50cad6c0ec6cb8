# In a root that has the cross compiler and arm64's libraries: see run.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=build/arm64
mkdir -p build
cmake --preset arm64 >build/configure-arm64.log 2>&1 || { cat build/configure-arm64.log; exit 1; }
cmake --build --preset arm64 --target xenloop xenloop_cli xenloopd channel_test discovery_test reasons_table rendezvous_test \
  preload_test transport_contract_test xenloop-simulation xenloop-datagram-simulation stream-check
[[ ${1:-} != --build-only ]] || exit 0
ctest --test-dir $build --output-on-failure --no-tests=error \
  -R '^(unit_(channel|discovery|rendezvous|preload)|reasons_readme|contract_.*|simulation(_mutants|_datagrams|_datagrams_mutants)?)$'

# A program with the library, both ends under the emulator. That stands in for the kernel and tells too little of a connection:
# every byte comes, by TCP, and the reason is given.
library=$PWD/$build/lib/libxenloop.so statistics=$PWD/$build/statistics port=27191
rm -f "$statistics"
emulated() { timeout 100 qemu-aarch64 -E LD_PRELOAD="$library" -E XENLOOP_STATS="$statistics" "$build/bin/stream-check" "$@"; }
emulated receive "$port" 7 &
receiver=$!
sleep 2
emulated send "$port" 7 20000000
wait "$receiver"
[[ $(grep -c 'the kernel does not tell enough of a connection' "$statistics") == 2 ]] || { cat "$statistics"; exit 1; }
echo "arm64: right"
