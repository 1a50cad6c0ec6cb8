"""memcached with memcslap, whose threads each sleep in poll."""
import os
from functools import partial

import outputs
from rows import UNIX, Row, at_least


def run(stage, threads):
    command = ["memcached", "-t", "4", "-c", "1024", "-m", "256"] + (["-u", "root"] if os.geteuid() == 0 else [])
    if stage.carrier == UNIX:
        path = os.path.join(stage.folder, "socket")
        stage.server([*command, "-s", path], ready=partial(os.path.exists, path))
        where = path
    else:
        port = stage.port()
        stage.server([*command, "-p", str(port), "-U", "0", "-l", "127.0.0.1"], port=port)
        where = f"127.0.0.1:{port}"

    def operations(count):
        each = max(count // threads, 10)
        return outputs.memcslap(stage.client(["memcslap", f"--servers={where}", f"--concurrency={threads}",
                                              f"--execute-number={each}", "--test=get"]))

    return stage.sized(operations, 50 * threads)


def rows():
    return [Row(f"memcached-c{threads}", f"memcached get, {threads} threads", "requests/s", partial(run, threads=threads),
                "memcslap --test=get, its defaults else; memcached -t 4", ("memcached", "memcslap"),
                ("memcached", "libmemcached-tools"), unix=True, goals=at_least(1.3, 2), smoke=threads == 20)
            for threads in (20, 100)]
