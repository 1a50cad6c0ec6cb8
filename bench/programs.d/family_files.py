"""rsync's daemon: a process a connection, which forks again, one half for each direction."""
import os
import shutil
import time

from rows import Row
from stage import Failed

SETUP = "one large file, whole; both ends on one file system"


def _daemon(stage, module):
    port = stage.port()
    me = f"uid = {os.geteuid()}\ngid = {os.getegid()}\n"
    config = stage.file("rsyncd.conf", f"use chroot = no\n{me}[files]\npath = {module}\nread only = no\n")
    stage.server(["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}", f"--config={config}"],
                 port=port)
    return f"rsync://127.0.0.1:{port}/files/"


def transfer(stage, push):
    size = (16 if stage.smoke else 300) << 20
    source = stage.workshop.file_of("rsync-source", size, os.urandom(1))
    target = os.path.join(stage.folder, "target")
    os.mkdir(target)
    url = _daemon(stage, target if push else os.path.dirname(source))
    command = [source, url] if push else [url + "rsync-source", target]
    started = time.monotonic()
    stage.client(["rsync", "--whole-file", *command])
    seconds = time.monotonic() - started
    copied = os.path.join(target, "rsync-source")
    if os.path.getsize(copied) != size:
        raise Failed("rsync: the copy has another size")
    shutil.rmtree(target)
    return size / 1e6 / seconds


def pull(stage):
    return transfer(stage, False)


def push(stage):
    return transfer(stage, True)


def rows():
    return [Row("rsync-pull", "rsync from its daemon", "MB/s", pull, SETUP, ("rsync",), ("rsync",)),
            Row("rsync-push", "rsync to its daemon", "MB/s", push, SETUP, ("rsync",), ("rsync",))]
