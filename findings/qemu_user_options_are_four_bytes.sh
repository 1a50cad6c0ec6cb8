#!/usr/bin/env bash
# Under qemu's user-mode emulation TCP_INFO succeeds with four bytes, and a congestion control has a name of four.
#
# Guess:   getsockopt(TCP_INFO, 256) gives as many bytes as the host's kernel has, or fails with ENOPROTOOPT where the
#          emulator does not know the structure.
# Subject: qemu-user-static 7.2 (Debian 12), emulating x86-64 on x86-64, so that nothing else differs.
# Seen:    every option of IPPROTO_TCP is taken for an int: TCP_INFO returns 0 with a length of 4 (state, and three
#          more bytes), TCP_CONGESTION the first four bytes of the name.
# Matters: who reads counters of TCP_INFO must look at the length that came back: here they are whatever stood in
#          the program's own buffer. A loop "until two readings agree" may never end.
# Source:  none known; qemu's documentation of user-mode emulation does not name socket options.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[[ $(uname -m) == x86_64 ]] || { echo "needs an x86-64 machine"; exit 77; }
version=$(apt-cache madison qemu-user-static 2>/dev/null | awk '$3 ~ /^1:7\.2\+dfsg-7\+deb12u/ {print $3; exit}')
[[ -n $version ]] || { echo "this version is not offered any more"; exit 77; }
(cd "$scratch" && apt-get download "qemu-user-static=$version" >log 2>&1) ||
  { echo "this version is not offered any more"; exit 77; }
dpkg-deb -x "$scratch"/*.deb "$scratch"
echo "qemu-user-static $version"

cat >"$scratch/ask.py" <<'PYTHON'
import socket
listener = socket.create_server(("127.0.0.1", 0))
near = socket.create_connection(listener.getsockname())
far, _ = listener.accept()
far.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
near.send(b"12345")
far.recv(5)
name = far.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
print("long" if len(far.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)) > 150 else
      len(far.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)), len(name))
PYTHON
native=$(python3 "$scratch/ask.py")
emulated=$("$scratch/usr/bin/qemu-x86_64-static" "$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')" "$scratch/ask.py" 2>&1) || true
echo "bytes of TCP_INFO and of TCP_CONGESTION, natively: $native"
echo "the same under qemu:                               $emulated"
[[ $native == "long 16" ]] || { echo "something else than the finding went wrong"; exit 1; }
[[ $emulated == "4 4" ]] || { echo "CHANGED: other lengths"; exit 1; }
echo "as found"
