#!/usr/bin/env bash
# Servers whose sockets come from somebody else: systemd-socket-activate with and without --accept
# (the program has the connection, or the listening socket, from its start), and inetd.
. "$(dirname "$0")/../../e2e/lib.sh"
need socat systemd-socket-activate python3
inetd=$(command -v inetd || command -v openbsd-inetd || true)
numbers 30000000 >"$work/large"
cat >"$work/listener.py" <<'END'
import socket
server = socket.socket(fileno=3)
while True:
    connection, _ = server.accept()
    while piece := connection.recv(70000):
        connection.sendall(piece.swapcase())
    connection.close()
END

# systemd-socket-activate gives its programs an environment of their own.
keep=(-E LD_PRELOAD -E XENLOOP_STATS -E XENLOOP_UPGRADE_AFTER)

scenario() {
  pick_port each_port
  pick_port whole_port
  start each systemd-socket-activate "${keep[@]}" --inetd --accept -l "127.0.0.1:$each_port" tr 0-4 a-e
  start whole systemd-socket-activate "${keep[@]}" -l "127.0.0.1:$whole_port" "$python" "$work/listener.py"
  listening "$each_port"; listening "$whole_port"
  for _ in 1 2; do
    run socat -t 20 - "TCP:127.0.0.1:$each_port" <"$work/large" | sha256sum
    run socat -t 20 - "TCP:127.0.0.1:$whole_port" <"$work/large" | sha256sum
  done
  kill "${server[each]}" "${server[whole]}"; finish each; finish whole
  if [[ -n $inetd && $(id -u) == 0 ]]; then
    pick_port inetd_port
    printf '127.0.0.1:%s stream tcp nowait root /usr/bin/tr tr 0-4 a-e\n' "$inetd_port" >"$work/inetd.conf"
    start inetd "$inetd" -i -d "$work/inetd.conf"
    listening "$inetd_port"
    for _ in 1 2; do run socat -t 20 - "TCP:127.0.0.1:$inetd_port" <"$work/large" | sha256sum; done
    kill "${server[inetd]}"; finish inetd
  fi
}

both scenario
expect_fifo socat
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo socat
