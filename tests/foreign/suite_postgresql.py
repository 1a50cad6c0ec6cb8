"""PostgreSQL's own regression tests (installcheck-parallel) and its isolation tests, over TCP: the server, its
forked backends and every psql run under the library. Tests and expected files are from Debian's source package."""
import glob
import os
import re
import shutil
import subprocess

from harness import CRASHED, FAILED, HUNG, PASSED, CannotRun, Unit, as_user, fetch_source, free_port, installed_version, read

def version():
    """The release's own: what the package postgresql depends on."""
    answer = subprocess.run(["apt-cache", "depends", "postgresql"], capture_output=True, text=True)
    found_name = re.search(r"postgresql-(\d+)", answer.stdout)
    return found_name[1] if found_name else ""


PACKAGES = ["postgresql", f"postgresql-server-dev-{version()}", "gcc", "libc6-dev", "dpkg-dev", "ca-certificates", "util-linux"]
LIMIT_S = 2400  # a unit; about three minutes on a quiet machine
USER = "postgres"
found = {}

# The cluster is a copy of one that was made natively. The server gets a port of its own and no UNIX socket, so that
# whoever finds it comes by TCP.
SCRIPT = r"""
set -u
binaries=$1 folder=$2 port=$3
shift 3
"$binaries/postgres" -D "$folder/data" -p "$port" >"$folder/server.log" 2>&1 &
for ((i = 0; i < 600; ++i)); do
  "$binaries/pg_isready" -q -h 127.0.0.1 -p "$port" && break
  sleep 0.1
done
"$@"
status=$?
"$binaries/pg_ctl" -D "$folder/data" -m fast -t 60 stop >"$folder/stop.log" 2>&1 || status=1
exit "$status"
"""


def units(quick):
    return [] if quick else [Unit("regress", lambda bench, way: run(bench, way, "regress")),
                             Unit("isolation", lambda bench, way: run(bench, way, "isolation"))]


def prepare(bench):
    releases = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    if not releases:
        raise CannotRun("PostgreSQL is not installed")
    found["binaries"] = os.path.dirname(releases[-1])
    release = releases[-1].split("/")[4]
    cache = os.path.join(bench.build, "foreign", f"postgresql-{installed_version(f'postgresql-{release}') or release}")
    source = os.path.join(cache, "source", "src", "test")
    library = os.path.join(source, "regress", "regress.so")
    if not os.path.exists(library):
        fetch_source(cache, f"postgresql-{release}")
        headers = subprocess.run([f"{found['binaries']}/pg_config", "--includedir-server"], text=True,
                                 capture_output=True).stdout.strip()
        if subprocess.run(["gcc", "-O2", "-w", "-shared", "-fPIC", f"-I{headers}", "-o", library,
                           f"{library[:-3]}.c"]).returncode != 0:
            raise CannotRun("PostgreSQL's regress.c cannot be compiled")
    folder = bench.folder("postgresql")
    for name in ("regress", "isolation"):
        shutil.copytree(os.path.join(source, name), os.path.join(folder, name))
    for name in ("autoinc.so", "refint.so"):
        shutil.copy(f"/usr/lib/postgresql/{release}/lib/{name}", os.path.join(folder, "regress"))
    found["folder"] = folder
    give_away(folder)
    data = os.path.join(folder, "data")
    if bench.execute(bench.way("native"), [*as_user(USER), f"{found['binaries']}/initdb", "-D", data, "-A", "trust",
                                           "-E", "UTF8", "--no-locale", "--no-sync"], f"{folder}/initdb", 120) != 0:
        raise CannotRun(f"initdb: {read(f'{folder}/initdb')}")
    with open(os.path.join(data, "postgresql.auto.conf"), "a", encoding="ascii") as settings:
        settings.write("fsync = off\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                       "max_prepared_transactions = 2\n")


def give_away(folder):
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{USER}:", folder], check=True)


def run(bench, way, suite):
    folder = bench.folder(f"postgresql-{suite}-{way.name}")
    shutil.copytree(os.path.join(found["folder"], "data"), os.path.join(folder, "data"))
    shutil.copytree(os.path.join(found["folder"], suite), os.path.join(folder, suite))
    give_away(folder)
    tests = f"{os.path.dirname(found['binaries'])}/lib/pgxs/src/test/{suite}"
    port = str(free_port())
    command = [f"{tests}/{'pg_regress' if suite == 'regress' else 'pg_isolation_regress'}",
               f"--bindir={found['binaries']}", "--inputdir=.", "--outputdir=.", "--dlpath=.",
               "--host=127.0.0.1", f"--port={port}", "--max-concurrent-tests=20",
               f"--schedule={'parallel' if suite == 'regress' else 'isolation'}_schedule"]
    if suite == "isolation":
        command.insert(1, f"--bindir={tests}")
    log = os.path.join(bench.folder(f"log-{suite}-{way.name}"), "log")
    status = bench.execute(way, [*as_user(USER), "bash", "-c", SCRIPT, "_", found["binaries"], folder, port, *command],
                           log, LIMIT_S, cwd=os.path.join(folder, suite), PGUSER=USER)
    end_all(os.path.join(folder, "data"))
    outcomes = outcomes_of(read(log))
    server = read(os.path.join(folder, "server.log"))
    crashed = re.findall(r"was terminated by signal .*|PANIC: .*", server)
    # infinite_recurse and the like do not kill a server; anything that does is told apart from a failed test.
    outcomes["server"] = CRASHED if crashed else HUNG if status is None else PASSED if outcomes else FAILED
    for test in scheduled(os.path.join(folder, suite)) if status is None else []:
        outcomes.setdefault(test, HUNG)
    return outcomes


def outcomes_of(text):
    """{test: outcome} of pg_regress's report: "test x ... ok", "     x ... FAILED" before PostgreSQL 16, then TAP."""
    outcomes = {}
    for name, word in re.findall(r"^(?:test| {3,}) *(\S+) +\.\.\. (ok|FAILED|failed)", text, re.M):
        outcomes[name] = PASSED if word == "ok" else FAILED
    for word, name in re.findall(r"^(ok|not ok) \d+ +[-+] (\S+)", text, re.M):
        outcomes[name] = PASSED if word == "ok" else FAILED
    return outcomes


def scheduled(folder):
    lines = read(glob.glob(os.path.join(folder, "*_schedule"))[0])
    return " ".join(re.findall(r"^test: (.*)", lines, re.M)).split()


def end_all(data):
    """Backends are sessions of their own; they live in the data folder."""
    for link in glob.glob("/proc/[0-9]*/cwd"):
        try:
            if os.readlink(link) == data:
                os.kill(int(link.split("/")[2]), 9)
        except (OSError, ProcessLookupError):
            pass
