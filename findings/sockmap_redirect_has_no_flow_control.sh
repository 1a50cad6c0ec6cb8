#!/usr/bin/env bash
# TCP sockets joined by a sockmap (BPF_F_INGRESS): nothing bounds the sender, and the reader's wishes are not met.
#
# Guess:   what goes past the stack keeps its manners: a sender whose peer does not read meets EAGAIN after some
#          megabytes, SO_RCVLOWAT holds poll back, MSG_WAITALL waits, an urgent byte stays outside the stream.
# Subject: BPF_MAP_TYPE_SOCKMAP with an SK_MSG program that redirects to the peer's ingress queue, Linux 6.18.44;
#          only the kernel. Root.
# Seen:    16 MB are taken by a socket with SO_SNDBUF and SO_RCVBUF of 64 KiB at both ends, and poll reports room
#          all the while; recv(20, MSG_WAITALL) gives the 5 bytes that are there; poll reports 5 bytes where 20 were
#          asked for; the urgent byte comes as an ordinary one. Bytes, order and the end of the stream are right.
# Matters: sockmap is the other way to accelerate TCP on one host. A figure of its throughput with a reader slower
#          than the sender shows the speed of memory, and a program that relies on back-pressure fills the machine.
# Source:  net/ipv4/tcp_bpf.c: bpf_tcp_ingress charges the receiver's memory and asks for no limit; the rest none known.
set -euo pipefail
[[ $(id -u) == 0 && $(uname -m) == x86_64 ]] || { echo "needs root, on x86_64"; exit 77; }

python3 - <<'PYTHON'
import ctypes, os, select, socket, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
kept = []  # what the kernel gets addresses of

def address(data):
    kept.append(ctypes.create_string_buffer(data, len(data)))
    return ctypes.addressof(kept[-1])

def bpf(command, attributes):
    result = libc.syscall(321, command, ctypes.create_string_buffer(attributes.ljust(144, b"\0"), 144), 144)
    if result < 0:
        print("this kernel does not give us sockmaps:", os.strerror(ctypes.get_errno()))
        sys.exit(77)
    return result

def instruction(code, to, source, offset, value):
    return struct.pack("<BBhi", code, to | source << 4, offset, value)

def pair(joined):
    listener = socket.socket()
    ends = [socket.socket()]
    for one in (listener, ends[0]):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    ends[0].connect(listener.getsockname())
    ends.append(listener.accept()[0])
    if not joined:
        return ends
    sockmap = bpf(0, struct.pack("5I", 15, 4, 4, 2, 0))
    local_port = 64  # in struct sk_msg_md
    program = b"".join((
        instruction(0x61, 6, 1, local_port, 0),                     # r6 = the sender's port
        instruction(0xB7, 3, 0, 0, 0),                              # r3 = 0, or 1 when end 0 sends: the other's key
        instruction(0x55, 6, 0, 1, ends[0].getsockname()[1]),
        instruction(0xB7, 3, 0, 0, 1),
        instruction(0x18, 2, 1, 0, sockmap), instruction(0, 0, 0, 0, 0),
        instruction(0xB7, 4, 0, 0, 1),                              # BPF_F_INGRESS
        instruction(0x85, 0, 0, 0, 60),                             # bpf_msg_redirect_map
        instruction(0x95, 0, 0, 0, 0)))
    loaded = bpf(5, struct.pack("IIQQ", 16, len(program) // 8, address(program), address(b"GPL\0")))
    bpf(8, struct.pack("3I", sockmap, loaded, 7))                   # BPF_SK_MSG_VERDICT
    for key, end in enumerate(ends):
        bpf(2, struct.pack("IIQQQ", sockmap, 0, address(struct.pack("I", key)), address(struct.pack("I", end.fileno())), 0))
    return ends

def readable(end):
    return bool(select.select([end], [], [], 0.2)[0])

def seen(joined):
    sender, receiver = pair(joined)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 0, 300_000))
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 20)
    sender.sendall(b"12345")
    low = readable(receiver)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    before = time.monotonic()
    first = receiver.recv(20, socket.MSG_WAITALL)
    waited = time.monotonic() - before > 0.25
    sender.send(b"!", socket.MSG_OOB)
    ordinary = readable(receiver) and receiver.recv(10, socket.MSG_DONTWAIT) == b"!"
    sender.setblocking(False)
    most, taken, block = 16_000_000, 0, os.urandom(50_000)
    try:
        while taken < most:
            taken += sender.send((block * 2)[taken % len(block):][:len(block)])
    except BlockingIOError:
        pass
    room = bool(select.select([], [sender], [], 0)[1])
    sender.shutdown(socket.SHUT_WR)
    got = bytearray()
    while data := receiver.recv(1 << 20):
        got += data
    right = bytes(got).lstrip(b"!") == (block * (taken // len(block) + 1))[:taken]
    return low, waited, ordinary, taken >= most, room, right

rows = {name: seen(joined) for name, joined in (("TCP", False), ("sockmap", True))}
for name, (low, waited, ordinary, all_taken, room, right) in rows.items():
    print("%-8s poll tells of less than SO_RCVLOWAT: %-6s MSG_WAITALL waits: %-6s urgent byte in the stream: %-6s "
          "takes 16 MB unread: %-6s room after that: %-6s bytes right: %s" % (name, low, waited, ordinary, all_taken, room, right))
if rows["TCP"] != (False, True, False, False, False, True):
    sys.exit("something else than the finding went wrong")
if rows["sockmap"] != (True, False, True, True, True, True):
    sys.exit("CHANGED: sockmap does otherwise")
PYTHON
echo "as found"
