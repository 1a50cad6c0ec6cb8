"""Containers of an ordinary user, by podman without root: a user namespace in which root is that user, and the user's own
range of ids; a network made by slirp4netns. Otherwise as podman.py."""
import os
import subprocess

USER, FIRST_ID = 4711, 4000000
# What, the address of the server, what the network (or more) of both is, users (always the one), a realm, accelerated?
ONE = (None, None)
PAIRS = [
    ("a pod, one realm", "127.0.0.1", ([], ["--network=container:server"]), ONE, True, True),
    ("a pod, one /dev/shm (podman's own pods), no realm", "127.0.0.1",
     (["--ipc=shareable"], ["--network=container:server", "--ipc=container:server"]), ONE, False, True),
    ("a pod, each its /dev/shm, no realm", "127.0.0.1", ([], ["--network=container:server"]), ONE, False, False),
    ("the host's network, one realm", "127.0.0.1", (["--network=host"], ["--network=host"]), ONE, True, True),
    ("the host's network, one realm, root read-only", "127.0.0.1",
     (["--network=host", "--read-only"], ["--network=host", "--read-only"]), ONE, True, True),
    ("a bridge of the user's own, one realm", "10.99.0.77", (["--network=own", "--ip=10.99.0.77"], ["--network=own"]), ONE,
     True, True),
    ("each its own network, by a published port of the host, one realm", "10.0.2.2", (["-p=7000:7000"],
     ["--network=slirp4netns:allow_host_loopback=true"]), ONE, True, False),
    ("one user's id mapped to itself (--userns=keep-id), the host's network, one realm", "127.0.0.1",
     (["--network=host", "--userns=keep-id"], ["--network=host"]), ONE, True, False),
]


def prepare(work, image):
    os.mkdir(work + "/podman")
    subprocess.run(["bash", "-ec", f"""
        for path in /run /var/lib/cni /etc/cni; do [[ ! -d $path ]] || mount -t tmpfs none $path; done
        mkdir -p {work}/etc {work}/home /run/user/{USER}
        cp /etc/passwd /etc/group {work}/etc/
        echo 'rootless:x:{USER}:{USER}::{work}/home:/bin/sh' >>{work}/etc/passwd
        echo 'rootless:x:{USER}:' >>{work}/etc/group
        echo 'rootless:{FIRST_ID}:65536' | tee {work}/etc/subuid >{work}/etc/subgid
        touch /etc/subuid /etc/subgid
        for file in passwd group subuid subgid; do mount --bind {work}/etc/$file /etc/$file; done
        chown -R {USER}:{USER} {work}/home {work}/podman /run/user/{USER}
        chmod 700 /run/user/{USER}
        # As a machine has them, be it a container itself.
        mkdir -p /run/dev
        mknod -m 666 /run/dev/tun c 10 200
        mount --bind /run/dev/tun /dev/net/tun
        cd /
        tar -C "$1" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./source --exclude=./dev \
          --exclude=./usr/lib/gcc --exclude=./usr/include -cf {work}/image.tar .
        {' '.join(podman(work))} import -q {work}/image.tar xenloop >/dev/null
        rm {work}/image.tar
        {' '.join(podman(work))} network create --subnet 10.99.0.0/24 own >/dev/null""", "_", image], check=True)


def podman(work):
    # Nothing of root's environment: XDG_CACHE_HOME may name a folder that this user cannot write to.
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", "-i", f"HOME={work}/home",
            f"XDG_RUNTIME_DIR=/run/user/{USER}", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "podman", f"--root={work}/podman",
            f"--runroot=/run/user/{USER}/podman", "--cgroup-manager=cgroupfs", "--storage-driver=overlay"]


def command(folder, root, library, program, network, user, realm):
    del root, user
    os.chown(folder + "/out", USER, USER)
    here = ["--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
    realms = [f"-v={realm}:/run/realm", "-e=XENLOOP_RUNTIME_DIR=/run/realm"] if realm else []
    return ["timeout", "-k", "10", "100", *podman(os.path.dirname(folder)), "run", "--rm", "--name", os.path.basename(folder), *here,
            *network, f"-v={library}:/opt/libxenloop.so:ro", "-e=LD_PRELOAD=/opt/libxenloop.so", *realms,
            f"-v={folder}/out:/tmp", "-e=XENLOOP_STATS=/tmp/statistics", "xenloop", *program]
