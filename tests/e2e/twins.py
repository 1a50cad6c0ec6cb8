# Two connections with equal addresses and ports at both ends, each in a network namespace of its
# own, held by the same two processes and used in turn: what is sent on one never appears on the
# other. Then, `drop` given, the server gives up its user (root) and goes on.
import ctypes, fcntl, os, socket, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
ROUNDS, LENGTH = 400, 3000


def new_network():
    if libc.unshare(CLONE_NEWNET) != 0:
        sys.exit('no permission for network namespaces')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'lo', 1))  # SIOCSIFFLAGS, IFF_UP
    return os.open('/proc/self/ns/net', os.O_RDONLY)


def enter(network):
    assert libc.setns(network, CLONE_NEWNET) == 0


def read_exactly(s, length):
    data = b''
    while len(data) < length:
        more = s.recv(length - len(data))
        assert more, 'the stream ended'
        data += more
    return data


def payload(which, number):
    return (b'%d:%d;' % (which, number)).ljust(LENGTH, b'ab'[which:which + 1])


def agents_of(uid):
    with open('/proc/net/unix') as table:  # flags 00010000: a listener
        return sum('@xenloop/%d/' % uid in line and ' 00010000 ' in line for line in table)


networks = [new_network(), new_network()]
ready, told = os.pipe()
child = os.fork()
if child == 0:
    assert os.read(ready, 1)
    ends = []
    for network in networks:
        enter(network)
        s = socket.socket()
        s.bind(('127.0.0.1', 40000))
        s.connect(('127.0.0.1', 7000))
        ends.append(s)
    for number in range(2 * ROUNDS):
        for which, s in enumerate(ends):
            s.sendall(payload(which, number))
            assert read_exactly(s, LENGTH) == payload(which, number), 'echo of another connection'
    print('client: all right')
    sys.stdout.flush()
    os._exit(0)

listeners = []
for network in networks:
    enter(network)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', 7000))
    s.listen(1)
    listeners.append(s)
os.write(told, b'x')
ends = [s.accept()[0] for s in listeners]
assert ends[0].getpeername() == ends[1].getpeername()
for number in range(2 * ROUNDS):
    if number == ROUNDS and 'drop' in sys.argv:
        before = agents_of(0)
        os.setgid(65534)
        os.setuid(65534)
    if number == ROUNDS * 3 // 2 and 'drop' in sys.argv and 'LD_PRELOAD' in os.environ:
        assert agents_of(0) == before - 1, 'the agent of the old user listens on'
    for which, s in enumerate(ends):
        data = read_exactly(s, LENGTH)
        assert data == payload(which, number), (which, number, data[:20])
        s.sendall(data)
status = os.waitpid(child, 0)[1]
print('server: all right, client', status)
