"""Where a program runs: scratch folders, servers and clients of one carrier, their time limits and
their end. Knows no particular program."""
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from rows import OTHER, OURS

START_LIMIT_S = 30  # a Java or a data base may take some seconds on a busy machine
CLIENT_LIMIT_S = 60
END_LIMIT_S = 10
PYTHON = "/usr/bin/python3"  # Debian's: it has Debian's modules
TAIL = 300  # of a tool's output that is shown when it fails


class Failed(Exception):
    """A program did not do what the row needs; the text is what the table shows."""


def missing(need):
    """What of a row's needs is not there, in words; empty if it is."""
    kind, _, name = need.rpartition(":")
    if kind == "file":
        return "" if os.path.exists(name) else f"{name} is missing"
    if kind == "module":
        found = subprocess.run([PYTHON, "-c", f"import {name}"], capture_output=True).returncode == 0
        return "" if found else f"Python has no {name}"
    return "" if program(name) else f"{name} is not installed"


def program(name):
    return shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:" + os.environ.get("PATH", ""))


def listens(port):
    """Looked up where the kernel tells: a connection to try would stand in the server's statistics."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                for line in file:
                    fields = line.split()
                    if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                        return True
        except (OSError, ValueError, IndexError):
            continue
    return False


def free_port():
    """Outside of the range from which clients get theirs."""
    while True:
        port = random.randrange(10000, 30000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def end(child, patience_s=END_LIMIT_S, by=signal.SIGTERM):
    """By its own exit if it can, since its statistics are written there; then all that it left."""
    if child.poll() is None:
        child.send_signal(by)
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def tail_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return " ".join(file.read().split())[-TAIL:]


class Workshop:
    """The scratch folder of a run: copies of the libraries, a folder for each family's data."""

    def __init__(self, library, other_library, seconds, smoke):
        self.seconds = seconds
        self.smoke = smoke
        self.path = tempfile.mkdtemp(prefix="xenloop-programs-")
        os.chmod(self.path, 0o755)  # PostgreSQL refuses to be root
        self.libraries = {}
        for carrier, source in ((OURS, library), (OTHER, other_library)):
            if source:
                folder = self.folder(carrier.replace(" ", "-"))
                self.libraries[carrier] = shutil.copy(source, os.path.join(folder, "libxenloop.so"))
                os.chmod(self.libraries[carrier], 0o755)
        self.memory = {}  # of a row: what its first sample found out

    def folder(self, name):
        path = os.path.join(self.path, name)
        os.makedirs(path, exist_ok=True)
        return path

    def file_of(self, name, size, fill=b"x"):
        """A file of that many bytes; one that is there already stays."""
        path = os.path.join(self.folder("files"), name)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                block = fill * (1 << 20)
                while size > 0:
                    size -= file.write(block[:size])
            os.chmod(path, 0o644)
        return path

    def natively(self, command, user=None, limit_s=120):
        """Preparations, which nobody measures."""
        with Stage(self, "preparation", None, {}) as stage:
            return stage.client(command, user=user, limit_s=limit_s)

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Stage:
    """One sample of one row by one carrier; leaving it ends every process."""

    def __init__(self, workshop, row_id, carrier, memory):
        self.workshop, self.carrier, self.memory = workshop, carrier, memory
        self.seconds, self.smoke = workshop.seconds, workshop.smoke
        self.folder = tempfile.mkdtemp(prefix=row_id + "-", dir=workshop.path)
        os.chmod(self.folder, 0o777)
        self.stats = os.path.join(self.folder, "stats")
        with open(self.stats, "w", encoding="ascii"):
            os.chmod(self.stats, 0o666)
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8",
                            "HOME": self.folder, "TMPDIR": self.folder}
        if carrier in workshop.libraries:
            self.preload = {"LD_PRELOAD": workshop.libraries[carrier], "XENLOOP_STATS": self.stats}
        else:
            self.preload = {}
        self.servers = []
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end_servers()
        shutil.rmtree(self.folder, ignore_errors=True)

    def end_servers(self):
        while self.servers:
            child, by = self.servers.pop()
            end(child, by=by)

    @staticmethod
    def port():
        return free_port()

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)
        return path

    def spawn(self, command, user, environment, stdin, output, preload):
        as_user = {}
        if user is not None and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        path = program(command[0])
        if path is None:
            raise Failed(f"{command[0]} is not installed")
        return subprocess.Popen([path, *command[1:]], cwd=self.folder, stdin=stdin, stdout=output[0], stderr=output[1],
                                env={**self.environment, **(environment or {}), **(self.preload if preload else {})},
                                start_new_session=True, **as_user)

    def server(self, command, port=None, ready=None, user=None, environment=None, preload=True,
               ends_by=signal.SIGTERM):
        """Starts it and waits until it listens at the port, or ready() says that it serves. ends_by: the signal at
        which it exits, instead of dying of it."""
        self.count += 1
        log = os.path.join(self.folder, f"server-{self.count}.log")
        with open(log, "wb") as output:
            child = self.spawn(command, user, environment, subprocess.DEVNULL, (output, output), preload)
        self.servers.append((child, ends_by))
        limit = time.monotonic() + START_LIMIT_S
        while not (ready() if ready else port is None or listens(port)):
            if child.poll() is not None:
                raise Failed(f"{os.path.basename(command[0])} does not start: {tail_of(log)}")
            if time.monotonic() > limit:
                raise Failed(f"{os.path.basename(command[0])} does not get ready: {tail_of(log)}")
            time.sleep(0.01)
        return child

    def client(self, command, user=None, environment=None, stdin=None, limit_s=CLIENT_LIMIT_S, preload=True,
               may_fail=False):
        """Runs it to its end; what it printed, errors first."""
        self.count += 1
        names = [os.path.join(self.folder, f"client-{self.count}.{kind}") for kind in ("err", "out")]
        with open(names[0], "wb") as errors, open(names[1], "wb") as output, \
                open(stdin or os.devnull, "rb") as source:
            child = self.spawn(command, user, environment, source, (output, errors), preload)
            try:
                status = child.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise Failed(f"{os.path.basename(command[0])} hangs") from None
            finally:
                end(child, 2)
        if status != 0 and not may_fail:
            raise Failed(f"{os.path.basename(command[0])} ends with {status}: {tail_of(names[0])} {tail_of(names[1])}")
        text = ""
        for name in names:
            with open(name, encoding="utf-8", errors="replace") as file:
                text += file.read()
        return text

    def beside(self, count):
        """Busy loops, as many: other work on the machine."""
        for _ in range(count):
            self.server([PYTHON, "-c", "while True: pass"], preload=False)

    def sized(self, run, first):
        """run(n) gives operations a second. The n of all carriers is what TCP, the first, does in the time."""
        if "count" not in self.memory:
            rate = run(first)
            self.memory["count"] = max(first, int(rate * self.seconds)) if not self.smoke else first
            if self.smoke:
                return rate
        return run(self.memory["count"])
