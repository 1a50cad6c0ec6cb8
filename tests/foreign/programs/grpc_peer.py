"""One side of grpc.sh: grpc_peer.py server|client PORT. Bytes as messages: no generated code."""
from concurrent import futures
import hashlib
import signal
import sys

import grpc

role, port = sys.argv[1], int(sys.argv[2])
LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
          ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


def body(i):
    return bytes([i % 251]) * (i * 41 % 90000) + b"%d" % i


def one(request, context):
    return hashlib.sha256(request).digest() + request[::-1]


def many_in(requests, context):
    digest = hashlib.sha256()
    for request in requests:
        digest.update(request)
    return digest.digest()


def many_out(request, context):
    for i in range(int(request)):
        yield body(i)


def both_ways(requests, context):
    for request in requests:
        yield request[::-1]


def refused(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")


def serve():
    handlers = {
        "one": grpc.unary_unary_rpc_method_handler(one),
        "many_in": grpc.stream_unary_rpc_method_handler(many_in),
        "many_out": grpc.unary_stream_rpc_method_handler(many_out),
        "both_ways": grpc.stream_stream_rpc_method_handler(both_ways),
        "refused": grpc.unary_unary_rpc_method_handler(refused),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8), options=LIMITS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Check", handlers),))
    if server.add_insecure_port(f"127.0.0.1:{port}") != port:
        sys.exit("no port")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(2))
    server.start()
    server.wait_for_termination()


def ask():
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=LIMITS) as channel:
        call = channel.unary_unary("/Check/one")
        for i in range(800):
            if call(body(i), timeout=30) != one(body(i), None):
                sys.exit(f"wrong answer {i}")
        large = b"0123456789abcdef" * 500000
        print("large", call(large, timeout=30) == one(large, None))
        waiting = [call.future(body(i), timeout=30) for i in range(300)]
        print("at once", all(answer.result() == one(body(i), None) for i, answer in enumerate(waiting)))
        sent = [body(i) for i in range(1000)]
        print("many in", channel.stream_unary("/Check/many_in")(iter(sent), timeout=30)
              == hashlib.sha256(b"".join(sent)).digest())
        got = list(channel.unary_stream("/Check/many_out")(b"1000", timeout=30))
        print("many out", got == sent)
        got = list(channel.stream_stream("/Check/both_ways")(iter(sent), timeout=30))
        print("both ways", got == [each[::-1] for each in sent])
        try:
            channel.unary_unary("/Check/refused")(b"", timeout=30)
        except grpc.RpcError as error:
            print("refused", error.code(), error.details())
        cut = channel.unary_stream("/Check/many_out")(b"100000", timeout=30)
        for _ in range(10):
            next(cut)
        cut.cancel()
        print("after a cancelled call", call(b"abc", timeout=30) == one(b"abc", None))


serve() if role == "server" else ask()
