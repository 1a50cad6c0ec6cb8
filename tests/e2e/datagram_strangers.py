# An echo of datagrams whose ends say how many threads they have: a library in an end that has nobody to meet has
# made none.
#
#   datagram_strangers.py server PORT           until it is told to stop
#   datagram_strangers.py client PORT SECONDS   connected; counts what it has asked
#   datagram_strangers.py stop PORT
import socket, sys, time

role, port = sys.argv[1], int(sys.argv[2])


def threads():
    return [line.split()[1] for line in open('/proc/self/status') if line.startswith('Threads:')][0]


s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)  # a time limit of Python's is a poll before each receive
if role == 'server':
    s.setblocking(True)
    s.bind(('127.0.0.1', port))
    while True:
        what, source = s.recvfrom(100)
        if what == b'stop':
            break
        s.sendto(what, source)
    print('server: threads', threads())
elif role == 'stop':
    s.sendto(b'stop', ('127.0.0.1', port))
else:
    s.connect(('127.0.0.1', port))
    end = time.monotonic() + float(sys.argv[3])
    asked = 0
    while time.monotonic() < end:
        for _ in range(100):
            s.send(b'%d' % asked)
            if s.recv(100) != b'%d' % asked:
                raise SystemExit('client: wrong answer')
            asked += 1
    print('client: asked enough', asked > 1000, 'threads', threads())
