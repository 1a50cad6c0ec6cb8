#!/usr/bin/env bash
# shutdown() of a TCP listener: SHUT_WR succeeds and does nothing, SHUT_RD ends it, and listen() begins it anew, elsewhere.
#
# Guess:   a listener has no directions: shutdown() says ENOTCONN and changes nothing. If it ends the listener, that is
#          for good, and the port stays the socket's until close().
# Subject: TCP, Linux 6.18.44; only the kernel.
# Seen:    SHUT_WR gives 0, and clients are accepted as before. SHUT_RD gives 0, resets who waits to be accepted,
#          refuses who comes, wakes poll with POLLHUP, and accept says EINVAL; a second listen() makes it a
#          listener again. If the kernel had chosen the port at bind(), getsockname() goes on telling it after the
#          shutdown, but the socket has it no more: listen() gives it another one.
# Matters: who remembers what a listener's port is (a registry, a connection pool, a supervisor) must ask again behind
#          each listen(), not only behind bind(); and a server that is told to stop by shutdown() can be started again.
# Source:  listen(2), shutdown(2) and tcp(7) say nothing of it; net/ipv4/af_inet.c, inet_shutdown: tcp_disconnect.
set -euo pipefail

python3 - <<'PYTHON'
import errno, select, socket, sys

def said(call, *arguments):
    try:
        call(*arguments)
        return "0"
    except OSError as error:
        return errno.errorcode[error.errno]

def listener(port):
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.bind(("127.0.0.1", port))
    end.listen()
    end.setblocking(False)
    return end

def connect(port):
    return said(socket.socket().connect, ("127.0.0.1", port))

free = listener(0)
chosen = free.getsockname()[1]
free.close()
seen = []
for title, port in (("the program's port", chosen), ("the kernel's port", 0)):
    end = listener(port)
    before = end.getsockname()[1]
    writing = said(end.shutdown, socket.SHUT_WR), connect(before), said(end.accept)
    waiting = socket.create_connection(("127.0.0.1", before))
    reading = said(end.shutdown, socket.SHUT_RD), connect(before), said(end.accept), said(waiting.recv, 1)
    poll = select.poll()
    poll.register(end, select.POLLIN)
    hung_up = bool(poll.poll(0)[0][1] & select.POLLHUP)
    between = end.getsockname()[1] == before
    again = said(end.listen), connect(end.getsockname()[1]), said(end.accept), end.getsockname()[1] == before
    print("%-18s SHUT_WR, connect, accept: %s; SHUT_RD, connect, accept, who waited: %s, POLLHUP: %s; the name is as before: %s; "
          "listen, connect, accept, the port is as before: %s" % (title, " ".join(writing), " ".join(reading), hung_up, between,
                                                                  " ".join(map(str, again))))
    seen.append((writing, reading, hung_up, between, again))
wanted = [(("0",) * 3, ("0", "ECONNREFUSED", "EINVAL", "ECONNRESET"), True, True, ("0", "0", "0", kept)) for kept in (True, False)]
if seen != wanted:
    sys.exit("CHANGED: %s" % seen)
PYTHON
echo "as found"
