#!/usr/bin/env bash
# Equal addresses and ports in two network namespaces, both connections held by the same two
# programs and busy at once; and a server that gives up its user in mid-stream. See twins.py.
. "$(dirname "$0")/lib.sh"
need_root
[[ -n $python ]] || skip "python3 is not installed"

scenario() { run "$python" "$source_dir/tests/e2e/twins.py" "$@"; }
dropping() { scenario drop; }

both scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo python3
both dropping XENLOOP_UPGRADE_AFTER=0
expect_fifo python3
again dropping
