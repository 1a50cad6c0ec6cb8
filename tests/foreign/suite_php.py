"""PHP's own tests (phpt) of sockets, streams, servers and TLS, from Debian's source package, run by the packaged
interpreter. PHP opens its extensions with RTLD_DEEPBIND, and each test is a process, or several that talk."""
import os
import re
import shutil
import subprocess

from harness import CRASHED, FAILED, HUNG, PASSED, SKIPPED, CannotRun, Unit, as_user, fetch_source, read


def version():
    """The release's own: what the package php-cli depends on."""
    answer = subprocess.run(["apt-cache", "depends", "php-cli"], capture_output=True, text=True)
    name = re.search(r"php(\d\.\d+)-cli", answer.stdout)
    return name[1] if name else "8.2"


VERSION = version()
PACKAGES = [f"php{VERSION}-cli", "dpkg-dev", "ca-certificates", "util-linux"]
FOLDERS = {
    "sockets": ["ext/sockets/tests"],
    "streams": ["ext/standard/tests/streams", "ext/standard/tests/network", "ext/standard/tests/http"],
    "tls": ["ext/openssl/tests", "ext/ftp/tests"],
    "server": ["sapi/cli/tests"],
}
# What tests include besides, from other folders.
NEEDED = ["run-tests.php", "sapi/cli/tests", "ext/standard/tests/http", "ext/standard/tests/file", "ext/openssl/tests",
          "ext/ftp/tests"]
STUCK_S = 60  # a test
LIMIT_S = 1800  # a unit; one to three minutes on a quiet machine
OUTCOMES = {"PASSED": PASSED, "SKIPPED": SKIPPED, "XFAILED": SKIPPED, "FAILED": FAILED, "BORKED": FAILED,
            "WARNED": FAILED, "LEAKED": FAILED, "XLEAKED": FAILED}
found = {}


def units(quick):
    return [] if quick else [Unit(name, lambda bench, way, name=name: run(bench, way, name)) for name in FOLDERS]


def prepare(bench):
    cache = os.path.join(bench.build, "foreign", "php")
    source = os.path.join(cache, "source")
    if not os.path.exists(os.path.join(source, "run-tests.php")):
        fetch_source(cache, f"php{VERSION}")
    if not os.path.exists(f"/usr/bin/php{VERSION}"):
        raise CannotRun(f"/usr/bin/php{VERSION} is missing")
    found["source"] = source


def run(bench, way, name):
    folder = bench.folder(f"php-{name}-{way.name}")
    for path in dict.fromkeys([*NEEDED, *FOLDERS[name]]):
        copy = shutil.copytree if os.path.isdir(os.path.join(found["source"], path)) else shutil.copy
        os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
        copy(os.path.join(found["source"], path), os.path.join(folder, path))
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody:", folder], check=True)
    report, log = os.path.join(folder, "report"), os.path.join(bench.folder(f"php-{name}-{way.name}"), "log")
    php = f"/usr/bin/php{VERSION}"
    command = [*as_user("nobody"), php, "run-tests.php", "-q", "--offline", "--no-color", "--no-progress",
               "--show-diff", "--set-timeout", str(STUCK_S), "-W", report, *FOLDERS[name]]
    status = bench.execute(way, command, log, LIMIT_S, cwd=folder, TEST_PHP_EXECUTABLE=php, NO_INTERACTION="1")
    outcomes = {}
    for word, path in re.findall(r"^(\w+)\t(.*)$", read(report), re.M):
        outcomes[os.path.relpath(path, folder).replace("tests/", "")] = OUTCOMES.get(word, FAILED)
    text = read(log)
    for path in re.findall(r"Termsig=\d+.*?\[([^\]]+\.phpt)\]", text, re.S):
        outcomes[path.replace("tests/", "")] = CRASHED
    if not outcomes:
        return {name: HUNG if status is None else CRASHED}
    return outcomes
