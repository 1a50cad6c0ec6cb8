"""PostgreSQL: a process a client. pgbench, and COPY of a hundred thousand rows and more."""
import glob
import os
import shutil
import signal
from functools import partial

import outputs
from rows import UNIX, Row, at_least
from stage import Failed, Stage

USER = "postgres"  # PostgreSQL refuses to be root; client and server share memory only as one user
COPIED_ROWS = 400000


def binary(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    if not found:
        raise Failed(f"{name} is not installed")
    return found[-1]


def serves(data):
    """As pg_ctl finds out: it listens before it has read what the last shutdown left."""
    try:
        with open(os.path.join(data, "postmaster.pid"), encoding="ascii") as file:
            return file.read().split("\n")[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def start(stage, data):
    port = stage.port()
    stage.server([binary("postgres"), "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c",
                  f"unix_socket_directories={stage.folder}", "-c", "fsync=off", "-c", "autovacuum=off", "-c", "ssl=off",
                  "-c", "max_wal_size=4GB"], ready=partial(serves, data), user=USER,
                 ends_by=signal.SIGINT)
    host = stage.folder if stage.carrier in (UNIX, None) else "127.0.0.1"
    return {"PGHOST": host, "PGPORT": str(port), "PGUSER": "tester", "PGDATABASE": "postgres"}


def prepare(workshop):
    """A fresh cluster with pgbench's tables, made once; each sample works on it in turn."""
    data = os.path.join(workshop.path, "postgresql")
    if os.path.exists(data):
        return
    os.mkdir(data)
    if os.geteuid() == 0:
        shutil.chown(data, USER)
    workshop.natively([binary("initdb"), "-D", data, "-U", "tester", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"],
                      user=USER)
    with Stage(workshop, "postgresql", None, {}) as stage:
        environment = start(stage, data)
        stage.client([binary("pgbench"), "-q", "-i", "-s", "1" if workshop.smoke else "4"], user=USER,
                     environment=environment)
        stage.client([binary("psql"), "-Xqc", "create unlogged table copied (id int, body text)"], user=USER,
                     environment=environment)
        stage.client([binary("psql"), "-Xqc", f"""create table source as select i as id,
          md5(i::text) || md5((i * 7)::text) as body from generate_series(1, {COPIED_ROWS}) i"""], user=USER,
                     environment=environment)
        rows_file = os.path.join(workshop.path, "rows.tsv")
        with open(rows_file, "w", encoding="ascii") as file:
            file.write(stage.client([binary("psql"), "-Xqc", "copy source to stdout"], user=USER,
                                    environment=environment))


def bench(stage, options, beside=0):
    environment = start(stage, os.path.join(stage.workshop.path, "postgresql"))
    stage.beside(beside)
    return outputs.pgbench(stage.client([binary("pgbench"), "-n", "-T", str(max(1, round(stage.seconds))), *options],
                                        user=USER, environment=environment))


def copy_in(stage):
    environment = start(stage, os.path.join(stage.workshop.path, "postgresql"))
    rows_file = os.path.join(stage.workshop.path, "rows.tsv")
    text = stage.client([binary("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-c", "truncate copied", "-c", "\\timing on",
                         "-c", "copy copied from stdin"], user=USER, environment=environment, stdin=rows_file)
    return os.path.getsize(rows_file) / 1e6 / (outputs.psql_milliseconds(text) / 1e3)


def copy_out(stage):
    environment = start(stage, os.path.join(stage.workshop.path, "postgresql"))
    text = stage.client([binary("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-c", "\\timing on", "-c",
                         "copy source to stdout"], user=USER, environment=environment)
    size = os.path.getsize(os.path.join(stage.workshop.path, "rows.tsv"))
    return size / 1e6 / (outputs.psql_milliseconds(text) / 1e3)


def _row(name, title, run, unit="transactions/s", **more):
    return Row(f"postgresql-{name}", f"PostgreSQL {title}", unit, run, "one user at both ends; fsync off", (),
               ("postgresql",), unix=True, prepare=prepare, **more)


def rows():
    select = ["-S", "-c"]
    return [
        _row("select-c1", "select, 1 client", partial(bench, options=[*select, "1"]), goals=at_least(2, 2.5)),
        _row("select-c4", "select, 4 clients", partial(bench, options=[*select, "4"]), goals=at_least(1.2, 1.8)),
        _row("select-c20", "select, 20 clients", partial(bench, options=[*select, "20"]), goals=at_least(1.2, 1.8)),
        _row("prepared-c4", "select, prepared, 4 clients", partial(bench, options=["-M", "prepared", *select, "4"]),
             goals=at_least(1.2, 1.8)),
        _row("busy", "select, 1 client, 2 busy loops beside", partial(bench, options=[*select, "1"], beside=2),
             goals=at_least(1, 1.3)),
        _row("tpcb", "TPC-B, 4 clients", partial(bench, options=["-c", "4"])),
        _row("copy-in", "COPY in", copy_in, "MB/s"),
        _row("copy-out", "COPY out", copy_out, "MB/s")]
