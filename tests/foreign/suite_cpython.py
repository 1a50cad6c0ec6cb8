"""CPython's own tests of sockets and of what stands on them, from Debian's package, a module a unit."""
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

from harness import CRASHED, FAILED, HUNG, PASSED, SKIPPED, CannotRun, Unit, read

def version():
    """The release's own: what the package python3 depends on. What is built by hand stands under another name."""
    answer = subprocess.run(["dpkg-query", "-W", "-f", "${Depends}", "python3"], capture_output=True, text=True)
    found = re.search(r"python3\.\d+", answer.stdout)
    return found[0] if found else "python3"


PACKAGES = [version(), f"lib{version()}-testsuite"]
PYTHON = f"/usr/bin/{version()}"
STUCK_S = 540  # a module: the interpreter then says where it hangs, and ends
LIMIT_S = STUCK_S + 30

MODULES = """
    test_socket test_select test_poll test_epoll test_selectors test_timeout test_socketserver
    test_ssl test_httplib test_httpservers test_ftplib test_smtplib test_imaplib test_xmlrpc
    test_asyncio test_logging test_subprocess test_signal test_eintr test_io
    test_multiprocessing_fork test_multiprocessing_forkserver test_multiprocessing_spawn
""".split()
QUICK = """
    test_socket test_select test_epoll test_timeout test_socketserver test_httplib test_httpservers
    test_ftplib test_smtplib
""".split()
IGNORED = {"test_socket": ["*VSOCK*"]}  # hangs where vsock is half there


def units(quick):
    return [Unit(module, lambda bench, way, module=module: run(bench, way, module))
            for module in (QUICK if quick else MODULES)]


def prepare(bench):
    if not os.path.exists(PYTHON):
        raise CannotRun(f"{PYTHON} is missing")


def run(bench, way, module):
    folder = bench.folder(f"{module}-{way.name}")
    log = os.path.join(folder, "log")
    report = os.path.join(folder, "junit.xml")
    command = [PYTHON, "-m", "test", "-v", "-u", "network", "--timeout", str(STUCK_S),
               "--tempdir", folder, "--junit-xml", report]
    for pattern in IGNORED.get(module, []):
        command += ["-i", pattern]
    status = bench.execute(way, [*command, module], log, LIMIT_S, PYTHONDONTWRITEBYTECODE="1")
    text = read(log)
    outcomes = outcomes_of(report)
    if not outcomes:  # no report: killed, crashed or out of time in the middle
        started = [(f"{where}", line) for line, where in re.findall(r"^(test\w*) \((\S+)\)", text, re.M)]
        outcomes = {where: PASSED for where, _ in started}
        last = started[-1][0] if started else module
        outcomes[last] = HUNG if status is None or "Timeout (" in text else CRASHED
    elif status != 0 and not any(outcome == FAILED for outcome in outcomes.values()):
        outcomes[module] = FAILED  # "environment changed", left-over threads and the like
    return outcomes


def outcomes_of(report):
    try:
        cases = ElementTree.parse(report).iter("testcase")
    except (OSError, ElementTree.ParseError):
        return {}
    outcomes = {}
    for case in cases:
        name = case.get("name")
        if case.find("failure") is not None or case.find("error") is not None:
            outcomes[name] = FAILED
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            outcomes.setdefault(name, SKIPPED)
        else:
            outcomes.setdefault(name, PASSED)
    return outcomes
