"""Connections that a process accepts and passes on to its workers (SCM_RIGHTS), which answer them.

passed.py serve PORT ROUNDS   the first ROUNDS lines of a connection are answered before it is passed on
passed.py work FD             a worker, which gets connections by this UNIX socket
passed.py ask PORT            several clients, one after the other, which check each answer
"""

import os
import socket
import subprocess
import sys

WORKERS = 2
CLIENTS = 6
LINES = 300


def answer(connection, lines):
    """Each line comes back with a word before it; as many as are asked for, or to the end."""
    done = 0
    received = b""
    while done != lines:
        piece = connection.recv(4096)
        if not piece:
            return False
        received += piece
        while b"\n" in received and done != lines:
            line, received = received.split(b"\n", 1)
            connection.sendall(b"answer " + line + b"\n")
            done += 1
    assert received == b""
    return True


def serve(port, rounds):
    channels = []
    for _ in range(WORKERS):
        ours, theirs = socket.socketpair()
        subprocess.Popen([sys.executable, __file__, "work", str(theirs.fileno())], pass_fds=[theirs.fileno()])
        theirs.close()
        channels.append(ours)
    listener = socket.create_server(("127.0.0.1", port))
    for i in range(CLIENTS):
        connection, _ = listener.accept()
        answer(connection, rounds)
        socket.send_fds(channels[i % WORKERS], [b"x"], [connection.fileno()])
        connection.close()
    for channel in channels:
        channel.close()
    for _ in range(WORKERS):
        os.wait()


def work(number):
    channel = socket.socket(fileno=number)
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 1, 1)
        if not message:
            return
        with socket.socket(fileno=fds[0]) as connection:
            answer(connection, -1)


def ask(port):
    for i in range(CLIENTS):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            answers = connection.makefile("rb")
            for j in range(LINES):
                line = b"line %d of %d" % (j, i)
                connection.sendall(line + b"\n")
                assert answers.readline() == b"answer " + line + b"\n"
    print("all answered")


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), int(sys.argv[3]))
elif sys.argv[1] == "work":
    work(int(sys.argv[2]))
else:
    ask(int(sys.argv[2]))
