"""Node's own tests of net, http, cluster, TLS and UDP, from Debian's source package, run by the installed node: libuv's
loop under a program that hands listeners and connections to its workers. A process a test."""
import concurrent.futures
import glob
import itertools
import os
import re
import shutil
import subprocess

from harness import CRASHED, FAILED, HUNG, PASSED, SKIPPED, CannotRun, Unit, as_user, fetch_source, free_port, read

PACKAGES = ["nodejs", "dpkg-dev", "ca-certificates", "util-linux"]
KINDS = {"net": ["net"], "http": ["http"], "cluster": ["cluster"], "https": ["https", "http2"], "tls": ["tls"],
         "dgram": ["dgram"]}
LIMIT_S = 60  # a test
AT_ONCE = 2  # of test/parallel; those of test/sequential run alone
found = {}


def units(quick):
    return [] if quick else [Unit(name, lambda bench, way, name=name: run(bench, way, name)) for name in KINDS]


def prepare(bench):
    if not shutil.which("node"):
        raise CannotRun("node is not installed")
    cache = os.path.join(bench.build, "foreign", "node")
    if not os.path.exists(os.path.join(cache, "source", "test", "parallel")):
        fetch_source(cache, "nodejs")
    # In a folder that an unprivileged user can read; each test gets a writable one besides.
    found["folder"] = bench.folder("node")
    for name in ("test", "benchmark", "lib"):
        if os.path.isdir(os.path.join(cache, "source", name)):
            shutil.copytree(os.path.join(cache, "source", name), os.path.join(found["folder"], name), symlinks=True)


def run(bench, way, name):
    logs = bench.folder(f"node-{name}-{way.name}")
    scratch = bench.folder(f"{name}-{way.name}")
    os.chmod(scratch, 0o777)
    numbers = itertools.count(1)

    def one(path):
        test = os.path.relpath(path, os.path.join(found["folder"], "test"))
        log = os.path.join(logs, test.replace("/", "."))
        with open(path, encoding="utf-8", errors="replace") as source:
            flags = re.findall(r"^// Flags: *(.*)$", source.read(), re.M)
        number = str(next(numbers))
        command = [*as_user("nobody"), "node", *" ".join(flags).split(), path]
        # As tools/test.py has it: a folder and, for those that run alone, a port (another run may have the usual one).
        environment = {"NODE_TEST_DIR": scratch, "TEST_SERIAL_ID": number}
        if test.startswith("parallel/"):
            environment["TEST_PARALLEL"] = "1"
        else:
            environment["NODE_COMMON_PORT"] = str(free_port())
        status = bench.execute(way, command, log, LIMIT_S, cwd=found["folder"], **environment)
        if status is None:
            return test, HUNG
        if status == 0:
            return test, SKIPPED if re.search(r"^1\.\.0 # [Ss]kip", read(log), re.M) else PASSED
        return test, CRASHED if status < 0 else FAILED

    def tests(folder):
        pattern = f"{found['folder']}/test/{folder}/test-%s-*.js"
        return sorted(path for kind in KINDS[name] for path in glob.glob(pattern % kind))

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(pool.map(one, tests("parallel")))
    outcomes.update(map(one, tests("sequential")))
    subprocess.run(["rm", "-rf", scratch], check=False)
    return outcomes
