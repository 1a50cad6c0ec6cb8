"""pairs.py RUNTIME WORK IMAGE LIBRARY: an echo server in one container, its client in another, by crun or by podman
(crun.py, podman.py: which pairs, and how a container is started)."""
import importlib
import os
import re
import subprocess
import sys

RUNTIME, WORK, IMAGE, LIBRARY = sys.argv[1:]
# Only a program that makes threads or children can find out what a filter of system calls allows.
FIRST = """
import os, threading
if "ALONE" not in os.environ:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
"""
SERVER = FIRST + """
import socket
listener = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
peer = listener.accept()[0]
while block := peer.recv(65536):
    peer.sendall(block)
"""
CLIENT = FIRST + """
import socket, sys
client = socket.create_connection((sys.argv[1], 7000))
for i in range(3000):
    sent, got = bytes([i % 251]) * (1 + i * 37 % 6000), b""
    while len(got) < len(sent):
        if not got:
            client.sendall(sent)
        got += client.recv(65536)
    assert got == sent
"""
runtime = importlib.import_module(RUNTIME)


def start(name, program, **how):
    folder = os.path.join(WORK, name)
    subprocess.run(["rm", "-rf", folder], check=True)
    os.makedirs(folder + "/out")
    os.chmod(folder + "/out", 0o777)
    return runtime.command(folder, IMAGE, LIBRARY, ["python3", "-c", *program], **how)


def accelerated(number, address, networks, users, realm):
    directory = None
    if realm:
        directory = os.path.join(WORK, f"realm{number}")
        os.mkdir(directory)
        os.chmod(directory, 0o1777)
    server = subprocess.Popen(start("server", [SERVER], network=networks[0], user=users[0], realm=directory),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first = server.stdout.readline()
    if first != "ready\n":
        sys.exit(f"the server does not start: {first}{server.communicate()[0]}")
    client = subprocess.run(start("client", [CLIENT, address], network=networks[1], user=users[1], realm=directory),
                            capture_output=True, text=True)
    if client.returncode != 0 or server.wait() != 0:
        sys.exit(f"client {client.returncode}, server {server.returncode}: {client.stderr}")
    with open(WORK + "/client/out/statistics", encoding="utf-8") as file:
        statistics = file.read()
    why = re.search(r'"never_upgraded":\{"([^"]*)"', statistics)
    return re.search(r'"upgraded":[1-9]', statistics) is not None, f"TCP: {why[1]}" if why else "TCP"


def main():
    runtime.prepare(WORK, IMAGE)
    wrong = 0
    for number, (what, address, networks, users, realm, expected) in enumerate(runtime.PAIRS):
        found, reason = accelerated(number, address, networks, users, realm)
        wrong += found != expected
        print(f"{RUNTIME}, {what}: {'accelerated' if found else reason}{'' if found == expected else ', WRONG'}", flush=True)
    sys.exit(1 if wrong else 0)


main()
