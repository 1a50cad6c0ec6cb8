# Another user of the machine, with the library's sources: attacks the agents of user VICTIM for
# SECONDS, and with a connection of its own to PORT (redis) also as the lawful peer of that one.
# Prints what was tried and how often; exit status 9 if somebody else's memory came into its hands.
#
#   hostile_peer.py VICTIM-UID SECONDS PORT
import array, collections, fcntl, mmap, os, random, re, select, socket, struct, sys, time

victim, seconds, port = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
random.seed(7)
done = collections.Counter()
squatted = set()  # names of hers that are ours
MAGIC, VERSION, PACKET = 0x584c4354, 3, 128
FIFO_VERSION = int(os.environ['E2E_FIFO_VERSION'])
HELLO, OFFER, JOIN, REFUSE, SEALED, SEEK, BRIDGE = range(1, 8)
BELL = 12
F_ADD_SEALS, SHRINK, GROW = 1033, 2, 4
CAPACITY = 65536


def endpoint(address, port_):
    return b'\0' * 10 + b'\xff\xff' + socket.inet_aton(address) + struct.pack('=H', port_)


def tuple_of(local, peer):
    return endpoint(*local) + endpoint(*peer)


def message(kind, tuple_=b'\0' * 36, agent=0, cookie=0, sender=(0, 0), receiver=(0, 0), number=0):
    return struct.pack('=IIIIQQiIIIII', MAGIC, VERSION, kind, 0, agent, cookie, os.getpid(),
                       *sender, *receiver, 0) + tuple_ + struct.pack('=IQ', 0, number) + b'\0' * 24


def memory(size, seals=SHRINK | GROW, header=True):
    fd = os.memfd_create('hostile', os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if header and size >= 512:
        os.pwrite(fd, struct.pack('=IIQ', 0x584c4649, FIFO_VERSION, CAPACITY), 256)
        os.pwrite(fd, struct.pack('=I', 1), 72)  # "nobody reads TCP unaware"
    fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def agents():
    with open('/proc/net/unix') as table:
        return sorted(set(re.findall(r'@(xenloop/%d/[0-9a-f]{16})' % victim, table.read())) - squatted)


def talk(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.setblocking(False)
    s.connect(b'\0' + name.encode())
    return s


def send(s, data, fds=()):
    try:
        s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else [])
        return True
    except OSError:
        return False
    finally:
        for fd in fds:
            os.close(fd)


def answers(s, wait=0.02):
    got = []
    poll = select.poll()  # not select(): we hold many descriptors
    poll.register(s, select.POLLIN)
    while poll.poll(wait * 1000):
        try:
            data, ancillary, _, _ = s.recvmsg(4096, 1024)
        except OSError:
            break
        if not data:
            break
        fds = []
        for _, _, raw in ancillary:
            fds += list(array.array('i', raw[:len(raw) // 4 * 4]))
        got.append((data, fds))
    return got


def close_all(fds):
    for fd in fds:
        os.close(fd)


def hello_descriptors():
    a, b = socket.socketpair()
    b.close()
    return [a.detach(), memory(65536, header=False)]


def introduce(s, cookie):
    """A HELLO; True if the agent has answered it. What can be done with its doorbell is done."""
    if not send(s, message(HELLO, agent=random.getrandbits(63) | 1, cookie=cookie), hello_descriptors()):
        return False
    for data, fds in answers(s, 0.1):
        if len(data) == PACKET and struct.unpack_from('=I', data, 8)[0] == HELLO and len(fds) == 2:
            bell = fds[0]
            fcntl.fcntl(bell, fcntl.F_SETFL, 0)
            with socket.socket(fileno=os.dup(bell)) as ring:
                for _ in range(2000):
                    ring.shutdown(socket.SHUT_RDWR)
                done['rings of a victim\'s doorbell'] += 2000
                for attempt in (lambda: ring.send(b'x' * 8, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL),
                                lambda: ring.recv(8, socket.MSG_DONTWAIT),
                                lambda: ring.listen(1)):
                    try:
                        attempt()
                    except OSError:
                        pass
            close_all(fds)
            return True
        close_all(fds)
    return False


def connections():
    """Everybody's established connections, from both ends."""
    found = []
    with open('/proc/net/tcp') as table:
        for line in list(table)[1:]:
            fields = line.split()
            if fields[3] == '01':
                ends = []
                for text in fields[1:3]:
                    address, port_ = text.split(':')
                    ends.append((socket.inet_ntoa(struct.pack('<I', int(address, 16))), int(port_, 16)))
                found.append(tuple(ends))
    return found


def netns_cookie():
    with socket.socket() as s:
        return struct.unpack('=Q', s.getsockopt(socket.SOL_SOCKET, 71, 8))[0]


def garbage(fd):
    """Writes nonsense into a FIFO that an agent maps."""
    size = os.fstat(fd).st_size
    with mmap.mmap(fd, size) as m:
        for _ in range(50):
            offset = random.choice([0, 8, 16, 64, 72, 128, 132, 192, 196, 256, 264])
            m[offset:offset + 8] = struct.pack('=Q', random.choice(
                [0, 1, 2, 2**64 - 1, 2**63, CAPACITY * 2, CAPACITY * 2 + 1, random.getrandbits(64)]))
    done['garbage written into mapped memory'] += 50


def forge(s, own, sound=False):
    """Offers: other people's connections, and our own with hostile memory, or first with sound."""
    for mine, peer in connections():
        is_own = (mine, peer) == own or (peer, mine) == own
        fd = memory(512 + CAPACITY) if sound else random.choice([
            lambda: memory(512 + CAPACITY), lambda: memory(512 + CAPACITY, GROW),
                            lambda: memory(4096), lambda: os.open('/dev/null', os.O_RDWR)])()
        kept = os.dup(fd)
        send(s, message(OFFER, tuple_of(mine, peer), sender=(random.randrange(64), 1)), [fd])
        done['offers of our own connection' if is_own else 'offers of others\' connections'] += 1
        for data, fds in answers(s, 0.3 if sound and is_own else 0.005):
            kind = struct.unpack_from('=I', data, 8)[0] if len(data) == PACKET else 0
            if kind == JOIN:
                if not is_own:
                    print('STOLEN', mine, peer, flush=True)
                    os._exit(9)
                done['our own connection joined'] += 1
                for f in fds:
                    if os.fstat(f).st_size > 512:
                        garbage(f)
                try:
                    garbage(kept)
                except (OSError, ValueError):
                    pass
            close_all(fds)
        os.close(kept)
    for number in [*range(1, 60), 1023]:  # more than one of another user may have; then no bell
        rings = socket.socketpair()
        send(s, message(BELL, number=number), [rings[0].detach()])
        rings[1].close()
        done['bells'] += 1
    if random.randrange(2):
        send(s, message(BELL, number=1022), [os.open('/dev/null', os.O_RDWR)])
    for kind in (JOIN, REFUSE, SEALED, SEEK, BRIDGE, BELL, 8, 0):
        for _ in range(10):
            slot = random.choice([0, 1, 2, 3, random.getrandbits(32)])
            if not send(s, message(kind, sender=(1, 1), receiver=(slot, random.randrange(8)))):
                return
            done['forged answers'] += 1


def squat():
    """Names and directories of others, made first; a directory of hints that leads to us."""
    for uid in (victim, victim + 1, 4242):
        try:
            os.mkdir('/dev/shm/xenloop-%d' % uid)
            done['runtime directories taken'] += 1
        except OSError:
            pass
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    name = 'xenloop/%d/%016x' % (victim, random.getrandbits(64))
    s.bind(b'\0' + name.encode())
    squatted.add(name)
    s.listen(8)
    done['agent names taken'] += 1
    return s


def main():
    cookie = netns_cookie()
    kept = [squat() for _ in range(4)]
    lawful = socket.create_connection(('127.0.0.1', port))
    own = (lawful.getsockname(), lawful.getpeername())
    for _ in range(60):
        lawful.sendall(b'PING\r\n')
        lawful.recv(64)
    for _ in range(20):
        for name in agents() if done['our own connection joined'] == 0 else []:
            try:
                s = talk(name)
            except OSError:
                continue
            if introduce(s, cookie):
                forge(s, own, sound=True)
            s.close()
    crowd = collections.deque()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in agents():
            try:
                s = talk(name)
            except OSError:
                continue
            done['connections to an agent'] += 1
            what = random.randrange(6)
            if what == 0:
                crowd.append(s)  # says nothing, for long
                if len(crowd) > 700:
                    crowd.popleft().close()
                continue
            if what == 1:
                for _ in range(20):
                    if not send(s, os.urandom(random.randrange(1, 300))):
                        break
                    done['packets of noise'] += 1
            elif what == 2:
                for _ in range(300):  # asks and never reads
                    if not send(s, random.choice([b'STAT\n', b'OFF\n', b'ON\n'])):
                        break
                    done['questions'] += 1
                crowd.append(s)
                continue
            else:
                if introduce(s, random.choice([cookie, cookie, 0, 1])):
                    done['introductions accepted'] += 1
                    forge(s, own)
                done['introductions'] += 1
            s.close()
        if random.randrange(4) == 0:
            try:
                lawful.send(b'PING\r\n', socket.MSG_DONTWAIT)
                lawful.recv(4096, socket.MSG_DONTWAIT)
            except OSError:
                pass
    for s in list(crowd) + kept:
        s.close()
    for uid in (victim + 1, 4242):
        try:
            os.rmdir('/dev/shm/xenloop-%d' % uid)
        except OSError:
            pass
    for what, times in sorted(done.items()):
        print('%8d %s' % (times, what))


main()
