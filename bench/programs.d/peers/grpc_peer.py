"""grpc_peer.py server PORT; grpc_peer.py client PORT SECONDS prints unary calls a second.
Bytes as messages: no generated code."""
from concurrent import futures
import signal
import sys
import time

import grpc

SIZE = 100


def serve(port):
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Peer", {"Echo": handler}),))
    if server.add_insecure_port(f"127.0.0.1:{port}") != port:
        sys.exit("no port")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.start()
    server.wait_for_termination()


def ask(port, seconds):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo, message, count = channel.unary_unary("/Peer/Echo"), bytes(SIZE), 0
        echo(message, timeout=30)
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            echo(message, timeout=30)
            count += 1
        print("figure", count / (time.monotonic() - start))


if sys.argv[1] == "server":
    serve(int(sys.argv[2]))
else:
    ask(int(sys.argv[2]), float(sys.argv[3]))
