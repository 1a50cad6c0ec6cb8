"""MariaDB with sysbench's point select: a thread a client at both ends."""
import os
from functools import partial

import outputs
from rows import UNIX, Row, at_least
from stage import Stage


def start(stage, data):
    port, path = stage.port(), os.path.join(stage.folder, "socket")
    user = ["--user=root"] if os.geteuid() == 0 else []
    stage.server(["mariadbd", "--no-defaults", *user, f"--datadir={data}", "--bind-address=127.0.0.1",
                  f"--port={port}", f"--socket={path}", f"--pid-file={stage.folder}/pid",
                  "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"], port=port)
    where = ["--mysql-host=127.0.0.1", f"--mysql-port={port}"]
    if stage.carrier in (UNIX, None):
        where = [f"--mysql-socket={path}"]
    return path, ["--db-driver=mysql", *where, "--mysql-user=root", "--tables=1", "--table-size=10000"]


def prepare(workshop):
    data = os.path.join(workshop.path, "mariadb")
    if os.path.exists(data):
        return
    user = ["--user=root"] if os.geteuid() == 0 else []
    workshop.natively(["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db",
                       "--auth-root-authentication-method=normal"])
    with Stage(workshop, "mariadb", None, {}) as stage:
        path, options = start(stage, data)
        stage.client(["mariadb", "--no-defaults", "-S", path, "-u", "root", "-e", "create database sbtest"])
        stage.client(["sysbench", "oltp_point_select", *options, "prepare"])


def point_select(stage, threads, beside=0):
    _, options = start(stage, os.path.join(stage.workshop.path, "mariadb"))
    stage.beside(beside)
    return outputs.sysbench(stage.client(["sysbench", "oltp_point_select", *options, f"--threads={threads}",
                                          f"--time={max(1, round(stage.seconds))}", "run"]))


def _row(name, title, goals, **how):
    return Row(f"mariadb-{name}", f"MariaDB point select, {title}", "transactions/s", partial(point_select, **how),
               "sysbench oltp_point_select, 10,000 rows", ("mariadbd", "mariadb-install-db", "mariadb", "sysbench"),
               ("mariadb-server", "mariadb-client", "sysbench"), unix=True, goals=goals, prepare=prepare)


def rows():
    return [_row("t1", "1 thread", at_least(2, 2.5), threads=1),
            _row("t4", "4 threads", at_least(1.2, 1.8), threads=4),
            _row("t20", "20 threads", at_least(1.2, 1.8), threads=20),
            _row("busy", "1 thread, 2 busy loops beside", at_least(1, 1.3), threads=1, beside=2)]
