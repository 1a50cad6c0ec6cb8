"""Unmodified programs in short scenarios (programs/*.sh, cases like those of tests/e2e): what they
print natively they must print under the library. A case knows its own settings of the library."""
import glob
import os

from harness import FAILED, HUNG, PASSED, SKIPPED, Unit, read

PACKAGES = ["iproute2", "jq", "procps", "openssh-client", "openssh-server", "rsync", "socat", "stunnel4",
            "netcat-openbsd", "haproxy", "curl", "openssl", "systemd", "openbsd-inetd", "python3"]
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")
LIMIT_S = 130  # the cases end by themselves after 110 s


def units(quick):
    names = sorted(os.path.basename(path)[:-3] for path in glob.glob(os.path.join(FOLDER, "*.sh")))
    return [Unit(name, lambda bench, way, name=name: run(bench, way, name), settings=["own"])
            for name in names]


def prepare(bench):
    pass


def run(bench, way, name):
    log = os.path.join(bench.folder(f"{name}-{way.name}"), "log")
    only_native = {"E2E_NATIVE": "1"} if way.native else {"E2E_STATS": way.stats}
    status = bench.execute(way, ["bash", os.path.join(FOLDER, name + ".sh")], log, LIMIT_S,
                           XENLOOP_BUILD=bench.build, **only_native)
    if status not in (0, 77):
        print(*read(log).splitlines()[-60:], sep="\n")
    return {name: HUNG if status is None else {0: PASSED, 77: SKIPPED}.get(status, FAILED)}
