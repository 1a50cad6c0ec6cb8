"""Debian packages of the chosen rows: only what is missing, without starting a daemon."""
import os
import shutil
import subprocess
import sys

POLICY = "/usr/sbin/policy-rc.d"  # Debian's maintainer scripts ask it before they start a daemon


def installed(package):
    answer = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True)
    return answer.stdout == "installed"


def known(package):
    answer = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True)
    return "Candidate:" in answer.stdout and "Candidate: (none)" not in answer.stdout


def _as_root(command):
    return command if os.geteuid() == 0 else ["sudo", "-n", *command]


def _apt(*arguments):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(_as_root(["apt-get", "-q", *arguments]), env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL).returncode == 0


def install(packages):
    """Returns {package: why it is not there}."""
    if shutil.which("apt-get") is None:
        return {}  # another distribution: the rows look for their programs
    absent = [package for package in dict.fromkeys(packages) if not installed(package)]
    if not absent:
        return {}
    if os.environ.get("XENLOOP_NO_APT") == "1":
        return {package: f"package {package} is not installed" for package in absent}
    if os.geteuid() != 0 and shutil.which("sudo") is None:
        return {package: f"installing {package} needs root or sudo" for package in absent}
    print("installing", *absent, file=sys.stderr, flush=True)
    made = not os.path.exists(POLICY)
    if made:
        subprocess.run(_as_root(["sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}"]))
    why = {}
    try:
        _apt("update")
        for package in absent:
            if not known(package):
                why[package] = f"this release has no package {package}"
        wanted = [package for package in absent if package not in why]
        options = ("-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "install")
        if wanted and not _apt(*options, *wanted):
            for package in wanted:  # one of them cannot be installed: the others can
                _apt(*options, package)
        for package in wanted:
            if not installed(package):
                why[package] = f"package {package} could not be installed"
    finally:
        if made:
            subprocess.run(_as_root(["rm", "-f", POLICY]))
    return why
