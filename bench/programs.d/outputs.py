"""What each tool prints, as one number. Pure functions: tests/unit/bench has an output of each.

A tool that reports failed operations raises WrongOutput: its figure would be worth nothing."""
import json
import re


class WrongOutput(Exception):
    pass


def _number(pattern, text, what):
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise WrongOutput(f"{what}: no figure in its output: {' '.join(text.split())[-200:]}")
    return float(found.group(1))


def redis_benchmark(text, test):
    """--csv: requests a second of that test."""
    return _number(rf'^"{test}[^"]*","([0-9.]+)"', text, "redis-benchmark")


def memcslap(text):
    """Operations a second of all threads, without the initial load."""
    found = re.search(r"Time to (?:get|set)\s+(\d+) keys by\s+\d+ threads:\s+([0-9.]+) seconds", text)
    if not found or float(found.group(2)) == 0:
        raise WrongOutput("memcslap: no figure in its output")
    return int(found.group(1)) / float(found.group(2))


def wrk(text):
    """Requests a second."""
    bad = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text)
    if bad:
        raise WrongOutput(f"wrk: {bad.group(0)}")
    return _number(r"^Requests/sec:\s+([0-9.]+)", text, "wrk")


def pgbench(text):
    """Transactions a second, without the time of connecting."""
    failed = re.search(r"number of failed transactions: ([1-9]\d*)", text)
    if failed:
        raise WrongOutput(f"pgbench: {failed.group(1)} failed transactions")
    return _number(r"^tps = ([0-9.]+)", text, "pgbench")


def psql_milliseconds(text):
    """\\timing: of the last command."""
    times = re.findall(r"^Time: ([0-9.]+) ms", text, re.MULTILINE)
    if not times:
        raise WrongOutput("psql: no time in its output")
    return float(times[-1])


def sysbench(text):
    """Events a second."""
    return _number(r"^\s+transactions:\s+\d+\s+\(([0-9.]+) per sec\.\)", text, "sysbench")


def curl_bytes_per_second(text):
    """--write-out '%{http_code} %{size_download} %{speed_download}'."""
    found = re.search(r"^(\d+) (\d+) ([0-9.]+)$", text, re.MULTILINE)
    if not found or found.group(1) != "200":
        raise WrongOutput(f"curl: {text.strip()[-100:]}")
    return float(found.group(3))


def iperf3(text):
    """-J: bits a second at the receiver."""
    try:
        report = json.loads(text[text.index("{"):])
        if "error" in report:
            raise WrongOutput(f"iperf3: {report['error']}")
        return float(report["end"]["sum_received"]["bits_per_second"])
    except (ValueError, KeyError, TypeError) as problem:
        raise WrongOutput(f"iperf3: {problem}") from None


def sockperf_latency(text):
    """ping-pong: half a round trip in us, the median."""
    return _number(r"percentile 50\.000\s*=\s*([0-9.]+)", text, "sockperf")


def sockperf_throughput(text):
    """Messages a second as the client sent them."""
    return _number(r"Summary: Message Rate is ([0-9.]+) \[msg/sec\]", text, "sockperf")


def own_figure(text):
    """The small programs of peers/ end with a line `figure NUMBER`."""
    return _number(r"^figure ([0-9.eE+-]+)$", text, "peer")
