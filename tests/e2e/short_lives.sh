#!/usr/bin/env bash
# Short connections that are parked (XENLOOP_PARK=on): a scripted client and server write down what every call gives, and
# that is the same as without the library, but that most lives went by FIFO; a server that is killed and comes back gives
# no wrong byte; and killed clients leave no descriptor behind in the server.
. "$(dirname "$0")/lib.sh"
lives=$build/bin/short-lives
[[ -x $lives ]] || fail "$lives is missing (build it first)"
pick_port port

begin() { start "$1" "$lives" server "$port"; listening "$port"; }

# What both of them write down.
traces() {
  begin server
  run "$lives" client "$port"
  timeout 10 "$lives" quit "$port"
  finish server
  echo "server ended with $finished"
  cat "$work/$mode.server.log"
}
both traces XENLOOP_PARK=on
many() { (($(sed -n 's/.*"lives":{"connected":\([0-9]*\).*/\1/p' "$work"/stats*.json | sort -n | tail -n 1) >= 100)); }
many || fail "not many lives went by FIFO: $(cat "$work"/stats*.json)"

with_library XENLOOP_PARK=on
begin storm
run "$lives" storm "$port" 15000 2>"$work/storm.stderr" &
client=$!
for _ in 1 2 3 4 5 6; do
  sleep 0.4
  stop storm KILL >/dev/null
  begin storm
done
wait "$client" || fail "a client of servers that were killed ended with $?: $(tail -n 3 "$work/storm.stderr")"

# Each client has lives, and is killed.
kill_clients() {
  local client
  for _ in 1 2 3 4 5 6; do
    setsid "${client_prefix[@]}" "$lives" storm "$port" 100000000 >/dev/null 2>&1 {out}>&- &
    client=$!
    sleep 0.4
    kill -KILL "$client"
    wait "$client" 2>/dev/null || true
  done
}
descriptors() { find "/proc/${server[storm]}/fd" -mindepth 1 | wc -l; }
settled() { local n; n=$(descriptors); sleep 2; (($(descriptors) == n)); }
as_before() { (($(descriptors) <= before)); }
kill_clients            # from now on the server has an agent
eventually settled
before=$(descriptors)
kill_clients
eventually as_before
echo "ok $case_name: $(tail -n 1 "$work/storm.stderr"); $before descriptors" >&"$out"
