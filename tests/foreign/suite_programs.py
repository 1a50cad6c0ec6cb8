"""Unmodified programs in short scenarios (programs/*.sh, cases like those of tests/e2e): what they
print natively they must print under the library. A case knows its own settings of the library."""
import glob
import os

from harness import FAILED, HUNG, PASSED, SKIPPED, Unit, read

QUICK = ["chronyd", "ftp", "mosquitto", "netcat", "openssh", "passt", "rsync_daemon", "socat", "stunnel", "tor",
         "whois"]
QUICK_PACKAGES = ["iproute2", "jq", "procps", "python3", "curl", "openssl", "openssh-client",
                  "openssh-server", "rsync", "socat", "stunnel4", "netcat-openbsd", "vsftpd", "tnftp",
                  "whois", "mosquitto", "mosquitto-clients", "passt", "tor", "chrony"]
PACKAGES = QUICK_PACKAGES + [
    "haproxy", "systemd", "openbsd-inetd", "git", "apache2", "apache2-utils", "nginx", "php-fpm", "libfcgi-bin",
    "mariadb-server", "sysbench", "openjdk-17-jdk-headless", "openmpi-bin", "libopenmpi-dev", "mpich",
    "libmpich-dev", "build-essential", "python3-grpcio", "python3-zmq", "nsd", "dnsperf"]
HERE = os.path.dirname(os.path.abspath(__file__))
CASES = {os.path.basename(path)[:-3]: path for path in sorted(glob.glob(os.path.join(HERE, "programs", "*.sh")))}
CASES["git_daemon"] = os.path.join(os.path.dirname(HERE), "e2e", "git_daemon.sh")
LIMIT_S = 130  # the cases end by themselves after 110 s


def units(quick):
    return [Unit(name, lambda bench, way, name=name: run(bench, way, name), settings=["own"])
            for name in (QUICK if quick else sorted(CASES))]


def prepare(bench):
    pass


def run(bench, way, name):
    log = os.path.join(bench.folder(f"{name}-{way.name}"), "log")
    only_native = {"E2E_NATIVE": "1"} if way.native else {"E2E_STATS": way.stats}
    status = bench.execute(way, ["bash", CASES[name]], log, LIMIT_S, XENLOOP_BUILD=bench.build, **only_native)
    if status not in (0, 77):
        print(*read(log).splitlines()[-60:], sep="\n")
    return {name: HUNG if status is None else {0: PASSED, 77: SKIPPED}.get(status, FAILED)}
