#!/usr/bin/env bash
# Some socket options make an edge: an edge-triggered epoll set reports anew what it has reported before.
#
# Guess:   setsockopt tells an edge-triggered set nothing; an edge comes with bytes, room, an end or an error.
# Subject: Linux 6.18.44; only the kernel.
# Seen:    SO_SNDBUF is an edge on TCP, UDP and UNIX sockets, also when the same size is set again or a smaller
#          one. On TCP SO_RCVLOWAT is one if as many bytes are unread, and TCP_NOTSENT_LOWAT is one too. SO_RCVBUF,
#          TCP_NODELAY and TCP_WINDOW_CLAMP are none.
# Matters: a program that counts its edges, or an emulation of epoll that answers from its own state, differs
#          after such a call; and setsockopt is a way to wake all who wait for a socket, that needs no byte.
# Source:  none known; epoll(7) names neither.
set -euo pipefail

python3 - <<'PYTHON'
import select, socket, sys

TCP_NOTSENT_LOWAT = 25

def tcp():
    listener = socket.create_server(("127.0.0.1", 0))
    a = socket.create_connection(listener.getsockname())
    return a, listener.accept()[0]

def udp():
    a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for each in a, b:
        each.bind(("127.0.0.1", 0))
    a.connect(b.getsockname())
    b.connect(a.getsockname())
    return a, b

BUFFERS = [("SO_SNDBUF", socket.SOL_SOCKET, socket.SO_SNDBUF, 100000),
           ("SO_SNDBUF again", socket.SOL_SOCKET, socket.SO_SNDBUF, 100000),
           ("SO_SNDBUF less", socket.SOL_SOCKET, socket.SO_SNDBUF, 50000),
           ("SO_RCVBUF", socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)]
OF_TCP = [("SO_RCVLOWAT 5", socket.SOL_SOCKET, socket.SO_RCVLOWAT, 5),
          ("SO_RCVLOWAT 20", socket.SOL_SOCKET, socket.SO_RCVLOWAT, 20),
          ("SO_RCVLOWAT 1", socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1),
          ("TCP_NODELAY", socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
          ("TCP_NOTSENT_LOWAT", socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1 << 20),
          ("TCP_WINDOW_CLAMP", socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, 65536)]
WORDS = {select.EPOLLIN: "in", select.EPOLLOUT: "out", select.EPOLLIN | select.EPOLLOUT: "in+out"}

def edges(pair, options):
    """What the set reports after each option, with nothing unread and with 10 bytes unread."""
    a, b = pair
    watch = select.epoll()
    watch.register(a, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    def report():
        return "+".join(WORDS[event] for _, event in watch.poll(0.1)) or "-"
    seen = {"at first": report()}
    for name, level, option, value in options:
        a.setsockopt(level, option, value)
        seen[name] = report()
    b.send(b"x" * 10)
    seen["10 bytes"] = report()
    for name, level, option, value in options:
        a.setsockopt(level, option, value)
        seen[name + ", unread"] = report()
    seen["nothing"] = report()
    return seen

same = {"at first": "out", "SO_SNDBUF": "out", "SO_SNDBUF again": "out", "SO_SNDBUF less": "out", "SO_RCVBUF": "-",
        "10 bytes": "in+out", "SO_SNDBUF, unread": "in+out", "SO_SNDBUF again, unread": "in+out",
        "SO_SNDBUF less, unread": "in+out", "SO_RCVBUF, unread": "-", "nothing": "-"}
found = {"TCP": {**same, "SO_RCVLOWAT 5": "-", "SO_RCVLOWAT 20": "-", "SO_RCVLOWAT 1": "-", "TCP_NODELAY": "-",
                 "TCP_NOTSENT_LOWAT": "out", "TCP_WINDOW_CLAMP": "-", "SO_RCVLOWAT 5, unread": "in+out",
                 "SO_RCVLOWAT 20, unread": "-", "SO_RCVLOWAT 1, unread": "in+out", "TCP_NODELAY, unread": "-",
                 "TCP_NOTSENT_LOWAT, unread": "in+out", "TCP_WINDOW_CLAMP, unread": "-"},
         "UDP": same, "UNIX": same}
seen = {"TCP": edges(tcp(), BUFFERS + OF_TCP), "UDP": edges(udp(), BUFFERS), "UNIX": edges(socket.socketpair(), BUFFERS)}
changed = []
for kind, by_name in seen.items():
    for name, what in by_name.items():
        print(f"{kind:5} {name:28} {what}")
        if found[kind][name] != what:
            changed.append(f"{kind} {name}: {what}, not {found[kind][name]}")
if changed:
    sys.exit("CHANGED: " + "; ".join(changed))
PYTHON
echo "as found"
