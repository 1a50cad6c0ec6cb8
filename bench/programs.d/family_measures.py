"""Programs whose whole purpose is to measure a connection: sockperf, iperf3."""
import time
from functools import partial

import outputs
from rows import Row


def sockperf(stage, test):
    port = stage.port()
    stage.server(["sockperf", "server", "--tcp", "-i", "127.0.0.1", "-p", str(port)], port=port)
    # sockperf plans for 600,000 messages a second and fails beyond that.
    how = ["--mps", "100000"] if test == "ping-pong" else ["-m", "1400"]
    text = stage.client(["sockperf", test, "--tcp", "-i", "127.0.0.1", "-p", str(port), "-t",
                         str(max(1, round(stage.seconds))), *how])
    return outputs.sockperf_latency(text) if test == "ping-pong" else outputs.sockperf_throughput(text)


def iperf3(stage, options):
    port = stage.port()
    server = stage.server(["iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", str(port)], port=port)
    text = stage.client(["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", str(max(1, round(stage.seconds))), "-J",
                         *options])
    limit = time.monotonic() + 2  # with -1 it ends by itself, and tells its statistics
    while server.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    return outputs.iperf3(text) / 1e9


def rows():
    need = (("sockperf",), ("sockperf",))
    return [
        Row("sockperf-rtt", "sockperf ping-pong, half a round trip", "us", partial(sockperf, test="ping-pong"),
            "median, at most 100,000 messages/s", *need, lower_is_better=True, smoke=True),
        Row("sockperf-stream", "sockperf throughput, 1,400 B", "messages/s", partial(sockperf, test="throughput"),
            "as the sender counts", *need),
        Row("iperf3", "iperf3, one stream", "Gbit/s", partial(iperf3, options=()), "", ("iperf3",), ("iperf3",),
            smoke=True),
        Row("iperf3-p4", "iperf3 -P 4", "Gbit/s", partial(iperf3, options=("-P", "4")), "", ("iperf3",), ("iperf3",),
            smoke=True)]
