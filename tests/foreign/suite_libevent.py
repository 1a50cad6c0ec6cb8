"""libevent's regression tests, built from Debian's source package, a process a test, with each of its four backends."""
import concurrent.futures
import os
import shutil
import subprocess

from harness import CRASHED, FAILED, HUNG, PASSED, SKIPPED, CannotRun, Unit, as_user, build_with_cmake, read

PACKAGES = ["build-essential", "cmake", "ninja-build", "dpkg-dev", "ca-certificates", "util-linux", "libssl-dev",
            "zlib1g-dev"]
LIMIT_S = 60  # a test
AT_ONCE = 3  # most of them only wait
# What test/test.sh sets: every backend but one is forbidden.
BACKENDS = {
    "epoll": {"EVENT_NOPOLL": "yes", "EVENT_NOSELECT": "yes"},
    "changelist": {"EVENT_NOPOLL": "yes", "EVENT_NOSELECT": "yes", "EVENT_EPOLL_USE_CHANGELIST": "yes"},
    "poll": {"EVENT_NOEPOLL": "yes", "EVENT_NOSELECT": "yes"},
    "select": {"EVENT_NOEPOLL": "yes", "EVENT_NOPOLL": "yes"},
}
# force_upgrade.c makes accept() take some milliseconds, and this one gives the whole exchange 10 ms.
HASTY = {"http/bad_request"}
PROGRAMS = ["test-eof", "test-closed", "test-weof", "test-time", "test-changelist", "test-fdleak", "test-dumpevents",
            "test-ratelim"]
found = {}


def units(quick):
    return [] if quick else [Unit(name, lambda bench, way, name=name: run(bench, way, name)) for name in BACKENDS]


def prepare(bench):
    cache = os.path.join(bench.build, "foreign", "libevent")
    programs = os.path.join(cache, "build", "bin")
    if not os.path.exists(os.path.join(programs, "regress")):
        build_with_cmake(cache, "libevent", "all", "-DEVENT__LIBRARY_TYPE=STATIC", "-DEVENT__DISABLE_SAMPLES=ON",
                         "-DEVENT__DISABLE_BENCHMARK=ON", "-DEVENT__DISABLE_MBEDTLS=ON")
    found["folder"] = bench.folder("libevent")  # in a folder that an unprivileged user can read
    shutil.copytree(programs, found["folder"], dirs_exist_ok=True)
    listing = subprocess.run([os.path.join(found["folder"], "regress"), "--list-tests"], text=True,
                             capture_output=True).stdout
    # What is off by default (it takes long, or asks the internet) runs if it is named with a plus.
    found["tests"] = [("+" if "Off by default" in line else "") + line.split()[0]
                      for line in listing.splitlines() if line.startswith("    ")]
    if not found["tests"]:
        raise CannotRun("libevent's test program names no tests")


def run(bench, way, backend):
    logs = bench.folder(f"libevent-{backend}-{way.name}")
    folder = bench.folder(f"{backend}-{way.name}")
    os.chmod(folder, 0o777)

    def one(test):
        if way.name == "forced" and test in HASTY:
            return test, PASSED
        log = os.path.join(logs, test.replace("/", "."))
        command = [test] if test in PROGRAMS else ["regress", test]
        command[0] = os.path.join(found["folder"], command[0])
        status = bench.execute(way, [*as_user("nobody"), *command], log, LIMIT_S, cwd=folder, **BACKENDS[backend])
        text = read(log)
        if status is None:
            return test, HUNG
        if status == 0:
            return test, SKIPPED if "SKIPPED" in text or "DISABLED" in text else PASSED
        return test, CRASHED if status < 0 or "exited with signal" in text else FAILED

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(pool.map(one, sorted([*PROGRAMS, *found["tests"]])))  # those with a plus take longest
