# Datagrams whose addresses are translated on the way, so that two clients are known by one name.
#
#   datagram_nat.py server PORT                       answers each source with what it said first
#   datagram_nat.py clients ROUNDS FROM>TO [FROM>TO]  (each ADDRESS:PORT) asks in turn; ends the server
import socket, sys


def endpoint(text):
    address, port = text.rsplit(':', 1)
    return address, int(port)


def server(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('127.0.0.1', port))
    s.settimeout(30)
    first = {}
    while True:
        what, source = s.recvfrom(100)
        if what == b'stop':
            return
        s.sendto(what if what == b'ready?' else first.setdefault(source, what), source)


def clients(rounds, names):
    ends = []
    for name in names:
        source, destination = map(endpoint, name.split('>'))
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.settimeout(10)
        s.bind(source)
        s.connect(destination)
        ends.append(s)
    wrong = 0
    for number in range(2 * rounds):
        for who, s in enumerate(ends):
            question = b'ready?' if number < rounds else b'client %d' % who
            s.send(question)
            wrong += s.recv(100) != question
    print('%d clients, wrong answers: %d' % (len(ends), wrong))
    ends[0].send(b'stop')


if sys.argv[1] == 'server':
    server(int(sys.argv[2]))
else:
    clients(int(sys.argv[2]), sys.argv[3:])
