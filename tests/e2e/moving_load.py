"""Load for migration.sh: one server in the guest that moves, one client at each place. Every byte is
a function of its stream and its position, and is checked. Knows nothing of the library.

  moving_load.py serve ADDRESS PORT         epoll, one thread; ends on SIGTERM when all is said
  moving_load.py client ADDRESS PORT COUNT  COUNT echoing connections (blocking, a thread each) and
                                            one each that is idle, full, and half-closed; on SIGTERM
                                            it settles every account and prints "all right", or says
                                            what is wrong and ends with 1
"""
import select
import signal
import socket
import sys
import threading

BLOCK = bytes((i * 7 + i // 251) & 255 for i in range(65521))  # a prime: no step with any buffer
FULL_BYTES = 12 << 20                                          # more than FIFO and TCP hold together
CHUNK = 16384


def pattern(offset, length):
    at = offset % len(BLOCK)
    piece = BLOCK[at:at + length]
    while len(piece) < length:
        piece += BLOCK[:length - len(piece)]
    return piece


def read_exactly(connection, length):
    data = b''
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError('the stream ends early')
        data += piece
    return data


# ---- the guest ----

class Connection:
    """kind e: echo. f: an echo first, which makes it hot, then not read until the release; then a word
    when all has come. h: an echo; at the peer's end a stream out, until the release. r: releases."""

    def __init__(self, sock):
        self.sock, self.kind, self.out, self.position, self.ended = sock, b'', b'', 0, False


def serve(address, port):
    listener = socket.create_server((address, port))
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections = {}
    held = []                       # full connections that must not be read yet
    released = False

    def interest(c):
        wants = 0 if c.ended or c in held else select.EPOLLIN
        if c.out or (c.kind == b'h' and c.ended and not released):
            wants |= select.EPOLLOUT
        poll.modify(c.sock, wants)

    def close(c):
        poll.unregister(c.sock)
        del connections[c.sock.fileno()]
        c.sock.close()

    while True:
        for fd, events in poll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.setblocking(False)
                connections[sock.fileno()] = Connection(sock)
                poll.register(sock, select.EPOLLIN)
                continue
            c = connections.get(fd)
            if c is None:
                continue
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not c.ended and c not in held:
                data = c.sock.recv(CHUNK * 4)
                end = not data
                if not c.kind:
                    c.kind, data = data[:1], data[1:]
                if end and c.kind != b'h':
                    close(c)
                    continue
                if c.kind == b'r' and data:           # the client releases what was held
                    released = True
                    for other in held[:]:
                        held.remove(other)
                        interest(other)
                    for other in list(connections.values()):
                        if other.kind == b'h' and other.ended:
                            (interest if other.out else close)(other)
                    c.out += data
                elif c.kind == b'f' and data:
                    if c.position < 40 * CHUNK:
                        c.out += data
                    if pattern(c.position, len(data)) != data:
                        sys.exit('server: wrong bytes in the full stream')
                    c.position += len(data)
                    if c.position >= 40 * CHUNK and not released and c not in held:
                        held.append(c)
                    if c.position == 40 * CHUNK + FULL_BYTES:
                        c.out += b'complete'
                elif end:
                    c.ended, c.position = True, 0
                else:
                    c.out += data
            if c.kind == b'h' and c.ended and not c.out and not released:
                c.out = pattern(c.position, CHUNK)
                c.position += CHUNK
            if c.out:
                try:
                    c.out = c.out[c.sock.send(c.out):]
                except BlockingIOError:
                    pass
            if c.kind == b'h' and c.ended and released and not c.out:
                close(c)
                continue
            interest(c)


# ---- the others ----

stop = threading.Event()
wrong = []


def guarded(work):
    def run(*arguments):
        try:
            work(*arguments)
        except Exception as problem:  # noqa: a thread's end must be known to the main one
            wrong.append(f'{work.__name__}: {problem!r}')
            stop.set()
    return run


def connect(address, port, kind):
    connection = socket.create_connection((address, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(kind)
    return connection


def exchange(connection, offset, length):
    data = pattern(offset, length)
    connection.sendall(data)
    if read_exactly(connection, length) != data:
        raise ValueError(f'wrong bytes after {offset}')


@guarded
def echo(address, port, seed):
    connection = connect(address, port, b'e')
    offset = seed * 1000
    while not stop.is_set():
        length = (offset * 31 + seed) % CHUNK + 1
        exchange(connection, offset, length)
        offset += length
    connection.close()


@guarded
def full(address, port, finished):
    connection = connect(address, port, b'f')
    for block in range(40):
        exchange(connection, block * CHUNK, CHUNK)
    sent = 40 * CHUNK
    while sent < 40 * CHUNK + FULL_BYTES:      # sleeps in send() until the server is told to read
        length = min(CHUNK * 3, 40 * CHUNK + FULL_BYTES - sent)
        connection.sendall(pattern(sent, length))
        sent += length
    if read_exactly(connection, 8) != b'complete':
        raise ValueError('no confirmation')
    finished.set()


@guarded
def half_closed(address, port, finished):
    connection = connect(address, port, b'h')
    for block in range(40):
        exchange(connection, block * CHUNK, CHUNK)
    connection.shutdown(socket.SHUT_WR)
    offset = 0
    while data := connection.recv(CHUNK):
        if data != pattern(offset, len(data)):
            raise ValueError(f'wrong bytes after {offset}')
        offset += len(data)
        stop.wait(0.001)
    if offset % CHUNK != 0:
        raise ValueError(f'ends after {offset} bytes')
    finished.set()


def client(address, port, count):
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    echoes = [threading.Thread(target=echo, args=(address, port, i)) for i in range(count)]
    ends = [threading.Event(), threading.Event()]
    others = [threading.Thread(target=work, args=(address, port, end), daemon=True)
              for work, end in zip((full, half_closed), ends)]
    for thread in echoes + others:
        thread.start()
    idle = connect(address, port, b'r')
    idle_hot = connect(address, port, b'e')
    for block in range(40):
        exchange(idle_hot, block * CHUNK, CHUNK)
    print('loaded', flush=True)
    while not stop.wait(0.1):
        pass
    for thread in echoes:
        thread.join(20)
        if thread.is_alive():
            wrong.append('an echo does not end')
    exchange(idle_hot, 40 * CHUNK, CHUNK)
    exchange(idle, 0, 10)          # releases the others
    for end, name in zip(ends, ('full', 'half-closed')):
        if not end.wait(30) and not wrong:
            wrong.append(f'the {name} stream does not end')
    print('\n'.join(wrong) or 'all right', flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    if sys.argv[1] == 'serve':
        serve(sys.argv[2], int(sys.argv[3]))
    client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
