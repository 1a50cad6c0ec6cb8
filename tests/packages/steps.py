"""Inside a root of Debian: the packages of /packages/old and /packages/new come and go while programs are started and a
stream of bytes runs. Every start must be silent and right; every byte must come, once and in order."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

PRELOAD = "/etc/ld.so.preload"
PROGRAMS = [["/bin/true"], ["/bin/cat", "/etc/hostname"], ["/bin/sh", "-c", "exec /bin/true"], ["/usr/bin/perl", "-e", "1"]]


def run(*command):
    answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    said = answer.stdout + answer.stderr
    if answer.returncode != 0 or "ld.so" in said.replace("in /etc/ld.so.preload is gone", ""):
        sys.exit(f"{' '.join(command)}: status {answer.returncode}\n{said}")
    return said


class Starts(threading.Thread):
    """Starts one program after another; what is not silent and right ends the whole test."""

    def __init__(self):
        super().__init__(daemon=True)
        self.count, self.problem, self.ending = 0, None, False

    def run(self):
        while not self.ending and self.problem is None:
            command = PROGRAMS[self.count % len(PROGRAMS)]
            answer = subprocess.run(command, capture_output=True, text=True)
            if answer.returncode != 0 or answer.stderr:
                self.problem = f"{command}: status {answer.returncode}: {answer.stderr}"
            self.count += 1


# A client and an echoing server, two processes; told by a line to go on, it answers what it has moved so far.
STREAM = r"""
import hashlib, os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    peer = listener.accept()[0]
    while block := peer.recv(65536):
        peer.sendall(block)
    os._exit(0)
client = socket.create_connection(listener.getsockname())
moved = 0
for line in sys.stdin:
    for i in range(400):
        sent = hashlib.sha256(b"%d" % moved).digest() * (1 + (moved + i * 37) % 700)
        client.sendall(sent)
        got = b""
        while len(got) < len(sent):
            block = client.recv(65536)
            if not block:
                sys.exit("the stream ended")
            got += block
        if got != sent:
            sys.exit("wrong bytes")
        moved += len(got)
    print(moved, "libxenloop.so" in open("/proc/self/maps").read(), flush=True)
client.close()
os.wait()
"""


class Stream:
    def __init__(self, statistics=None):
        environment = {**os.environ, **({"XENLOOP_STATS": statistics} if statistics else {})}
        self.process = subprocess.Popen([sys.executable, "-c", STREAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)

    def go_on(self):
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != 2:
            sys.exit(f"a stream has broken: status {self.process.wait()}")
        return answer[1] == "True"

    def end(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit("a stream has broken at its end")


def packages(folder):
    return sorted(glob.glob(f"/packages/{folder}/*.deb"))


def redis():
    """README's third command: redis is accelerated, by what has been installed."""
    if not shutil.which("redis-server") or not shutil.which("xenloop"):
        return
    server = subprocess.Popen(["xenloop", "run", "--", "redis-server", "--port", "7000", "--save", ""],
                              stdout=subprocess.DEVNULL)
    while subprocess.run(["redis-cli", "-p", "7000", "ping"], capture_output=True).stdout != b"PONG\n":
        if server.poll() is not None:
            sys.exit(f"redis-server ended with {server.returncode}")
        time.sleep(0.1)
    told = json.loads(run("xenloop", "run", "--stats", "--json", "--", "redis-benchmark", "-p", "7000", "-t", "get", "-c", "5",
                          "-n", "20000", "-q").splitlines()[-1])
    if told["upgraded"] < 5 or told["fifo_received"] < 9 * told["tcp_received"]:
        sys.exit(f"redis is not accelerated: {told}")
    server.terminate()
    server.wait()
    print(f"redis: {told['upgraded']} of {told['connections']} connections accelerated", flush=True)


def main():
    names = [os.path.basename(path).split("_")[0] for path in packages("old")]
    before = run("find", "/usr", "/etc", "/lib/systemd", "-xdev", "-name", "*xenloop*")
    starts = Starts()
    starts.start()
    # As README says, but without a network: what is recommended is not there.
    run("apt-get", "-q", "-y", "--no-install-recommends", "install", *packages("old"))
    redis()
    # Ours among others, as an administrator may write it, and a comment that names it.
    with open("/packages/preload", "w", encoding="ascii") as file:
        file.write("# libxenloop.so is here\n/usr/$LIB/libxenloop.so\n")
    os.rename("/packages/preload", PRELOAD)
    streams = [Stream("/packages/statistics")]
    if not streams[0].go_on():
        sys.exit("the library is not in a program that was started with it in /etc/ld.so.preload")

    def all_go_on(step):
        streams.append(Stream())
        for stream in streams:
            stream.go_on()
        if starts.problem:
            sys.exit(f"{step}: a program did not start well: {starts.problem}")
        print(f"{step}: {len(streams)} streams go on, {starts.count} starts", flush=True)

    all_go_on("installed")
    for folder in ("new", "old", "new"):
        run("dpkg", "-i", *packages(folder))
        all_go_on(f"the {folder} ones over the others")
    run("dpkg", "--remove", *names)
    with open(PRELOAD, encoding="ascii") as file:
        left = file.read()
    if re.sub(r"#.*", "", left).strip():
        sys.exit(f"removed, and yet {PRELOAD} says: {left}")
    all_go_on("removed")
    run("dpkg", "-i", *packages("old"))
    run("dpkg", "--purge", *names)
    all_go_on("purged")
    for stream in streams:
        stream.end()
    starts.ending = True
    starts.join()
    if starts.problem:
        sys.exit(f"a program did not start well: {starts.problem}")
    with open("/packages/statistics", encoding="ascii") as file:
        if not re.search(r'"upgraded":[1-9]', file.read()):
            sys.exit("the first stream was never accelerated")
    after = run("find", "/usr", "/etc", "/lib/systemd", "-xdev", "-name", "*xenloop*")
    if after != before:
        sys.exit(f"left behind:\n{after}")


main()
