"""A stream of many sizes through an echoing thread, checked byte by byte."""
import socket
import threading

listener = socket.create_server(("127.0.0.1", 0))


def serve():
    peer = listener.accept()[0]
    while block := peer.recv(70000):
        peer.sendall(block)
    peer.close()


thread = threading.Thread(target=serve)
thread.start()
client = socket.create_connection(listener.getsockname())
for i in range(2000):
    sent = bytes([i % 251]) * (1 + i * 37 % 60000)
    client.sendall(sent)
    got = bytearray()
    while len(got) < len(sent):
        got += client.recv(65536)
    assert got == sent
client.close()
thread.join()
