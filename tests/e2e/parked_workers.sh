#!/usr/bin/env bash
# Short connections (XENLOOP_PARK=on at both ends) to an nginx whose workers share a listener, or have one each by
# SO_REUSEPORT, while workers are stopped, killed and replaced: all requests are answered as without the library. None is
# parked there, and the statistics, `xenloop stat` and the doctor say why.
. "$(dirname "$0")/lib.sh"
need nginx ab wrk curl pgrep
. "$(dirname "$0")/nginx.bash"
mkdir "$work/www"
numbers 1024 >"$work/www/1k"
numbers 300000 >"$work/www/300k"

apache_bench() {
  run ab -q -s 20 "$@" >"$work/$mode.ab.log" 2>&1
  grep -E '^(Complete|Failed|Write errors|Non-2xx|HTML transferred)' "$work/$mode.ab.log"
}
workers() { pgrep -P "${server[nginx]}" -f 'nginx: worker process$'; }
# A load goes on while something befalls the workers. (-r: who is killed takes his connections with him.)
under_load() {
  run ab -q -r -s 20 -c 4 -n 2500 "http://127.0.0.1:$port/1k" >"$work/$mode.load.log" 2>&1 &
  local load=$!
  sleep 0.2
  "$@"
  wait "$load" || fail "ab ended with $? while: $*"
  grep -E '^(Complete|Non-2xx)' "$work/$mode.load.log"
}
stop_and_go() { local w; for w in $(workers); do kill -STOP "$w"; sleep 0.3; kill -CONT "$w"; done; }
kill_some() { local i; for i in 1 2 3; do kill -KILL "$(workers | head -n 1)"; sleep 0.1; done; }
reload() { local i; for i in 1 2 3; do kill -HUP "${server[nginx]}"; sleep 0.2; done; }

shared="not parked: the listener belongs to several processes"
told() {
  local worker
  worker=$(workers | head -n 1)
  "$tool" doctor "$worker" >"$work/doctor.log" 2>&1 || true
  grep -q "$shared" "$work/doctor.log" && "$tool" stat | grep -q "short connections: $shared"
}

serve_and_ask() {
  pick_port port
  start_nginx "$@"
  local url=http://127.0.0.1:$port
  apache_bench -c 8 -n 1000 "$url/1k"
  apache_bench -c 1 -n 500 "$url/1k"
  apache_bench -c 4 -n 100 "$url/300k"
  [[ $mode == native ]] || eventually told
  run wrk -t 1 -c 8 -d 1 -H 'Connection: close' "$url/1k" >"$work/$mode.wrk.log"
  absent 'Socket errors|Non-2xx' "$work/$mode.wrk.log"
  for _ in {1..10}; do run curl -sS -m 10 "$url/1k"; done | sha256sum
  under_load stop_and_go
  under_load kill_some
  under_load reload
  stop nginx QUIT
}

scenario() {
  serve_and_ask 2
  serve_and_ask 4 reuseport
}
both scenario XENLOOP_PARK=on
[[ ${E2E_NATIVE:-} == 1 ]] && exit 0
counted() { jq -es --arg p "$1" --arg words "$2" 'map(select(.program == $p and .not_parked[$words] > 0)) | length > 0' "$stats"; }
counted nginx "$shared" >/dev/null || fail "the statistics of nginx do not say: $shared"
none="not parked: the library knows no such listener there"
counted ab "$none" >/dev/null || fail "the statistics of ab do not say: $none"
