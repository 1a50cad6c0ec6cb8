# Connections whose addresses are translated on the way, so that two clients are known to each other's
# servers by one name. Every byte is equal on both of them until each is told to say who it is: a
# wrong pair cannot be told from a right one by what it has carried, and shows as soon as it carries more.
#
#   translation.py server ADDRESS PORT COUNT            serves COUNT connections, then ends
#   translation.py clients ROUNDS FROM>TO [FROM>TO ...] (each ADDRESS:PORT) uses them in turn
#   translation.py busy ADDRESS PORT                    how many calls until TCP carries no more?
import select, socket, struct, sys

SIZE = 64


def pad(text):
    return text.encode().ljust(SIZE, b'.')


def read_message(s):
    data = b''
    while len(data) < SIZE:
        more = s.recv(SIZE - len(data))
        if not more:
            return None
        data += more
    return data


def endpoint(text):
    address, port = text.rsplit(':', 1)
    return address, int(port)


def connection(source, destination):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(20)
    if source:
        s.bind(source)
    s.connect(destination)
    return s


def server(address, port, count):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(8)
    poll, by_fd, owner = select.poll(), {}, {}
    for _ in range(count):
        s = listener.accept()[0]
        by_fd[s.fileno()] = s
        poll.register(s, select.POLLIN)
    while by_fd:
        for fd, _ in poll.poll():
            message = read_message(by_fd[fd])
            if message is None or message == pad('bye'):
                poll.unregister(fd)
                by_fd.pop(fd).close()
            elif message == pad('ready?'):
                by_fd[fd].sendall(pad('yes'))
            else:  # the first to say who it is has this connection
                by_fd[fd].sendall(owner.setdefault(fd, message))


def clients(rounds, names):
    ends = [connection(endpoint(source), endpoint(destination))
            for source, destination in (name.split('>') for name in names)]
    wrong = 0
    for number in range(2 * rounds):
        for who, s in enumerate(ends):
            question = pad('ready?') if number < rounds else pad('client %d' % who)
            s.sendall(question)
            expected = pad('yes') if number < rounds else question
            wrong += read_message(s) != expected
    for s in ends:  # the server closes first: its port may be met again at once
        s.sendall(pad('bye'))
        wrong += read_message(s) is not None
    print('%d clients, wrong answers: %d' % (len(ends), wrong))


def segments_sent(s):
    return struct.unpack_from('<I', s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 136)[0]


def busy(address, port):
    s = connection(None, (address, port))
    calls, last, quiet = 0, 0, 0
    while quiet < 10 and calls < 3000:
        s.sendall(pad('ready?'))
        read_message(s)
        calls += 2
        now = segments_sent(s)
        quiet = quiet + 1 if now == last else 0
        last = now
    print('upgraded after %d calls' % (calls - 2 * quiet) if quiet == 10 else 'never upgraded')


command, *rest = sys.argv[1:]
if command == 'server':
    server(rest[0], int(rest[1]), int(rest[2]))
elif command == 'clients':
    clients(int(rest[0]), rest[1:])
else:
    busy(rest[0], int(rest[1]))
