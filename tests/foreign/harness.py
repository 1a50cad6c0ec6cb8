"""Runs one unit of a suite in several ways, compares outcomes, and knows how bytes went.

A unit is a named group of tests that is run as a whole: unit.run(bench, way) returns {test: outcome}
with the outcomes below. A way is how programs are started: natively or with the library.
"""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PASSED, SKIPPED, FAILED, HUNG, CRASHED = "passed", "skipped", "failed", "hung", "crashed"
BAD = {FAILED, HUNG, CRASHED}
SETTINGS = {
    "default": {},
    "eager": {"XENLOOP_UPGRADE_AFTER": "0"},
    "forced": {"XENLOOP_TEST_POINTS": "on"},  # and force_upgrade.c in front of the library
}
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class CannotRun(Exception):
    """Nothing wrong with the library: the machine lacks what the suites need."""


class Unit:
    def __init__(self, name, run, settings=None):
        self.name = name
        self.run = run
        self.settings = settings  # None: those that were asked for


class Way:
    """How programs are started: name, environment, and the file their statistics go to."""

    def __init__(self, name, environment, stats):
        self.name = name
        self.environment = environment
        self.stats = stats

    @property
    def native(self):
        return self.name == "native"

    def fifo_bytes(self):
        total = 0
        for line in read(self.stats).splitlines():
            try:
                entry = json.loads(line)
                total += entry["fifo_sent"] + entry["fifo_received"]
            except (ValueError, KeyError, TypeError):
                pass  # a process that was killed while it wrote
        return total


class Bench:
    """A scratch folder with a copy of the library, and a clean environment for foreign programs."""

    def __init__(self, build, keep):
        self.build = os.path.abspath(build or os.path.join(SOURCE, "build", "release"))
        self.keep = keep
        self.count = 0

    def __enter__(self):
        library = os.path.join(self.build, "lib", "libxenloop.so")
        if not os.path.exists(library):
            raise CannotRun(f"{library} is missing: build it first (cmake --workflow --preset release)")
        self.work = tempfile.mkdtemp(prefix="xenloop-foreign.")
        os.chmod(self.work, 0o755)  # some tests go on as another user
        self.library = shutil.copy(library, self.work)
        self.home = self.folder("home")
        return self

    def __exit__(self, *_):
        if self.keep:
            print(f"kept: {self.work}")
        else:
            shutil.rmtree(self.work, ignore_errors=True)

    def folder(self, name):
        self.count += 1
        path = os.path.join(self.work, f"{self.count:03}-{name}")
        os.mkdir(path)
        return path

    def way(self, name):
        if name == "native":
            return Way(name, {}, os.devnull)
        if name not in SETTINGS and name != "own":
            raise CannotRun(f"no setting {name}; there are: {', '.join(SETTINGS)}")
        stats = os.path.join(self.folder(name), "stats")
        with open(stats, "w", encoding="ascii"):
            os.chmod(stats, 0o666)  # for tests that run as another user
        if name == "own":  # the unit itself preloads the library
            return Way(name, {}, stats)
        preload = self.library if name != "forced" else f"{self.force_upgrade()} {self.library}"
        return Way(name, {"LD_PRELOAD": preload, "XENLOOP_STATS": stats, **SETTINGS[name]}, stats)

    def force_upgrade(self):
        built = os.path.join(self.work, "force_upgrade.so")
        if not os.path.exists(built):
            source = os.path.join(SOURCE, "tests", "foreign", "force_upgrade.c")
            if subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", built, source]).returncode != 0:
                raise CannotRun("force_upgrade.c cannot be compiled: install build-essential")
        return built

    def execute(self, way, command, log, limit_s, cwd=None, **environment):
        """Runs a command in a session of its own; its output goes to the file `log`. Returns its exit
        status as subprocess does, or None if it took too long and was killed with all its children."""
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.home, "LC_ALL": "C.UTF-8"}
        with open(log, "wb") as output:
            child = subprocess.Popen(command, cwd=cwd, env={**clean, **environment, **way.environment},
                                     stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                     start_new_session=True)
            try:
                return child.wait(limit_s)
            except subprocess.TimeoutExpired:
                return None
            finally:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                child.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_user(name):
    """The beginning of a command that runs as this user, if we may choose."""
    return ["setpriv", f"--reuid={name}", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def install(packages):
    """Only what is missing, as tests/run does, without starting a daemon."""
    def present(package):
        answer = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package],
                                capture_output=True, text=True)
        if answer.stdout == "installed":
            return True
        # Under the name of a package that provides it.
        answer = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}, ${Provides}\n"],
                                capture_output=True, text=True)
        return any(package in re.split(r"(?: \([^)]*\))?, *", line + ", ")[1:]
                   for line in answer.stdout.splitlines() if line.startswith("installed"))

    missing = [package for package in packages if not present(package)]
    if not missing:
        return
    if os.geteuid() != 0 or os.environ.get("XENLOOP_NO_APT") == "1":
        raise CannotRun("packages are missing: " + " ".join(missing))
    print("installing", *missing, flush=True)
    policy = "/usr/sbin/policy-rc.d"  # Debian's maintainer scripts ask it before they start a daemon
    made = not os.path.exists(policy)
    if made:
        with open(policy, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(policy, 0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update"],
                        ["-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "install", *missing]):
            if subprocess.run(["apt-get", "-q", *command], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL).returncode != 0:
                raise CannotRun("apt-get failed: " + " ".join(command))
    finally:
        if made:
            os.unlink(policy)


def fetch_source(cache, package):
    """Debian's source package into cache/source, with a sources file of our own: the machine's need not have deb-src
    lines. Archive and release are the machine's, and the version that of the binaries that are installed, where it is to be had:
    older tests fail with newer programs."""
    if os.environ.get("XENLOOP_NO_APT") == "1":
        raise CannotRun(f"no source of {package} (tests/foreign/run --prepare)")
    print("fetching the source of", package, flush=True)
    shutil.rmtree(cache, ignore_errors=True)
    lists = os.path.join(cache, "lists")
    os.makedirs(os.path.join(lists, "partial"))
    release = re.search(r"^VERSION_CODENAME=(\S+)", read("/etc/os-release"), re.M)
    sources = os.path.join(cache, "source.sources")
    with open(sources, "w", encoding="ascii") as file:
        for site, suite in archives():
            file.write(f"Types: deb-src\nURIs: {site}\nSuites: {suite}\nComponents: main\n"
                       "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n")
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null",
           "-o", f"Dir::State::Lists={lists}", "-o", "APT::Sandbox::User=root"]
    log = os.path.join(cache, "log")
    logged(cache, log, *apt, "update")
    version = installed_version(package)
    wanted = ([f"{package}={version}"] if version else []) + [package] + ([f"{package}/{release[1]}"] if release else [])
    for which in wanted:  # a mirror may lack what it lists
        try:
            logged(cache, log, *apt, "source", "--download-only", which)
            break
        except CannotRun:
            if which == wanted[-1]:
                raise
            for name in glob.glob(os.path.join(cache, "*.dsc")):
                os.unlink(name)
    got = glob.glob(os.path.join(cache, "*.dsc"))
    if version and f"_{version.split(':')[-1]}.dsc" not in got[0]:
        print(f"{package} is installed in version {version}, whose source is not to be had:", os.path.basename(got[0]),
              flush=True)
    logged(cache, log, "dpkg-source", "-x", os.path.basename(got[0]), "source")


def archives():
    """(address, suite) of each archive with a component main that the machine's own apt uses."""
    answer = subprocess.run(["apt-get", "indextargets", "--format", "$(COMPONENT) $(REPO_URI) $(RELEASE)"],
                            capture_output=True, text=True)
    found = sorted({tuple(line.split()[1:]) for line in answer.stdout.splitlines() if line.startswith("main ")})
    if not found:
        raise CannotRun("apt knows no archive with a component main (apt-get update)")
    return found


def installed_version(source):
    """The version of a source package of which something is installed, or ''."""
    answer = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${source:Package} ${source:Version}\\n"],
                            capture_output=True, text=True)
    found = re.search(rf"^installed {re.escape(source)} (\S+)$", answer.stdout, re.M)
    return found[1] if found else ""


def build_with_cmake(cache, package, target, *options):
    """Debian's source package in cache/source, and one target of it in cache/build."""
    fetch_source(cache, package)
    print("building", package, flush=True)
    log = os.path.join(cache, "log")
    logged(cache, log, "cmake", "-G", "Ninja", "-S", "source", "-B", "build", "-DCMAKE_BUILD_TYPE=Release", *options)
    logged(cache, log, "ninja", "-C", "build", target)


def logged(folder, log, *command):
    with open(log, "a", encoding="utf-8") as output:
        if subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                          stderr=subprocess.STDOUT).returncode != 0:
            raise CannotRun(f"failed: {' '.join(command)}; see {log}")


class Tally:
    """Outcomes of the same unit run several times in one way."""

    def __init__(self):
        self.runs = []
        self.fifo_bytes = 0

    def add(self, outcomes, fifo_bytes):
        self.runs.append(outcomes)
        self.fifo_bytes += fifo_bytes

    def tests(self):
        return set().union(*self.runs)

    def count(self, test, wanted):
        return sum(outcomes.get(test) in wanted for outcomes in self.runs)

    def failing(self):
        return {test for test in self.tests() if self.count(test, BAD)}


def unlike(native, ours):
    """{test: how} for the tests that do not behave alike, over all runs so far. Without a native one nothing is said."""
    found = {}
    if not native.runs:
        return found
    for test in sorted(native.tests() | ours.tests()):
        of_native, of_ours = len(native.runs), len(ours.runs)
        bad_native, bad_ours = native.count(test, BAD), ours.count(test, BAD)
        there_native = native.count(test, {PASSED} | BAD)
        there_ours = ours.count(test, {PASSED} | BAD)
        if bad_ours and not bad_native:
            how = next(run[test] for run in ours.runs if run.get(test) in BAD)
            found[test] = f"{how} {bad_ours}/{of_ours}, natively 0/{of_native}"
        elif bad_native == of_native and not bad_ours:
            found[test] = f"passes, natively fails {bad_native}/{of_native}"
        elif there_native == of_native and there_ours < of_ours and not bad_ours:
            found[test] = f"not run in {of_ours - there_ours} of {of_ours}"
    return found


def once(bench, unit, name, tally):
    way = bench.way(name)
    started = time.monotonic()
    outcomes = unit.run(bench, way)
    tally.add(outcomes, 0 if way.native else way.fifo_bytes())
    bad = sorted(test for test, outcome in outcomes.items() if outcome in BAD)
    print(f"  {unit.name} {name}: {len(outcomes)} tests, {time.monotonic() - started:.0f} s"
          + (f", failing: {' '.join(bad)}" if bad else ""), flush=True)


def compare(bench, suite, unit, settings, runs, repeat):
    """One row a setting. What differs is repeated, so that a flaky test is not taken for a finding."""
    native = Tally()
    for _ in range(runs if unit.settings != ["own"] else 0):
        once(bench, unit, "native", native)
    for setting in unit.settings or settings:
        ours = Tally()
        for _ in range(runs):
            once(bench, unit, setting, ours)
        # A unit that preloads the library itself has run natively as well, and has compared.
        if not native.runs and set(ours.runs[0].values()) != {PASSED}:
            once(bench, unit, "native", native)
        for _ in range(repeat):
            if not unlike(native, ours):
                break
            once(bench, unit, "native", native)
            once(bench, unit, setting, ours)
        yield {
            "suite": f"{suite}/{unit.name}",
            "setting": setting,
            "tests": sum(outcome != SKIPPED for outcome in ours.runs[0].values()),
            "native_failures": sorted(native.failing()),
            "failures": sorted(ours.failing()),
            "differences": unlike(native, ours),
            "fifo_bytes": ours.fifo_bytes // len(ours.runs),
        }


COLUMNS = "{:42} {:8} {:>6} {:>8} {:>6} {:>5} {:>13}"


def table_line(row):
    return COLUMNS.format(row["suite"], row["setting"], row["tests"], len(row["native_failures"]),
                          len(row["failures"]), len(row["differences"]), row["fifo_bytes"])


def table(rows):
    lines = [COLUMNS.format("suite", "setting", "tests", "native-", "ours-", "diff", "FIFO bytes")]
    for row in rows:
        lines.append(table_line(row))
        lines += [f"    {test}: {how}" for test, how in row["differences"].items()]
    return "\n".join(lines)
