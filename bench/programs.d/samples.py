"""From samples to the table: medians, ranges, ratios within one repetition, shares, verdicts.

A sample is one repetition of one row by one carrier, as a line of JSON that bench/sample.h reads, too:
{case_id, carrier, value, problem, routes}; here with `fallbacks` and `programs` beside."""
import json
import math
import statistics
from dataclasses import dataclass, field

from rows import FIFO_PART_OF_A_FIGURE, MEAN_GOALS, OTHER, OURS, TCP, UNIX

COUNTED = ("connections", "upgraded", "fifo_sent", "fifo_received", "tcp_sent", "tcp_received")


def routes_of(stats):
    """Sums over the XENLOOP_STATS lines of a sample; reasons; the share of each program."""
    routes = {"processes": 0, **dict.fromkeys(COUNTED, 0)}
    fallbacks, programs = {}, {}
    for line in stats.splitlines():
        try:
            entry = json.loads(line)
            counts = {name: int(entry.get(name, 0)) for name in COUNTED}
        except (ValueError, AttributeError, TypeError):
            continue  # of a process that was killed while it wrote
        routes["processes"] += 1
        own = programs.setdefault(entry.get("program", "?"), dict.fromkeys(COUNTED, 0))
        for name, count in counts.items():
            routes[name] += count
            own[name] += count
        for reason, count in entry.get("fallbacks", {}).items():
            fallbacks[reason] = fallbacks.get(reason, 0) + count
    return {"routes": routes, "fallbacks": fallbacks, "programs": programs}


def fifo_share(counts):
    """Sent and received, so that one end's line is enough; None if nothing was counted."""
    by_fifo = counts["fifo_sent"] + counts["fifo_received"]
    total = by_fifo + counts["tcp_sent"] + counts["tcp_received"]
    return by_fifo / total if total else None


def add_up(dictionaries):
    total = {}
    for each in dictionaries:
        for name, count in each.items():
            if isinstance(count, dict):
                total[name] = add_up([total.get(name, {}), count])
            else:
                total[name] = total.get(name, 0) + count
    return total


@dataclass
class Spread:
    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values):
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass
class Column:
    """What a row's carrier did in all repetitions."""
    carrier: str
    by_repetition: dict  # repetition: value
    value: Spread = None
    against_tcp: Spread = None  # how many times as good, within one repetition each
    share: float = None
    routes: dict = field(default_factory=dict)
    fallbacks: dict = field(default_factory=dict)
    programs: dict = field(default_factory=dict)
    problem: str = ""


@dataclass
class Verdict:
    must: bool
    bound: float
    reached: str
    ok: bool  # None: not measured


@dataclass
class Line:
    """A row of the table as it came out."""
    row: object
    columns: dict
    verdicts: list
    problem: str = ""  # why there is no figure at all

    def ratio(self, carrier=OURS):
        column = self.columns.get(carrier)
        return column.against_tcp.median if column and column.against_tcp else None


def _column(row, carrier, samples):
    mine = [sample for sample in samples if sample["carrier"] == carrier]
    column = Column(carrier, {s["repetition"]: s["value"] for s in mine if not s["problem"]})
    column.value = Spread.of(list(column.by_repetition.values()))
    problems = [sample["problem"] for sample in mine if sample["problem"]]
    column.problem = problems[-1] if problems else ""
    column.routes = add_up(sample["routes"] for sample in mine)
    column.fallbacks = add_up(sample["fallbacks"] for sample in mine)
    column.programs = add_up(sample["programs"] for sample in mine)
    if column.routes.get("processes"):
        column.share = fifo_share(column.routes)
    return column


def _against(row, column, base):
    ratios = []
    for repetition, value in column.by_repetition.items():
        other = base.by_repetition.get(repetition)
        if other and value:
            ratios.append(other / value if row.lower_is_better else value / other)
    return Spread.of(ratios)


def _judge(line):
    ours, ratio = line.columns.get(OURS), line.ratio()
    for goal in line.row.goals:
        if ratio is None:
            line.verdicts.append(Verdict(goal.must, goal.bound, "not measured", None))
        elif line.row.accelerated and (ours.share or 0) < FIFO_PART_OF_A_FIGURE:
            line.verdicts.append(Verdict(goal.must, goal.bound, f"{ratio:.2f}x, not accelerated", False))
        else:
            line.verdicts.append(Verdict(goal.must, goal.bound, f"{ratio:.2f}x", ratio >= goal.bound))


def make_lines(rows, samples, not_run):
    """One line a row, in the order of the rows. not_run: {row id: why}."""
    lines = []
    for row in rows:
        mine = [sample for sample in samples if sample["case_id"] == row.id]
        line = Line(row, {}, [], not_run.get(row.id, ""))
        for carrier in (TCP, UNIX, OURS, OTHER):
            if any(sample["carrier"] == carrier for sample in mine):
                line.columns[carrier] = _column(row, carrier, mine)
        base = line.columns.get(TCP)
        for column in line.columns.values():
            if base and column is not base:
                column.against_tcp = _against(row, column, base)
        _judge(line)
        lines.append(line)
    return lines


def geometric_mean(lines, carrier=OURS):
    """Of the ratios to TCP, over the rows that have one; None if none has."""
    ratios = [line.ratio(carrier) for line in lines if line.ratio(carrier)]
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios)) if ratios else None


def missed(lines, whole_table):
    """Every must that is not shown to hold, in words: what was not measured was not reached."""
    found = []
    for line in lines:
        for verdict in line.verdicts:
            if verdict.must and not verdict.ok:
                found.append(f"{line.row.id}: {verdict.reached}, must be {verdict.bound:g}x")
    mean = geometric_mean(lines)
    if whole_table:
        for goal in MEAN_GOALS:
            if goal.must and (mean is None or mean < goal.bound):
                found.append(f"geometric mean: {mean or 0:.2f}x, must be {goal.bound:g}x")
    return found


def to_json(lines, about):
    def column(each):
        return {"carrier": each.carrier, "values": list(each.by_repetition.values()),
                "value": vars(each.value) if each.value else None,
                "against_tcp": vars(each.against_tcp) if each.against_tcp else None,
                "fifo_share": each.share, "routes": each.routes, "fallbacks": each.fallbacks,
                "programs": each.programs, "problem": each.problem}

    return {**about, "geometric_mean": geometric_mean(lines), "geometric_mean_other_build": geometric_mean(lines, OTHER),
            "rows": [{"id": line.row.id, "title": line.row.title, "unit": line.row.unit,
                      "lower_is_better": line.row.lower_is_better, "setup": line.row.setup,
                      "not_run": line.problem, "columns": [column(each) for each in line.columns.values()],
                      "goals": [vars(verdict) for verdict in line.verdicts]} for line in lines]}
