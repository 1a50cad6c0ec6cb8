#!/usr/bin/env bash
# gRPC between Python processes: HTTP/2 by grpc's C core, edge-triggered epoll shared by threads, flow
# control in both directions at once. TCP_INQ tells it with each message how much is left to read.
. "$(dirname "$0")/../../e2e/lib.sh"
need python3
"$python" -c 'import grpc' 2>/dev/null || skip "python3-grpcio is not installed"
peer=$(dirname "$0")/grpc_peer.py

scenario() {
  pick_port port
  start server "$python" "$peer" server "$port"
  listening "$port"
  for _ in 1 2; do
    run "$python" "$peer" client "$port"
    run "$python" "$peer" client "$port" >"$work/beside" &
    local beside=$!
    run "$python" "$peer" client "$port"
    wait $beside
    cat "$work/beside"
  done
  stop server
}

both scenario
expect_fifo python3
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo python3
