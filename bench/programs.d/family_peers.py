"""Libraries and runtimes, with the small programs of peers/ at both ends."""
import os
from functools import partial

import outputs
from rows import UNIX, Row
from stage import PYTHON

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def _compile(workshop, name, command):
    """command(source, target): once a run."""
    target = os.path.join(workshop.folder("peers"), name.split(".")[0])
    if not os.path.exists(target):
        workshop.natively(command(os.path.join(PEERS, name), target))
    return target


def prepare_mpi(workshop):
    _compile(workshop, "mpi_peer.c", lambda source, target: ["mpicc", "-O2", "-o", target, source])


def mpi(stage, test):
    program = os.path.join(stage.workshop.folder("peers"), "mpi_peer")
    text = stage.client(["mpirun", "--bind-to", "none", "--oversubscribe", "--mca", "pml", "ob1", "--mca", "btl",
                         "tcp,self", "--mca", "btl_tcp_if_include", "lo", "--mca", "oob_tcp_if_include", "lo", "-np",
                         "2", program, test, str(stage.seconds)], environment=MPI)
    return outputs.own_figure(text)


def prepare_zmq(workshop):
    _compile(workshop, "zmq_peer.c", lambda source, target: ["cc", "-O2", "-o", target, source, "-lzmq", "-lpthread"])


def zmq(stage, test):
    program = os.path.join(stage.workshop.folder("peers"), "zmq_peer")
    port, path = stage.port(), os.path.join(stage.folder, "socket")
    if stage.carrier == UNIX:
        url = f"ipc://{path}"
        stage.server([program, test + "-server", url], ready=partial(os.path.exists, path))
    else:
        url = f"tcp://127.0.0.1:{port}"
        stage.server([program, test + "-server", url], port=port)
    return outputs.own_figure(stage.client([program, test, url, str(stage.seconds)]))


def prepare_java(workshop):
    folder = workshop.folder("java")
    if not os.path.exists(os.path.join(folder, "NioPeer.class")):
        workshop.natively(["javac", "-d", folder, os.path.join(PEERS, "NioPeer.java")])


def java(stage):
    port = stage.port()
    command = ["java", "-Xmx300m", "-XX:+UseSerialGC", "-cp", stage.workshop.folder("java"), "NioPeer"]
    stage.server([*command, "server", str(port)], port=port)
    return outputs.own_figure(stage.client([*command, "client", str(port), str(stage.seconds)]))


def python(stage, script):
    port = stage.port()
    path = os.path.join(PEERS, script)
    stage.server([PYTHON, path, "server", str(port)], port=port)
    return outputs.own_figure(stage.client([PYTHON, path, "client", str(port), str(stage.seconds)]))


def rows():
    need_mpi = (("mpicc", "mpirun"), ("openmpi-bin", "libopenmpi-dev", "gcc"))
    need_zmq = (("cc", "file:/usr/include/zmq.h"), ("libzmq3-dev", "gcc"))
    how_mpi = "Open MPI, pml ob1, btl tcp,self; not bound"
    return [
        Row("mpi-pingpong", "Open MPI ping-pong, 64 B", "round trips/s", partial(mpi, test="pingpong"), how_mpi,
            *need_mpi, prepare=prepare_mpi),
        Row("mpi-stream", "Open MPI stream, 64 KiB", "MB/s", partial(mpi, test="stream"), how_mpi, *need_mpi,
            prepare=prepare_mpi),
        Row("zeromq-request", "ZeroMQ request and reply, 64 B", "round trips/s", partial(zmq, test="request"), "",
            *need_zmq, unix=True, prepare=prepare_zmq),
        Row("zeromq-push", "ZeroMQ push and pull, 64 B", "messages/s", partial(zmq, test="push"), "", *need_zmq,
            unix=True, prepare=prepare_zmq),
        Row("java", "Java NIO echo, 8 connections, 64 B", "round trips/s", java, "a Selector at both ends",
            ("java", "javac"), ("default-jdk-headless",), prepare=prepare_java),
        Row("asyncio", "Python asyncio echo, 20 connections, 64 B", "round trips/s",
            partial(python, script="asyncio_peer.py"), "streams at both ends", (PYTHON,), ("python3",)),
        Row("grpc", "gRPC unary calls, 100 B", "calls/s", partial(python, script="grpc_peer.py"),
            "Python, one call at a time", (PYTHON, "module:grpc"), ("python3", "python3-grpcio"))]
