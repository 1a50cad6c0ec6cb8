"""One connection of a program with itself: blocks of many sizes through an echoing thread, checked byte by byte.

  echo.py ROUNDS [--epoll] [--pauses]

--epoll: the thread waits in an epoll set; --pauses: now and then nobody is in the kernel. Prints a digest of all blocks,
and whether the socket says it is TCP (or MPTCP)."""

import hashlib
import select
import socket
import sys
import threading
import time

TCP, MPTCP = 6, 262


def serve(listener, in_epoll):
    peer, _ = listener.accept()
    waits = select.epoll() if in_epoll else None
    if in_epoll:
        waits.register(peer, select.EPOLLIN)
    while True:
        if in_epoll:
            waits.poll()
            peer.setblocking(False)
        block = peer.recv(70000)
        if not block:
            break
        if in_epoll:
            peer.setblocking(True)
        peer.sendall(block)
    peer.close()


def main(rounds, in_epoll, pauses):
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener, in_epoll))
    thread.start()
    client = socket.create_connection(listener.getsockname())
    digest = hashlib.sha256()
    for i in range(rounds):
        sent = bytes([i % 251]) * (1 + i * 137 % 60000)
        if pauses and i % 100 == 0:
            time.sleep(0.02)
        client.sendall(sent)
        got = bytearray()
        while len(got) < len(sent):
            got += client.recv(65536)
        assert got == sent
        digest.update(got)
    print(digest.hexdigest(), client.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) in (TCP, MPTCP))
    client.close()
    thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), "--epoll" in sys.argv, "--pauses" in sys.argv)
