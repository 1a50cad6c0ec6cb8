#!/usr/bin/env bash
# An abstract UNIX name is one for each type of socket; a path is one for all.
#
# Guess:   a name that is bound is taken: a second bind says EADDRINUSE whatever the types are, and who connects with
#          a socket of another type is told so by EPROTOTYPE, as unix(7) says.
# Subject: UNIX sockets, Linux 6.18.44; only the kernel.
# Seen:    so with a path. Three sockets, a stream, a datagram one and a SOCK_SEQPACKET, have one abstract name at the
#          same time, and each connect reaches the one of its own type; with one of them bound, the two other types
#          get ECONNREFUSED, as if nobody had the name. `ss -x` and /proc/net/unix show the name three times.
# Matters: who reserves an abstract name, or looks in /proc/net/unix whether a rendezvous is there, must look at the
#          type as well; and to be refused does not mean that the name is free for everybody.
# Source:  net/unix/af_unix.c hashes abstract names with the type; unix(7) has EPROTOTYPE without the exception.
set -euo pipefail

python3 - <<'PYTHON'
import errno, os, socket, sys, tempfile

KINDS = [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]

def said(call, *arguments):
    try:
        call(*arguments)
        return "0"
    except OSError as error:
        return errno.errorcode[error.errno]

def bound(kind, name):
    end = socket.socket(socket.AF_UNIX, kind)
    result = said(end.bind, name)
    if result == "0" and kind != socket.SOCK_DGRAM:
        end.listen()
    return end, result

def tried(name):
    kept, first = bound(socket.SOCK_SEQPACKET, name)
    others = [said(socket.socket(socket.AF_UNIX, kind).connect, name) for kind in KINDS]
    binds = []
    held = []
    for kind in KINDS[:2]:
        end, result = bound(kind, name)
        held.append(end)
        binds.append(result)
    return first, others, binds, [said(socket.socket(socket.AF_UNIX, kind).connect, name) for kind in KINDS]

with tempfile.TemporaryDirectory() as folder:
    path = tried(os.path.join(folder, "name"))
abstract = tried("\0finding-%d" % os.getpid())
for title, (first, others, binds, after) in (("path", path), ("abstract", abstract)):
    print("%-9s a SEQPACKET listener has it; connects of STREAM, DGRAM, SEQPACKET: %s; binds of STREAM, DGRAM: %s; connects after that: %s" % (
        title, " ".join(others), " ".join(binds), " ".join(after)))
if path != ("0", ["EPROTOTYPE", "EPROTOTYPE", "0"], ["EADDRINUSE"] * 2, ["EPROTOTYPE", "EPROTOTYPE", "0"]):
    sys.exit("something else than the finding went wrong")
if abstract != ("0", ["ECONNREFUSED", "ECONNREFUSED", "0"], ["0", "0"], ["0", "0", "0"]):
    sys.exit("CHANGED: %s" % (abstract,))
PYTHON
echo "as found"
