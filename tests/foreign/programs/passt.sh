#!/usr/bin/env bash
# passt, which locks itself in before its first connection and answers a guest's TCP from ordinary sockets:
# a guest's connection to an echo server on this machine, spoken as a virtual machine would speak it.
. "$(dirname "$0")/../../e2e/own_namespaces.bash"
. "$(dirname "$0")/../../e2e/lib.sh"
need passt ip
need_root
[[ -n $python ]] || skip "python3 is not installed"
ip link add outside type veth peer name beyond
ip link set beyond up
ip address add 198.51.100.2/24 dev outside
ip link set outside up
ip route add default via 198.51.100.1

cat >"$work/echo.py" <<'END'
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer, _ = listener.accept()
    try:
        while block := peer.recv(65536):
            peer.sendall(block)
    except ConnectionResetError:  # so the guest ends
        pass
    peer.close()
END

scenario() {
  pick_port port
  start echo "$python" "$work/echo.py" "$port"
  listening "$port"
  rm -f "$work/guest"
  start passt passt -f -1 -s "$work/guest" --runas 0
  eventually test -S "$work/guest"
  run "$python" "$(dirname "$0")/passt_guest.py" "$work/guest" "$port" 198.51.100.1
  finish passt
  echo "passt: exit $finished"
  stop echo
}

both scenario
again scenario XENLOOP_UPGRADE_AFTER=0
