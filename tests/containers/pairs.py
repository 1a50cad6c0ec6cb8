"""pairs.py RUNTIME WORK IMAGE LIBRARY: an echo server in one container, its client in another, by crun or by podman
(crun.py, podman.py: which pairs, and how a container is started)."""
import importlib
import json
import os
import re
import subprocess
import sys
import time

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
import os, socket, sys, time
client = socket.create_connection((sys.argv[1], 7000))
for i in range(3000):
    sent, got = bytes([i % 251]) * (1 + i * 37 % 6000), b""
    while len(got) < len(sent):
        if not got:
            client.sendall(sent)
        got += client.recv(65536)
    assert got == sent
# The host looks meanwhile.
open("/tmp/talking", "w").close()
for i in range(600):
    if os.path.exists("/tmp/seen"):
        break
    time.sleep(0.1)
"""
runtime = importlib.import_module(RUNTIME)


def start(name, program, **how):
    folder = os.path.join(WORK, name)
    subprocess.run(["rm", "-rf", folder], check=True)
    os.makedirs(folder + "/out")
    os.chmod(folder + "/out", 0o777)
    return runtime.command(folder, IMAGE, LIBRARY, ["python3", "-c", *program], **how)


def seen_from_host(realm, client):
    """How many ends `xenloop stat`, in no container, shows by FIFO; the client waits for that, or has ended."""
    while not os.path.exists(WORK + "/client/out/talking") and client.poll() is None:
        time.sleep(0.1)
    told = subprocess.run([os.path.dirname(LIBRARY) + "/../bin/xenloop", "stat", "--json"], capture_output=True, text=True,
                          env={**os.environ, **({"XENLOOP_RUNTIME_DIR": realm} if realm else {})})
    open(WORK + "/client/out/seen", "w", encoding="utf-8").close()
    return sum(any(stream["route_send"] == "local" for stream in process["streams"])
               for process in json.loads(told.stdout)["processes"])


def accelerated(number, address, networks, users, realm):
    directory = None
    if realm:
        directory = os.path.join(WORK, f"realm{number}")
        os.mkdir(directory)
        os.chmod(directory, 0o1777)
    server = subprocess.Popen(start("server", [SERVER], network=networks[0], user=users[0], realm=directory),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # What the runtime warns of comes before.
    for line in server.stdout:
        if line == "ready\n":
            break
        print(f"{RUNTIME} says: {line}", end="", file=sys.stderr, flush=True)
    else:
        sys.exit(f"the server does not start: {server.wait()}")
    client = subprocess.Popen(start("client", [CLIENT, address], network=networks[1], user=users[1], realm=directory),
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seen = seen_from_host(directory, client)
    error = client.communicate()[1]
    if client.returncode != 0 or server.wait() != 0:
        sys.exit(f"client {client.returncode}, server {server.returncode}: {error}")
    with open(WORK + "/client/out/statistics", encoding="utf-8") as file:
        statistics = file.read()
    why = re.search(r'"never_upgraded":\{"([^"]*)"', statistics)
    found = re.search(r'"upgraded":[1-9]', statistics) is not None
    # Users of a user namespace go by other numbers than the host's, and are not believed.
    if found and realm and users == (None, None) and RUNTIME != "rootless" and seen != 2:
        sys.exit(f"`xenloop stat` on the host sees {seen} of 2 ends")
    return found, f"accelerated, the host sees {seen} ends" if found else f"TCP: {why[1]}" if why else "TCP"


def main():
    runtime.prepare(WORK, IMAGE)
    wrong = 0
    for number, (what, address, networks, users, realm, expected) in enumerate(runtime.PAIRS):
        found, told = accelerated(number, address, networks, users, realm)
        wrong += found != expected
        print(f"{RUNTIME}, {what}: {told}{'' if found == expected else ', WRONG'}", flush=True)
    sys.exit(1 if wrong else 0)


main()
