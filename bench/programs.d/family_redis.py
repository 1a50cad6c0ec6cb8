"""redis-server with redis-benchmark: clients waiting for each answer, and 16 requests in flight."""
import os
import socket
from functools import partial

import outputs
from rows import UNIX, Row, at_least

PACKAGES = ("redis-server", "redis-tools")
NEEDS = ("redis-server", "redis-benchmark")


def run(stage, test, clients, pipeline=1, beside=0):
    port, path = stage.port(), os.path.join(stage.folder, "socket")
    stage.server(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path, "--save", "",
                  "--appendonly", "no", "--daemonize", "no", "--dir", stage.folder], port=port)
    with socket.create_connection(("127.0.0.1", port)) as plain:  # the key that GET asks for
        plain.sendall(b"SET key:__rand_int__ xxx\r\n")
        plain.recv(64)
    stage.beside(beside)
    where = ["-s", path] if stage.carrier == UNIX else ["-h", "127.0.0.1", "-p", str(port)]

    def requests(count):
        text = stage.client(["redis-benchmark", *where, "-t", test, "-c", str(clients), "-P", str(pipeline), "-n",
                             str(count), "--csv"])
        return outputs.redis_benchmark(text, test.upper())

    return stage.sized(requests, 5000 * pipeline)


def _row(test, name, title, goals, beside=0, **how):
    return Row(f"redis-{test}-{name}", f"redis {test.upper()}, {title}", "requests/s",
               partial(run, test=test, beside=beside, **how), "redis-benchmark, its defaults else", NEEDS, PACKAGES,
               unix=True, goals=goals, smoke=(test, name) == ("get", "c20"))


def rows():
    found = []
    for test in ("get", "set"):
        found += [_row(test, "c1", "1 client", at_least(2, 2.5), clients=1),
                  _row(test, "c20", "20 clients", at_least(1.2, 1.8), clients=20),
                  _row(test, "c200", "200 clients", at_least(0.98, 1.2), clients=200),
                  _row(test, "p16", "50 clients, -P 16", at_least(0.98, 1.2), clients=50, pipeline=16)]
    found.append(_row("get", "busy", "1 client, 2 busy loops beside", at_least(1, 1.3), clients=1, beside=2))
    return found
