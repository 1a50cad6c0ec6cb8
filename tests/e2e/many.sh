#!/usr/bin/env bash
# Many connections of two processes that all become hot at once, more than the agents' sockets hold
# offers for: every end is upgraded in the end, and no reason is left. Then a server that is stopped
# while its client makes its offers: nothing waits for it, the client's other server is served, and
# when it goes on all is made up for.
#
#   tests/e2e/many.sh [CONNECTIONS]    3000; by hand 9000
# In a network namespace of its own: nobody else is asked by `xenloop stat`, and no port is in use.
. "$(dirname "$0")/own_namespaces.bash"
. "$(dirname "$0")/lib.sh"
many=$build/bin/many-sockets
[[ -x $many ]] || fail "$many is missing (build it first)"
connections=${1:-3000}
limit=$(ulimit -Hn)
((connections + 200 <= limit)) || connections=$((limit - 200))

# all_up NAME...: so many ends of each of these processes are on FIFOs; natively there is nothing to ask.
all_up() {
  [[ $mode == native ]] && return 0
  local name upgraded
  for name; do
    upgraded=$("$tool" stat --json |
      jq -s --argjson pid "${server[$name]}" '[.. | objects | select(.pid? == $pid and .route_send? == "local" and
        .route_receive == "local")] | length')
    ((upgraded == connections)) || return 1
  done
}

no_reason() {
  [[ $mode == native ]] && return 0
  "$tool" stat --json >"$work/stat.json"
  jq -es '[.. | objects | select(.fd? and .reason != "")] == []' "$work/stat.json" >/dev/null ||
    fail "reasons: $(jq -rs '[.. | objects | select(.fd? and .reason != "") | .reason] | group_by(.) | map("\(.[0]): \(length)") | .[]' "$work/stat.json")"
}

scenario() {
  pick_port port
  start server "$many" serve "$port"
  listening "$port"
  start client "$many" ask "$port" "$connections"
  eventually grep -q asked "$work/$mode.client.log"
  eventually all_up server client
  no_reason
  stop client
  cat "$work/$mode.client.log"
  stop server
}

stopped() {
  local connections=1000
  pick_port port
  start server "$many" serve "$port"
  listening "$port"
  pick_port other
  start other "$many" serve "$other"
  listening "$other"
  start asker "$many" pause "$port" "$connections" "${server[server]}" "$other"
  eventually grep -q asked "$work/$mode.asker.log"
  eventually all_up server other
  stop asker
  cat "$work/$mode.asker.log"
  stop server
  stop other
}

both scenario
expect_fifo many-sockets
both stopped
expect_fifo many-sockets
