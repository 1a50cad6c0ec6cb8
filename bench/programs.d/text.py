"""The table as a terminal shows it."""
from rows import MEAN_GOALS, OTHER, OURS, TCP, UNIX
from samples import geometric_mean

ID_WIDTH = 22
SHARE_TO_EXPLAIN = 0.995  # below, the reasons stand beneath the row
REASONS_SHOWN = 4


def figure(value):
    size = abs(value)
    if size >= 100000:
        return f"{value / 1000:.0f}k"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 or value == 0 else f"{value:.3f}"


def share(column):
    if column is None or column.share is None:
        return ""
    return f"{column.share * 100:.1f} %"


def ratio(column, with_range=True):
    if column is None or column.against_tcp is None:
        return ""
    spread = column.against_tcp
    text = f"{spread.median:.2f}x"
    return text + (f" ({spread.lowest:.2f}-{spread.highest:.2f})" if with_range else "")


def reasons(column):
    """Such as "3 x exec, 1 x out of memory"."""
    most = sorted(column.fallbacks.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{count} x {reason}" for reason, count in most[:REASONS_SHOWN])
    return text + (f", and {len(most) - REASONS_SHOWN} more" if len(most) > REASONS_SHOWN else "")


def marks(line):
    words = []
    for verdict in line.verdicts:
        if verdict.ok is False:
            words.append(f"{'MISSES' if verdict.must else 'below aim'} {verdict.bound:g}x")
    return ", ".join(words)


def _value(line, carrier):
    column = line.columns.get(carrier)
    if column is None:
        return ""
    return figure(column.value.median) if column.value else "failed"


def _row_lines(line, with_other):
    if not line.columns:
        return [f"{line.row.id:<{ID_WIDTH}} {line.problem}"]
    ours, other = line.columns.get(OURS), line.columns.get(OTHER)
    unit = line.row.unit + (" (less)" if line.row.lower_is_better else "")
    text = (f"{line.row.id:<{ID_WIDTH}} {unit:<15} {_value(line, TCP):>8} {_value(line, UNIX):>8} {_value(line, OURS):>8}"
            f" {ratio(ours):>20} {share(ours):>8}")
    if with_other:
        text += f" {ratio(other):>20} {share(other):>8}"
    found = [f"{text}  {marks(line)}".rstrip()]
    for column in (ours, other):
        if column is not None and column.fallbacks and (column.share or 0) < SHARE_TO_EXPLAIN:
            found.append(f"      {column.carrier}: {reasons(column)}")
    found += [f"      {column.carrier} failed: {column.problem}" for column in line.columns.values() if column.problem]
    return found


def table(lines):
    with_other = any(OTHER in line.columns for line in lines)
    head = (f"{'':<{ID_WIDTH}} {'':<15} {'TCP':>8} {'UNIX':>8} {'ours':>8} {'ours vs TCP (range)':>20} {'by FIFO':>8}")
    if with_other:
        head += f" {'other build vs TCP':>20} {'by FIFO':>8}"
    found = [head]
    for line in lines:
        found += _row_lines(line, with_other)
    mean = geometric_mean(lines)
    if mean is not None:
        measured = sum(line.ratio() is not None for line in lines)
        goals = ", ".join(f"{'must' if goal.must else 'aim'} {goal.bound:g}x" for goal in MEAN_GOALS)
        found.append(f"geometric mean of {measured} of {len(lines)} rows: {mean:.2f}x ({goals} for the whole table)")
    if with_other and geometric_mean(lines, OTHER) is not None:
        found.append(f"the other build's: {geometric_mean(lines, OTHER):.2f}x")
    return "\n".join(found)
