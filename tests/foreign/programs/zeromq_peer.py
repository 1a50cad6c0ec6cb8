"""One side of zeromq.sh: zeromq_peer.py ROLE PORT."""
import hashlib, sys, zmq
role, port = sys.argv[1], int(sys.argv[2])
context = zmq.Context()
def make(kind, offset, bound):
    made = context.socket(kind)
    made.setsockopt(zmq.LINGER, -1)
    made.setsockopt(zmq.SNDHWM, 0)
    made.setsockopt(zmq.RCVHWM, 0)
    (made.bind if bound else made.connect)(f"tcp://127.0.0.1:{port + offset}")
    return made
def body(i):
    return bytes([i % 251]) * (i * 37 % 70000) if i % 100 else b"x" * 2000000 + b"%d" % i
if role == "server":
    pull, answer, publish = make(zmq.PULL, 0, True), make(zmq.REP, 1, True), make(zmq.XPUB, 2, True)
    poller = zmq.Poller()
    for each in (pull, answer, publish):
        poller.register(each, zmq.POLLIN)
    digest, count = hashlib.sha256(), 0
    while True:
        for ready, _ in poller.poll():
            if ready is pull:
                for part in pull.recv_multipart():
                    digest.update(b"%d:" % len(part) + part)
                count += 1
            elif ready is answer:
                question = answer.recv()
                if question == b"end":
                    answer.send(b"good bye")
                    context.destroy()
                    sys.exit(0)
                if question == b"digest of %d" % count:
                    answer.send(digest.hexdigest().encode())
                    digest, count = hashlib.sha256(), 0
                elif question[:6] == b"digest":
                    answer.send(b"")  # not all have come
                else:
                    answer.send(hashlib.sha256(question).digest() + question[::-1])
            elif publish.recv()[:1] == b"\1":
                for i in range(3000):
                    publish.send_multipart([b"odd" if i % 2 else b"even", body(i)])
                publish.send_multipart([b"odd-end", b""])
elif role == "push":
    push, ask = make(zmq.PUSH, 0, False), make(zmq.REQ, 1, False)
    for i in range(2000):
        push.send_multipart([body(i), b"", b"part %d" % i])
    value = b""
    while not value:
        ask.send(b"digest of 2000")
        value = ask.recv()
    print("pushed", value.decode())
elif role == "ask":
    ask = make(zmq.REQ, 1, False)
    for i in list(range(3000)) + [100, 200, 300]:
        question = b"q%d" % i + body(i)
        ask.send(question)
        if ask.recv() != hashlib.sha256(question).digest() + question[::-1]:
            sys.exit(f"wrong answer {i}")
    print("asked")
elif role == "subscribe":
    subscribe = context.socket(zmq.SUB)
    subscribe.setsockopt(zmq.RCVHWM, 0)
    subscribe.setsockopt(zmq.SUBSCRIBE, b"odd")
    subscribe.connect(f"tcp://127.0.0.1:{port + 2}")
    digest, count = hashlib.sha256(), 0
    while True:
        name, part = subscribe.recv_multipart()
        if name == b"odd-end":
            break
        digest.update(part)
        count += 1
    print(count, digest.hexdigest())
elif role == "end":
    ask = make(zmq.REQ, 1, False)
    ask.send(b"end")
    print(ask.recv().decode())
context.destroy(linger=-1)
