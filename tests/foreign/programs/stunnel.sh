#!/usr/bin/env bash
# stunnel, as server and as client, with threads: TLS end to end over two hops of poll().
. "$(dirname "$0")/../../e2e/lib.sh"
need stunnel socat openssl
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 30 -keyout "$work/key" \
  -out "$work/certificate" 2>/dev/null
cat "$work/key" "$work/certificate" >"$work/pem"
numbers 8000000 >"$work/large"
numbers 3000 >"$work/small"
# The client ends first, when it has all: stunnel itself loses what it has read and cannot write at
# once when its plain side hangs up, with TCP's buffers seldom, with smaller ones often.
cat >"$work/client.py" <<'END'
import hashlib, socket, ssl, sys, threading
data = open(sys.argv[2], "rb").read()
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_socket(connection)
sender = threading.Thread(target=connection.sendall, args=(data,))
sender.start()
if len(sys.argv) > 3:
    sender.join()  # one thread at a time may use a TLS connection
digest, left = hashlib.sha256(), len(data)
while left > 0 and (piece := connection.recv(50000)):
    digest.update(piece)
    left -= len(piece)
sender.join()
print(left, digest.hexdigest())
END

scenario() {
  pick_port echo_port
  pick_port tls_port
  pick_port plain_port
  printf '%s\n' foreground=yes pid= syslog=no debug=3 "cert=$work/pem" '[s]' "accept=127.0.0.1:$tls_port" \
    "connect=127.0.0.1:$echo_port" >"$work/server.conf"
  printf '%s\n' foreground=yes pid= syslog=no debug=3 client=yes '[c]' "accept=127.0.0.1:$plain_port" \
    "connect=127.0.0.1:$tls_port" >"$work/client.conf"
  start echo socat -t 20 "TCP-LISTEN:$echo_port,fork,reuseaddr,bind=127.0.0.1" EXEC:cat
  start server stunnel "$work/server.conf"
  start client stunnel "$work/client.conf"
  listening "$echo_port"; listening "$tls_port"; listening "$plain_port"
  for _ in 1 2 3 4; do
    run "$python" "$work/client.py" "$plain_port" "$work/large"
    run "$python" "$work/client.py" "$tls_port" "$work/small" tls
  done
  stop client; stop server; stop echo
}

both scenario
expect_fifo stunnel socat
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo stunnel socat
