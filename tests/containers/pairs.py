"""pairs.py WORK ROOT LIBRARY: an echo server in one container, its client in another, with crun and bundles: process, mount,
IPC and host name namespaces of their own, a root that can only be read, /dev/shm of 64 MiB."""
import json
import os
import re
import subprocess
import sys

WORK, ROOT, LIBRARY = sys.argv[1:]
SERVER = """
import socket
listener = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
peer = listener.accept()[0]
while block := peer.recv(65536):
    peer.sendall(block)
"""
CLIENT = """
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
# What, the address of the server, the namespaces of both, users of the host that stand for their root, a realm, accelerated?
PAIRS = [
    ("one bridge, one realm", "10.77.0.1", ("a", "b"), (None, None), True, True),
    ("one bridge, no realm", "10.77.0.1", ("a", "b"), (None, None), False, False),
    ("a pod, each its /dev/shm, no realm", "127.0.0.1", ("a", "a"), (None, None), False, False),
    ("a pod, one realm", "127.0.0.1", ("a", "a"), (None, None), True, True),
    ("the host's network, one realm", "127.0.0.1", (None, None), (None, None), True, True),
    ("user namespaces with one mapping, one realm", "10.77.0.1", ("a", "b"), (200000, 200000), True, True),
    ("user namespaces with two mappings, one realm", "10.77.0.1", ("a", "b"), (200000, 300000), True, False),
]


def bundle(name, code, arguments, network, user, realm):
    folder = os.path.join(WORK, name)
    subprocess.run(["rm", "-rf", folder], check=True)
    os.makedirs(folder + "/out")
    os.chmod(folder + "/out", 0o777)
    subprocess.run(["crun", "spec"], cwd=folder, check=True)
    with open(folder + "/config.json", encoding="utf-8") as file:
        config = json.load(file)
    config["root"] = {"path": ROOT, "readonly": True}
    config["process"].update(terminal=False, args=["python3", "-c", code, *arguments], env=[
        "PATH=/usr/bin:/bin", "LD_PRELOAD=/opt/libxenloop.so", "XENLOOP_STATS=/tmp/statistics"])
    mounts = [mount for mount in config["mounts"] if not mount["type"].startswith("cgroup")]
    mounts += [{"destination": "/tmp", "type": "bind", "source": folder + "/out", "options": ["rbind", "rw"]},
               {"destination": "/opt", "type": "tmpfs", "source": "tmpfs"},
               {"destination": "/opt/libxenloop.so", "type": "bind", "source": LIBRARY, "options": ["bind", "ro"]}]
    namespaces = [space for space in config["linux"]["namespaces"] if space["type"] not in ("network", "cgroup")]
    if network:
        namespaces.append({"type": "network", "path": f"/run/netns/{network}"})
    if realm:
        mounts.append({"destination": "/run/realm", "type": "bind", "source": realm, "options": ["rbind", "rw"]})
        config["process"]["env"].append("XENLOOP_RUNTIME_DIR=/run/realm")
    if user:
        namespaces.append({"type": "user"})
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [
            {"containerID": 0, "hostID": user, "size": 65536}]
        mounts = [mount for mount in mounts if mount["type"] != "sysfs"]
    config["mounts"], config["linux"]["namespaces"] = mounts, namespaces
    with open(folder + "/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return ["timeout", "40", "crun", "--cgroup-manager=disabled", "run", "-b", folder, f"xenloop-{name}-{os.getpid()}"]


def accelerated(number, address, networks, users, realm):
    directory = None
    if realm:
        directory = os.path.join(WORK, f"realm{number}")
        os.mkdir(directory)
        os.chmod(directory, 0o1777)
    server = subprocess.Popen(bundle("server", SERVER, [], networks[0], users[0], directory), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    first = server.stdout.readline()
    if first != "ready\n":
        sys.exit(f"the server does not start: {first}{server.communicate()[0]}")
    client = subprocess.run(bundle("client", CLIENT, [address], networks[1], users[1], directory), capture_output=True,
                            text=True)
    if client.returncode != 0 or server.wait() != 0:
        sys.exit(f"client {client.returncode}, server {server.returncode}: {client.stderr}")
    with open(WORK + "/client/out/statistics", encoding="utf-8") as file:
        return re.search(r'"upgraded":[1-9]', file.read()) is not None


def main():
    os.chmod(WORK, 0o755)
    subprocess.run(["bash", "-ec", """
        ip link add bridge type bridge
        ip link set bridge up
        i=1
        for name in a b; do
          ip netns add $name
          ip -n $name link set lo up
          ip link add v$name type veth peer name eth0 netns $name
          ip link set v$name master bridge up
          ip -n $name addr add 10.77.0.$i/24 dev eth0
          ip -n $name link set eth0 up
          i=$((i + 1))
        done"""], check=True)
    wrong = 0
    for number, (what, address, networks, users, realm, expected) in enumerate(PAIRS):
        found = accelerated(number, address, networks, users, realm)
        wrong += found != expected
        print(f"{what}: {'accelerated' if found else 'TCP'}{'' if found == expected else ', WRONG'}", flush=True)
    sys.exit(1 if wrong else 0)


main()
