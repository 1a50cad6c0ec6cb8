"""Containers by crun and bundles: process, mount, IPC and host name namespaces of their own, a root that can only be read,
/dev/shm of 64 MiB."""
import json
import os
import subprocess

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


def prepare(work, image):
    del work, image
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


def command(folder, root, library, program, network, user, realm):
    subprocess.run(["crun", "spec"], cwd=folder, check=True)
    with open(folder + "/config.json", encoding="utf-8") as file:
        config = json.load(file)
    config["root"] = {"path": root, "readonly": True}
    config["process"].update(terminal=False, args=program, env=[
        "PATH=/usr/bin:/bin", "LD_PRELOAD=/opt/libxenloop.so", "XENLOOP_STATS=/tmp/statistics"])
    mounts = [mount for mount in config["mounts"] if not mount["type"].startswith("cgroup")]
    mounts += [{"destination": "/tmp", "type": "bind", "source": folder + "/out", "options": ["rbind", "rw"]},
               {"destination": "/opt", "type": "tmpfs", "source": "tmpfs"},
               {"destination": "/opt/libxenloop.so", "type": "bind", "source": library, "options": ["bind", "ro"]}]
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
    name = f"xenloop-{os.path.basename(folder)}-{os.getpid()}"
    return ["timeout", "40", "crun", "--cgroup-manager=disabled", "run", "-b", folder, name]
