#!/usr/bin/env bash
# How many files of preload/ and channel/ a recv() runs through that finds its bytes in a FIFO: few enough for a reader to
# follow it. `warm_recv.sh WARM_RECV LIBRARY`; the files are told by the
# debug information of the library, inlined functions included.
set -euo pipefail
program=$1 library=$2 most=9
runtime=$(mktemp -d)
trap 'rm -rf "$runtime"' EXIT
status=0
XENLOOP_RUNTIME_DIR=$runtime XENLOOP_UPGRADE_AFTER=2 LD_PRELOAD=$library timeout 60 "$program" >"$runtime/offsets" ||
  status=$?
((status == 0)) || exit "$status"
steps=$(wc -l <"$runtime/offsets")
sort -u "$runtime/offsets" | addr2line -i -e "$library" | grep -oE '(preload|channel)/[a-z_/]+\.(h|cc)' | sort -u >"$runtime/files"
count=$(wc -l <"$runtime/files")
cat "$runtime/files"
echo "a warm recv: $steps instructions in the library, $count files, of at most $most"
# Without debug information nothing would be found, and that is no pass.
((count > 3 && count <= most))
