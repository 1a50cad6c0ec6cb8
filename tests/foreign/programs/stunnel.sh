#!/usr/bin/env bash
# stunnel, as server and as client, with threads: TLS end to end over two hops of poll().
. "$(dirname "$0")/../../e2e/lib.sh"
need stunnel socat openssl
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 30 -keyout "$work/key" \
  -out "$work/certificate" 2>/dev/null
cat "$work/key" "$work/certificate" >"$work/pem"
numbers 8000000 >"$work/large"

scenario() {
  pick_port echo_port
  pick_port tls_port
  pick_port plain_port
  printf '%s\n' foreground=yes pid= syslog=no debug=3 "cert=$work/pem" '[s]' "accept=127.0.0.1:$tls_port" \
    "connect=127.0.0.1:$echo_port" >"$work/server.conf"
  printf '%s\n' foreground=yes pid= syslog=no debug=3 client=yes '[c]' "accept=127.0.0.1:$plain_port" \
    "connect=127.0.0.1:$tls_port" >"$work/client.conf"
  start echo socat "TCP-LISTEN:$echo_port,fork,reuseaddr,bind=127.0.0.1" EXEC:cat
  start server stunnel "$work/server.conf"
  start client stunnel "$work/client.conf"
  listening "$echo_port"; listening "$tls_port"; listening "$plain_port"
  for _ in 1 2 3 4; do
    run socat -t 20 - "TCP:127.0.0.1:$plain_port" <"$work/large" | sha256sum
    run openssl s_client -quiet -ign_eof -connect "127.0.0.1:$tls_port" 2>/dev/null <<<'one line' >"$work/line" &
    local client=$!
    eventually grep -q 'one line' "$work/line"
    kill "$client" 2>/dev/null
    wait "$client" 2>/dev/null || true
    cat "$work/line"
  done
  stop client; stop server; stop echo
}

both scenario
expect_fifo stunnel socat
both scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo stunnel socat
