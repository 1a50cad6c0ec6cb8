#!/usr/bin/env bash
# haproxy between client and server: HTTP, and TCP with splice(), which needs the kernel's socket.
. "$(dirname "$0")/../../e2e/lib.sh"
need haproxy curl socat
mkdir "$work/www"
numbers 40000000 >"$work/www/large"
numbers 300 >"$work/www/small"

scenario() {
  pick_port http_port
  pick_port splice_port
  pick_port web_port
  pick_port echo_port
  cat >"$work/haproxy.cfg" <<END
global
  maxconn 200
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen http
  mode http
  bind 127.0.0.1:$http_port
  server web 127.0.0.1:$web_port
listen splice
  mode tcp
  option splice-request
  option splice-response
  bind 127.0.0.1:$splice_port
  server echo 127.0.0.1:$echo_port
END
  start web "$python" -u -m http.server --bind 127.0.0.1 --directory "$work/www" "$web_port"
  start echo socat -t 20 "TCP-LISTEN:$echo_port,fork,reuseaddr,bind=127.0.0.1" EXEC:cat
  start haproxy haproxy -db -f "$work/haproxy.cfg"
  listening "$web_port"; listening "$echo_port"; listening "$http_port"; listening "$splice_port"
  local url=http://127.0.0.1:$http_port i
  for i in 1 2 3 4; do
    run curl -sS "$url/large" "$url/small" "$url/large" | sha256sum
    run curl -sS -o /dev/null -w '%{http_code}\n' "$url/none"
    run socat -t 20 - "TCP:127.0.0.1:$splice_port" <"$work/www/large" | sha256sum
  done
  stop haproxy; stop echo
  kill -KILL "${server[web]}"; finish web
}

both scenario
expect_fifo curl
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo curl
