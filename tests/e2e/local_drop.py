"""A connection of which this machine's own queue drops segments for a while, before it is hot: every
message is answered, byte for byte, before, meanwhile (sent again by TCP) and after. The figure that the
kernel gives for what was sent is then too high for the rest of the connection's life."""

import os
import socket
import subprocess
import sys
import time

MESSAGES = 3000
SIZE = 1000
DROPPED = 3  # this message's first transmission


def message(number, who):
    return bytes((number * 7 + at + who) % 251 for at in range(0, SIZE, 8)).ljust(SIZE, b"%d" % (number % 10))


def receive(connection):
    got = b""
    while len(got) < SIZE:
        part = connection.recv(SIZE - len(got))
        if not part:
            raise EOFError(f"end of stream after {len(got)} bytes of a message")
        got += part
    return got


def queue(*words):
    """tc, without the library."""
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(["tc", "qdisc", *words], check=True, env=plain)


def server(port):
    with socket.create_server(("127.0.0.1", port)) as listener:
        connection, _ = listener.accept()
        for number in range(MESSAGES):
            if receive(connection) != message(number, 0):
                sys.exit(f"server: message {number} is wrong")
            connection.sendall(message(number, 1))
    print("server: all right")


def client(port, dropping):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(20)
    for number in range(MESSAGES):
        drops = dropping == "drop" and number == DROPPED
        if drops:
            queue("add", "dev", "lo", "root", "bfifo", "limit", "1")
        connection.sendall(message(number, 0))
        if drops:
            time.sleep(0.5)
            queue("del", "dev", "lo", "root")
        if receive(connection) != message(number, 1):
            sys.exit(f"client: answer {number} is wrong")
    print(f"client ({dropping}): all right")


if __name__ == "__main__":
    role, port = sys.argv[1], int(sys.argv[2])
    server(port) if role == "server" else client(port, sys.argv[3])
