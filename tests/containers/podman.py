"""Containers by podman, with its own bridge and its own filter of system calls; their image is made of a root of Debian, so
no registry is asked. The library and the realm by README's two mounts and two variables."""
import os
import subprocess

UNCONFINED = "--security-opt=seccomp=unconfined"
# What, the address of the server, what the network (or more) of both is, users of the host that stand for their root, a
# realm, accelerated?
PAIRS = [
    ("one bridge, one realm", "10.88.0.77", (["--ip=10.88.0.77"], []), (None, None), True, True),
    ("one bridge, one realm, root read-only", "10.88.0.77", (["--ip=10.88.0.77", "--read-only"], ["--read-only"]),
     (None, None), True, True),
    ("one bridge, no realm", "10.88.0.77", (["--ip=10.88.0.77"], []), (None, None), False, False),
    ("a pod, each its /dev/shm, no realm", "127.0.0.1", ([], ["--network=container:server"]), (None, None), False, False),
    ("a pod, one realm", "127.0.0.1", ([], ["--network=container:server"]), (None, None), True, True),
    ("a pod, one /dev/shm (podman's own pods), no realm", "127.0.0.1",
     (["--ipc=shareable"], ["--network=container:server", "--ipc=container:server"]), (None, None), False, True),
    ("the host's network, one realm", "127.0.0.1", (["--network=host"], ["--network=host"]), (None, None), True, True),
    ("user namespaces with one mapping, one realm", "10.88.0.77", (["--ip=10.88.0.77"], []), (200000, 200000), True, True),
    ("user namespaces with two mappings, one realm", "10.88.0.77", (["--ip=10.88.0.77"], []), (200000, 300000), True, False),
    ("programs without threads or children, one realm", "10.88.0.77", (["--ip=10.88.0.77", "-e=ALONE=1"], ["-e=ALONE=1"]),
     (None, None), True, False),
    ("the same, no filter of system calls", "10.88.0.77",
     (["--ip=10.88.0.77", "-e=ALONE=1", UNCONFINED], ["-e=ALONE=1", UNCONFINED]), (None, None), True, True),
]


def prepare(work, image):
    os.mkdir(work + "/podman")
    subprocess.run(["bash", "-ec", f"""
        for path in /run /var/lib/cni; do [[ ! -d $path ]] || mount -t tmpfs none $path; done
        tar -C "$1" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists -cf - . |
          {' '.join(podman(work))} import -q - xenloop >/dev/null
        """, "_", image], check=True)


def podman(work):
    return ["podman", f"--root={work}/podman", "--runroot=/run/xenloop-podman"]


def command(folder, root, library, program, network, user, realm):
    del root
    name = os.path.basename(folder)
    # What a machine without systemd's cgroups, or without CAP_SYS_RESOURCE, needs besides.
    here = ["--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
    realms = [f"-v={realm}:/run/realm", "-e=XENLOOP_RUNTIME_DIR=/run/realm"] if realm else []
    users = [f"--uidmap=0:{user}:65536"] if user else []
    return ["timeout", "40", *podman(os.path.dirname(folder)), "run", "--rm", "--name", name, *here, *network, *users,
            f"-v={library}:/opt/libxenloop.so:ro", "-e=LD_PRELOAD=/opt/libxenloop.so", *realms,
            f"-v={folder}/out:/tmp", "-e=XENLOOP_STATS=/tmp/statistics", "xenloop", *program]
