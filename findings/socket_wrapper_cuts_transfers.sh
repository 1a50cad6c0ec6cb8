#!/usr/bin/env bash
# Under socket_wrapper a blocking TCP send takes 1,500 bytes, and MSG_WAITALL does not wait for all.
#
# Guess:   a blocking send of 10,000 bytes returns 10,000; recv of 5,000 with MSG_WAITALL returns 5,000, as
#          on TCP and on the UNIX sockets that socket_wrapper puts in TCP's place.
# Subject: libsocket-wrapper 1.3.5-1 (Debian 12).
# Seen:    send, and recv with MSG_WAITALL, are cut to one packet of SOCKET_WRAPPER_MTU (1,500) bytes, whether
#          packets are captured or not. In a sendmsg each piece is measured alone: four of 1,000 bytes
#          go as 4,000, and a piece that is too long ends the call before it.
# Matters: a test suite that uses socket_wrapper shows short counts that no blocking TCP socket has. A library
#          above it that takes a short count for "full" or for the end of the stream is wrong there,
#          and a program without a loop fails there although TCP would carry it.
# Source:  the manual page has SOCKET_WRAPPER_MTU (512 to 32768), but not that calls are cut to it.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download libsocket-wrapper=1.3.5-1 >log 2>&1) ||
  { echo "this version is not offered any more"; exit 77; }
dpkg-deb -x "$scratch"/*.deb "$scratch"
library=$(find "$scratch" -name libsocket_wrapper.so)

cat >"$scratch/transfer.py" <<'PYTHON'
import socket
listener = socket.create_server(("127.0.0.1", 0))
a = socket.create_connection(listener.getsockname())
b, _ = listener.accept()
sent = [a.send(b"x" * 10000), a.sendmsg([b"y" * 1000] * 4)]
total = sum(sent)
while total < 14000:
    total += a.send(b"z" * (14000 - total))
pieces = a.sendmsg([b"v" * 1000, b"w" * 3000])
print(*sent, pieces, len(b.recv(5000, socket.MSG_WAITALL)))
PYTHON
native=$(python3 "$scratch/transfer.py")
mkdir "$scratch/sockets"
wrapped=$(LD_PRELOAD=$library SOCKET_WRAPPER_DIR=$scratch/sockets SOCKET_WRAPPER_DEFAULT_IFACE=10 \
  python3 "$scratch/transfer.py")
echo "send of 10000, sendmsg of 4 * 1000, of 1000 + 3000, recv of 5000 with MSG_WAITALL"
echo "TCP:            $native"
echo "socket_wrapper: $wrapped"
[[ $native == "10000 4000 4000 5000" ]] || { echo "something else than the finding went wrong"; exit 1; }
[[ $wrapped == "1500 4000 1000 1500" ]] || { echo "CHANGED: other counts"; exit 1; }
echo "as found"
