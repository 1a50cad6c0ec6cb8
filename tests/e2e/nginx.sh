#!/usr/bin/env bash
# nginx with two workers: wrk and ab over kept connections, ab with a connection a request, a 10 MB
# file through sendfile. No socket error, no refused or cut answer; every download has the right
# checksum.
. "$(dirname "$0")/lib.sh"
need nginx wrk ab curl
. "$(dirname "$0")/nginx.bash"

mkdir "$work/www"
numbers 1024 >"$work/www/1k"
numbers 300000 >"$work/www/300k"
numbers 10000000 >"$work/www/10m"

# ab: complete, no failures, no non-2xx, no write errors.
apache_bench() {
  run ab -q "$@" >"$work/$mode.ab.log" 2>&1
  grep -E '^(Complete|Failed|Write errors|Non-2xx|HTML transferred)' "$work/$mode.ab.log"
}

scenario() {
  pick_port port
  start_nginx 2 "reuseport; listen [::1]:$port"
  local url=http://127.0.0.1:$port
  # Again and again: wrk calls it an error when a socket reported readable then says EAGAIN.
  for _ in {1..5}; do run wrk -t 2 -c 20 -d 1 "$url/1k"; done >"$work/$mode.wrk.log"
  absent 'Socket errors|Non-2xx' "$work/$mode.wrk.log"
  run wrk -t 1 -c 4 -d 1 "$url/300k" >"$work/$mode.wrk2.log"
  absent 'Socket errors|Non-2xx' "$work/$mode.wrk2.log"
  apache_bench -k -c 8 -n 20000 "$url/1k"
  apache_bench -c 4 -n 2000 "$url/1k"
  apache_bench -c 4 -n 200 "$url/300k"
  run curl -sS "$url/10m" | sha256sum
  run curl -sS "$url/10m" "$url/10m" "$url/1k" "$url/300k" "$url/10m" | sha256sum
  run curl -gsS "http://[::1]:$port/10m" "http://[::1]:$port/300k" | sha256sum
  run curl -sS --limit-rate 20M -r 1000-4999999 "$url/10m" | sha256sum
  run curl -sS -o /dev/null -w '%{http_code}\n' "$url/missing"
  stop nginx QUIT
}

both scenario
expect_fifo nginx wrk ab curl
# Every connection offered at once: short ones are then caught in the middle of an upgrade.
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo nginx wrk ab curl
