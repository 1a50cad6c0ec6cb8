# Who may send by a FIFO under which name? Processes of one user, all with `udp = on`:
#
#   datagram_forger.py receiver PORT      receives, answers nothing; prints what was forged
#   datagram_forger.py owner PORT SOURCE  holds SOURCE, sends to PORT until its stdin ends
#   datagram_forger.py forger PORT SOURCE speaks to the receiver's agent as an agent would, and
#                                         offers FIFOs for SOURCE, and for a socket of its own
import array, fcntl, os, random, re, socket, struct, sys, time

MAGIC, VERSION, PACKET = 0x584c4354, 3, 128
FIFO_VERSION = int(os.environ['E2E_FIFO_VERSION'])
HELLO, DATAGRAM_OFFER, DATAGRAM_JOIN, DATAGRAM_REFUSE = 1, 13, 14, 15
CAPACITY = 1 << 20
role, port = sys.argv[1], int(sys.argv[2])


def bound(number):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('127.0.0.1', number))
    return s


def receiver():
    s = bound(port)
    s.settimeout(20)
    while True:
        what = s.recv(100)
        if what == b'stop':
            return
        if what == b'forged':
            print('FORGED', flush=True)


def owner():
    s = bound(int(sys.argv[3]))
    s.connect(('127.0.0.1', port))
    os.set_blocking(0, False)
    while True:
        s.send(b'honest')
        time.sleep(0.001)
        try:
            if os.read(0, 1) == b'':
                break
        except BlockingIOError:
            pass
    s.send(b'stop')


def endpoint(number):
    return b'\0' * 10 + b'\xff\xff' + socket.inet_aton('127.0.0.1') + struct.pack('=H', number)


def message(kind, tuple_=b'\0' * 36, agent=0, cookie=0, number=0):
    return struct.pack('=IIIIQQiIIIII', MAGIC, VERSION, kind, 0, agent, cookie, os.getpid(), 1, 1, 0, 0, 0
                       ) + tuple_ + struct.pack('=IQ', 0, number) + b'\0' * 24


def send(s, data, fds):
    s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))])
    for fd in fds:
        os.close(fd)


def memory(size, fill=None):
    fd = os.memfd_create('forger', os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if fill:
        fill(fd)
    fcntl.fcntl(fd, 1033, 2 | 4)
    return fd


def fifo(fd):
    os.pwrite(fd, struct.pack('=IIQ', 0x584c4649, FIFO_VERSION, CAPACITY), 256)
    os.pwrite(fd, struct.pack('=I', 1), 72)
    os.pwrite(fd, struct.pack('=IIQ', 6, 0, time.monotonic_ns()) + b'forged', 512)
    os.pwrite(fd, struct.pack('=Q', 32 << 1), 0)


def answer(s, kinds):
    s.settimeout(5)
    while True:
        data, ancillary, _, _ = s.recvmsg(4096, 1024)
        for _, _, raw in ancillary:
            for fd in array.array('i', raw[:len(raw) // 4 * 4]):
                os.close(fd)
        if not data:
            return None
        if len(data) == PACKET and struct.unpack_from('=I', data, 8)[0] in kinds:
            return struct.unpack_from('=I', data, 8)[0]


def forger():
    with open('/proc/net/unix') as table:
        names = sorted(set(re.findall(r'@(xenloop/%d/[0-9a-f]{16})' % os.geteuid(), table.read())))
    with socket.socket() as any_socket:
        cookie = struct.unpack('=Q', any_socket.getsockopt(socket.SOL_SOCKET, 71, 8))[0]
    mine = bound(0)
    said = {'another\'s name': [], 'its own name': []}
    for name in names:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(b'\0' + name.encode())
        a, b = socket.socketpair()
        send(s, message(HELLO, agent=random.getrandbits(63) | 1, cookie=cookie), [a.detach(), memory(65536)])
        if answer(s, (HELLO,)) is None:
            continue
        for what, source, fd in (('another\'s name', int(sys.argv[3]), mine.fileno()),
                                 ('another\'s name', int(sys.argv[3]), 0),
                                 ('its own name', mine.getsockname()[1], mine.fileno())):
            send(s, message(DATAGRAM_OFFER, endpoint(port) + endpoint(source), number=fd),
                 [memory(512 + CAPACITY, fifo)])
            said[what].append(answer(s, (DATAGRAM_JOIN, DATAGRAM_REFUSE)))
        b.close()
    for what, answers in said.items():
        print(what, 'joined' if DATAGRAM_JOIN in answers else 'refused')


{'receiver': receiver, 'owner': owner, 'forger': forger}[role]()
