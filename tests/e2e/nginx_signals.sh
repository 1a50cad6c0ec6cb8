#!/usr/bin/env bash
# nginx under load, and signals to its worker while it looks for the next request: each of 50 SIGTERMs
# ends it, each of 10 reloads its predecessor. The load is stopped first, so that no further request
# wakes a worker that has missed a signal.
. "$(dirname "$0")/lib.sh"
need nginx wrk curl pgrep
. "$(dirname "$0")/nginx.bash"

mkdir "$work/www"
numbers 1024 >"$work/www/1k"

worker() { pgrep -nP "${server[nginx]}" -f 'nginx: worker process$'; }
another_worker() { now=$(worker) && [[ $now != "$1" ]]; }
served() { curl -sS -m 5 -o /dev/null "http://127.0.0.1:$port/1k"; }

# The worker is gone within two seconds.
gone() {
  local i
  for ((i = 0; i < 200; i++)); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.01; done
  return 1
}

scenario() {
  pick_port port
  start_nginx 1
  eventually served
  local ended_by_term=0 ended_by_reload=0 i old now load
  "${client_prefix[@]}" wrk -t 1 -c 2 -d 80 "http://127.0.0.1:$port/1k" >"$work/$mode.wrk.log" 2>&1 {out}>&- &
  load=$!
  cleanups+=("kill -KILL $load")
  sleep 0.5
  for ((i = 0; i < 60; i++)); do
    old=$(worker)
    sleep 0.0$((RANDOM % 5 + 1))
    if ((i < 50)); then
      kill -STOP "$load"; kill -TERM "$old"
      if gone "$old"; then ended_by_term=$((ended_by_term + 1)); else kill -KILL "$old"; fi
    else
      kill -HUP "${server[nginx]}"
      if gone "$old"; then ended_by_reload=$((ended_by_reload + 1)); else kill -KILL "$old"; fi
    fi
    kill -CONT "$load"
    eventually another_worker "$old"
  done
  kill -INT "$load" 2>/dev/null || true
  wait "$load" 2>/dev/null || true
  echo "of 50 SIGTERMs $ended_by_term, of 10 reloads $ended_by_reload have ended the worker"
  stop nginx QUIT
}

both scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo nginx
