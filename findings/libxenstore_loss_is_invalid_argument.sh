#!/usr/bin/env bash
# What a program learns from libxenstore when the connection to xenstored is gone.
#
# Guess:   the descriptor of xs_fileno() becomes readable, as one of a closed socket does; a request that is waiting
#          for its answer then fails with EPIPE, ECONNRESET or ENOTCONN, and what is refused by xenstored itself
#          (EINVAL for a bad path) can be told from that.
# Subject: libxenstore 4.17.7 (Debian 12: libxenstore4 4.17.7+13-g2445b30a44-0+deb12u1). No Xen is needed: the
#          library takes any socket that XENSTORED_PATH names. The same with 4.20.4 (Debian 13).
# Seen:    the descriptor stays silent, so that who waits for a watch waits for ever. The waiting request fails with
#          EINVAL once something is watched (a thread of the library reads then) and with EBADF before; an answer that
#          is too long ends the connection as well and is reported as E2BIG, the error of a request that is too long.
#          Only xs_check_watch() tells: EAGAIN while the connection stands, EINVAL when it is gone.
# Matters: a daemon that polls believes an old table for ever; one that takes EINVAL for its own mistake does not connect again.
# Source:  tools/libs/store/xs.c: read_thread wakes the condition variables and not the pipe; read_reply, "errno = EINVAL".
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
version=4.17.7+13-g2445b30a44-0+deb12u1
(cd "$scratch" && apt-get download "libxenstore4=$version" "libxentoolcore1=$version" >log 2>&1) ||
  { echo "these versions are not offered any more"; exit 77; }
for package in "$scratch"/*.deb; do dpkg-deb -x "$package" "$scratch"; done

cat >"$scratch/client.py" <<'PYTHON'
import ctypes, errno, os, select, socket, struct, sys, threading

path = sys.argv[1] + "/socket"
os.environ["XENSTORED_PATH"] = path
libc = ctypes.CDLL(None)
libc.setenv(b"XENSTORED_PATH", path.encode(), 1)
xs = ctypes.CDLL("libxenstore.so.4", use_errno=True)
for name in ("xs_open", "xs_read", "xs_check_watch"):
    getattr(xs, name).restype = ctypes.c_void_p
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()

def take(connection):                       # one request
    kind, number, _, length = struct.unpack("<4I", connection.recv(16, socket.MSG_WAITALL))
    if length:
        connection.recv(length, socket.MSG_WAITALL)
    return kind, number

def word():
    return errno.errorcode.get(ctypes.get_errno(), "none")

def read(store):
    ctypes.set_errno(0)
    answer = xs.xs_read(store, 0, b"a", ctypes.byref(ctypes.c_uint()))
    return word() if answer is None else "answered"

def watched():
    ctypes.set_errno(0)
    return word() if xs.xs_check_watch(store) is None else "event"

def served(play, call):
    thread = threading.Thread(target=play)
    thread.start()
    result = call()
    thread.join()
    return result

def opened():
    store = ctypes.c_void_p(xs.xs_open(0))
    return store, listener.accept()[0]

def watch():
    kind, number = take(server)
    server.sendall(struct.pack("<4I", kind, number, 0, 3) + b"OK\0")

def refuse():
    _, number = take(server)
    server.sendall(struct.pack("<4I", 16, number, 0, 7) + b"EINVAL\0")

def leave():
    take(server)
    server.shutdown(socket.SHUT_RDWR)
    server.close()

def shout():
    kind, number = take(server)
    server.sendall(struct.pack("<4I", kind, number, 0, 5000))

store, server = opened()
print("nothing watched, closed meanwhile:", served(leave, lambda: read(store)))
store, server = opened()
print("an answer of 5000 bytes:", served(shout, lambda: read(store)))

store, server = opened()
assert served(watch, lambda: xs.xs_watch(store, b"a", b"a"))
print("refused by xenstored:", served(refuse, lambda: read(store)), "xs_check_watch:", watched())
print("closed meanwhile:", served(leave, lambda: read(store)), "then:", read(store), "xs_check_watch:", watched())

store, server = opened()
assert served(watch, lambda: xs.xs_watch(store, b"a", b"a"))
poll = select.poll()
poll.register(xs.xs_fileno(store), select.POLLIN)
server.shutdown(socket.SHUT_RDWR)
server.close()
print("closed while idle: poll:", poll.poll(3000) or "silent for 3 s", "xs_check_watch:", watched())
PYTHON
LD_LIBRARY_PATH=$scratch/usr/lib/$(uname -m)-linux-gnu python3 "$scratch/client.py" "$scratch" | tee "$scratch/seen"

for line in '^nothing watched, closed meanwhile: EBADF$' '^an answer of 5000 bytes: E2BIG$' \
  '^refused by xenstored: EINVAL xs_check_watch: EAGAIN$' '^closed meanwhile: EINVAL then: EBADF xs_check_watch: EINVAL$' \
  '^closed while idle: poll: silent for 3 s xs_check_watch: EINVAL$'; do
  grep -Eq "$line" "$scratch/seen" || { echo "CHANGED: no line '$line'"; exit 1; }
done
echo "as found"
