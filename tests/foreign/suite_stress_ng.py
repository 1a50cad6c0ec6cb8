"""stress-ng's stressors of sockets: odd calls in odd orders, with its own --verify; one a unit."""
import os
import re

from harness import CRASHED, FAILED, HUNG, PASSED, SKIPPED, Unit, read

PACKAGES = ["stress-ng"]
STRESSORS = {
    "sock": ["--sock", "1"],
    "sock-random": ["--sock", "1", "--sock-opts", "random"],
    "sock-sendmmsg": ["--sock", "1", "--sock-opts", "sendmmsg"],
    "sockmany": ["--sockmany", "1"],
    "sockabuse": ["--sockabuse", "1"],
    "sockfd": ["--sockfd", "1"],
    "epoll": ["--epoll", "1"],
    "poll": ["--poll", "1"],
    "sendfile": ["--sendfile", "1"],
}
QUICK = ["sock", "sock-sendmmsg", "epoll", "sendfile"]


def units(quick):
    return [Unit(name, lambda bench, way, name=name: run(bench, way, name, 2 if quick else 10))
            for name in (QUICK if quick else STRESSORS)]


def prepare(bench):
    pass


def run(bench, way, name, seconds):
    folder = bench.folder(f"{name}-{way.name}")
    log = os.path.join(folder, "log")
    status = bench.execute(way, ["stress-ng", *STRESSORS[name], "--timeout", f"{seconds}s", "--verify",
                                 "--metrics-brief", "--temp-path", folder], log, seconds + 60)
    text = read(log)
    operations = re.search(r"metrc: \[\d+\] \S+ +(\d+) ", text)
    if status is None:
        return {name: HUNG}
    if status != 0 or re.search(r"stress-ng: fail:", text):
        return {name: CRASHED if "signal" in text else FAILED}
    return {name: SKIPPED if operations is None or operations[1] == "0" else PASSED}
