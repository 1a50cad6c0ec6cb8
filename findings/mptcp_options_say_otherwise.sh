#!/usr/bin/env bash
# On a connected MPTCP socket some setsockopt calls fail and have set the option, and some succeed and have not.
#
# Guess:   0 means that the option is set and getsockopt reads it back; an error means that nothing has changed.
# Subject: MPTCP, Linux 6.18.44; only the kernel.
# Seen:    IP_FREEBIND, IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT and IP_LOCAL_PORT_RANGE fail with EINVAL, and
#          getsockopt reads the new value. TCP_DEFER_ACCEPT and SO_RXQ_OVFL succeed, and are read back as 0. On TCP all
#          six succeed and are read back as they were set.
# Matters: `mptcpize run` puts programs on MPTCP that know nothing of it. Who asks the kernel by getsockopt whether
#          an option makes a connection special (we do) cannot trust the answer there; we leave MPTCP alone.
# Source:  net/mptcp/sockopt.c sets the option on the outer socket before it asks whether there may be a first subflow.
set -euo pipefail

python3 - <<'PYTHON'
import errno, os, socket, sys

OPTIONS = {"IP_FREEBIND": (0, 15, 1), "IP_TRANSPARENT": (0, 19, 1), "IP_BIND_ADDRESS_NO_PORT": (0, 24, 1),
           "IP_LOCAL_PORT_RANGE": (0, 51, 10000 | 20000 << 16), "TCP_DEFER_ACCEPT": (6, 9, 1), "SO_RXQ_OVFL": (1, 40, 1)}

def tried(protocol):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    end = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    end.connect(listener.getsockname())
    result = {}
    for name, (level, option, value) in OPTIONS.items():
        try:
            end.setsockopt(level, option, value)
            said = "0"
        except OSError as error:
            said = errno.errorcode[error.errno]
        result[name] = said, end.getsockopt(level, option) == value
    return result

if os.geteuid() != 0:  # IP_TRANSPARENT
    print("needs root")
    sys.exit(77)
try:
    mptcp = tried(262)
except OSError:
    print("this kernel has no MPTCP, or it is switched off")
    sys.exit(77)
tcp = tried(socket.IPPROTO_TCP)
for name in OPTIONS:
    print("%-24s TCP: %s, is set: %-6s MPTCP: %s, is set: %s" % (name, *tcp[name], *mptcp[name]))
if set(tcp.values()) != {("0", True)}:
    sys.exit("something else than the finding went wrong")
if [mptcp[name] for name in OPTIONS] != [("EINVAL", True)] * 4 + [("0", False)] * 2:
    sys.exit("CHANGED: %s" % mptcp)
PYTHON
echo "as found"
