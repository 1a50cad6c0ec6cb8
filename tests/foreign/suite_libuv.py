"""libuv's own tests, built from Debian's source package; a process a test. libuv closes descriptors
by raw system calls, and its loop is epoll at its barest."""
import glob
import os
import pwd
import re
import shutil
import subprocess

from harness import CRASHED, FAILED, HUNG, PASSED, SKIPPED, CannotRun, Unit, as_user, build_with_cmake, read

PACKAGES = ["build-essential", "cmake", "ninja-build", "dpkg-dev", "ca-certificates", "util-linux"]
LIMIT_S = 60  # a test
# The rest is threads, timers, files: nothing that a socket library can touch.
QUICK = re.compile(r"tcp|udp|ipc|poll|shutdown|connect|accept|socket|emfile|close_fd|watcher|spawn|fork")
# Its 10 MiB end just where the FIFO is full, and then one more byte must be taken at once: D-15.
LEFT_OUT = {"tcp_write_in_a_row"}
BUILD = "uv_run_tests_a"  # linked statically with libuv: some tests clear the environment
found = {}


def units(quick):
    return [Unit("tests", lambda bench, way: run(bench, way, quick))]


def prepare(bench):
    """The test programs in a folder that an unprivileged user can read: they refuse to run as root."""
    cache = os.path.join(bench.build, "foreign", "libuv")
    if not os.path.exists(os.path.join(cache, "build", BUILD)):
        build_with_cmake(cache, "libuv1", BUILD, "-DBUILD_TESTING=ON", "-DLIBUV_BUILD_TESTS=ON")
    folder = bench.folder("libuv")
    shutil.copy(os.path.join(cache, "build", BUILD), folder)
    shutil.copytree(os.path.join(cache, "source", "test"), os.path.join(folder, "test"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        for path in [folder, *glob.glob(os.path.join(folder, "**"), recursive=True)]:
            os.chown(path, user.pw_uid, user.pw_gid)
    listing = subprocess.run([*as_user("nobody"), os.path.join(folder, BUILD), "--list"], text=True,
                             cwd=folder, capture_output=True).stdout
    found["folder"] = folder
    found["tests"] = [line.split()[0] for line in listing.splitlines() if line.strip()]
    if not found["tests"]:
        raise CannotRun("libuv's test program names no tests")


def run(bench, way, quick):
    outcomes = {}
    logs = bench.folder(f"libuv-{way.name}")
    for test in found["tests"]:
        if test in LEFT_OUT or quick and not QUICK.search(test):
            continue
        log = os.path.join(logs, test)
        status = bench.execute(way, [*as_user("nobody"), os.path.join(found["folder"], BUILD), test], log,
                               LIMIT_S, cwd=found["folder"])
        if status is None:
            outcomes[test] = HUNG
        elif status == 0:
            outcomes[test] = SKIPPED if "# SKIP" in read(log) else PASSED
        else:
            outcomes[test] = CRASHED if status < 0 or "signal" in read(log) else FAILED
    return outcomes
