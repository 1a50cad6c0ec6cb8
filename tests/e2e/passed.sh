#!/usr/bin/env bash
# Servers that accept in one process and answer in another, to which they pass the connection by SCM_RIGHTS: at once,
# after some lines of it, and as Node's cluster does. Every answer is checked, and the workers' bytes go by FIFO.
. "$(dirname "$0")/lib.sh"
[[ -n $python ]] || skip "python3 is not installed"
here=$(dirname "$0")

# scenario: as many lines answered before as $rounds says.
scenario() {
  pick_port port
  start server "$python" "$here/passed.py" serve "$port" "$rounds"
  listening "$port"
  run "$python" "$here/passed.py" ask "$port"
  finish server
  echo "the server ended with $finished"
}
in_node() {
  pick_port port
  run node "$here/cluster.js" "$port" 6 300
}

for rounds in 0 5 100; do
  both scenario
  expect_fifo python3
done
rounds=50
both scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo python3
if command -v node >/dev/null; then
  both in_node
  expect_fifo node
else
  echo "not tried with Node's cluster: node is not installed"
fi
