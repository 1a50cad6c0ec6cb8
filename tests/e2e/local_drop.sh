#!/usr/bin/env bash
# Segments that the sender's own machine drops (a full queue, a firewall): TCP sends them again, and the
# switch to the FIFO happens at the right byte all the same. See local_drop.py.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
need ip unshare tc
[[ -n $python ]] || skip "python3 is not installed"

exchange() {
  pick_port port
  start server "$python" "$source_dir/tests/e2e/local_drop.py" server "$port"
  listening "$port"
  local status=0
  run "$python" "$source_dir/tests/e2e/local_drop.py" client "$port" "$1" || status=$?
  echo "client: exit $status"
  finish server
  echo "server: exit $finished"
}

scenario() {
  exchange plain
  exchange drop
}

both scenario
expect_fifo python3
