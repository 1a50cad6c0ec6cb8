"""A guest as passt sees it: Ethernet frames with their length before them. Makes a TCP connection to
ADDRESS:PORT, where somebody echoes, and sends and hears 100 bytes sixty times.
    passt_guest.py SOCKET PORT ADDRESS"""
import socket
import struct
import sys

PATH, PORT, ADDRESS = sys.argv[1], int(sys.argv[2]), sys.argv[3]
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ROUNDS = 60
link = socket.socket(socket.AF_UNIX)
link.connect(PATH)
link.settimeout(8)
source, target = socket.inet_aton("198.51.100.2"), socket.inet_aton(ADDRESS)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def send(sequence, acknowledged, flags, data=b""):
    options = b"\x02\x04\x05\xb4" if flags & SYN else b""
    head = struct.pack("!HHIIBBHHH", 40000, PORT, sequence, acknowledged, (5 + len(options) // 4) << 4,
                       flags, 65535, 0, 0) + options
    pseudo = source + target + struct.pack("!BBH", 0, 6, len(head) + len(data))
    head = head[:16] + struct.pack("!H", checksum(pseudo + head + data)) + head[18:]
    packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(head) + len(data), 1, 0, 64, 6, 0) + source + target
    packet = packet[:10] + struct.pack("!H", checksum(packet)) + packet[12:]
    frame = b"\xff" * 6 + bytes.fromhex("525400123456") + b"\x08\x00" + packet + head + data
    link.sendall(struct.pack("!I", len(frame)) + frame)


def exactly(count):
    data = b""
    while len(data) < count:
        block = link.recv(count - len(data))
        if not block:
            sys.exit("passt has closed the socket")
        data += block
    return data


sequence, acknowledged, rounds, heard = 1000, 0, 0, b""
send(sequence, 0, SYN)
sequence += 1
while rounds < ROUNDS:
    frame = exactly(struct.unpack("!I", exactly(4))[0])
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        continue
    segment = frame[14 + (frame[14] & 15) * 4:14 + struct.unpack("!H", frame[16:18])[0]]
    at, _, offset, flags = struct.unpack("!IIBB", segment[4:14])
    data = segment[(offset >> 4) * 4:]
    if flags & RST:
        sys.exit("the connection was reset")
    if flags & SYN:
        acknowledged = at + 1
        print("connected")
        send(sequence, acknowledged, ACK)
    elif data and at == acknowledged:
        acknowledged += len(data)
        heard += data
        if len(heard) < 100:
            send(sequence, acknowledged, ACK)
            continue
        assert heard == bytes([rounds]) * 100, heard
        heard = b""
        rounds += 1
    else:
        continue
    send(sequence, acknowledged, ACK | PSH, bytes([rounds]) * 100)
    sequence += 100
print(rounds, "rounds")
send(sequence, acknowledged, RST | ACK)
