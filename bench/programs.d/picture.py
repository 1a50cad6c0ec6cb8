"""The table as one SVG picture: a bar for each program on a logarithmic axis, from 1.0 to its ratio.

Plain SVG 1.1 without scripts or external fonts."""
import math
from html import escape

from rows import OTHER, OURS, UNIX
from samples import geometric_mean
from text import figure

INK, FAINT, GRID, ALARM = "#1f2933", "#66727f", "#e4e8ec", "#c92a2a"
BETTER, WORSE, PALE = "#2f9e6e", "#e8875b", "#c9d2da"
MARGIN, LABEL, PLOT, VALUES = 28, 330, 520, 270
ROW, GAP, HEAD, FOOT = 21, 9, 118, 46
TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


class Axis:
    """Ratio to x, logarithmic; always has 0.5 and 2 on it."""

    def __init__(self, ratios, left, width):
        self.low = min([0.5] + [ratio for ratio in ratios if ratio > 0]) / 1.06
        self.high = max([2.0] + ratios) * 1.06
        self.left, self.width = left, width

    def at(self, ratio):
        part = math.log(max(ratio, self.low) / self.low) / math.log(self.high / self.low)
        return self.left + self.width * min(part, 1)

    def ticks(self):
        return [tick for tick in TICKS if self.low <= tick <= self.high]


def _text(x, y, text, size=12, colour=INK, anchor="start", bold=False):
    weight = ' font-weight="bold"' if bold else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>'
            f"{escape(text)}</text>")


def _line(x1, y1, x2, y2, colour, width, dashed=False):
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{dash}/>')


def _rect(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}" rx="2"/>'


def _diamond(x, y, colour, size=4.5):
    return (f'<path d="M{x - size:.1f} {y:.1f}L{x:.1f} {y - size:.1f}L{x + size:.1f} {y:.1f}L{x:.1f} {y + size:.1f}Z" '
            f'fill="{colour}" stroke="white"/>')


def _circle(x, y, colour, radius=4):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="white" stroke="{colour}" stroke-width="1.6"/>'


def _extremes(lines):
    found = []
    for line in lines:
        for column in line.columns.values():
            if column.against_tcp:
                found += [column.against_tcp.lowest, column.against_tcp.highest]
    return found


def _draw_row(axis, line, y):
    middle = y + ROW / 2
    found = [_text(MARGIN + LABEL - 10, middle + 4, line.row.title, 12, INK, "end")]
    ours = line.columns.get(OURS)
    one, labels = axis.at(1), MARGIN + LABEL + PLOT + 12
    if ours is None or ours.against_tcp is None:
        why = line.problem or next((c.problem for c in line.columns.values() if c.problem), "not measured")
        return found + [_text(one + 8, middle + 4, why[:90], 11, ALARM)]
    spread = ours.against_tcp
    accelerated = not line.row.accelerated or (ours.share or 0) >= 0.5
    colour = PALE if not accelerated else BETTER if spread.median >= 1 else WORSE
    start, stop = sorted((one, axis.at(spread.median)))
    found.append(_rect(start, y + 4, max(stop - start, 1.5), ROW - 8, colour))
    found.append(_line(axis.at(spread.lowest), middle, axis.at(spread.highest), middle, INK, 1.2))
    for carrier, draw, ink in ((UNIX, _diamond, "#4c6ef5"), (OTHER, _circle, "#7048a8")):
        beside = line.columns.get(carrier)
        if beside and beside.against_tcp:
            found.append(draw(axis.at(beside.against_tcp.median), middle, ink))
    label = f"{spread.median:.2f}x"
    found.append(_text(labels, middle + 4, label, 12, INK, "start", True))
    by_fifo = "" if ours.share is None else f"{ours.share * 100:.0f} % by FIFO"
    found.append(_text(labels + 62, middle + 4, by_fifo, 11, FAINT if accelerated else ALARM))
    found.append(_text(labels + 152, middle + 4, f"{figure(ours.value.median)} {line.row.unit}", 11, FAINT))
    return found


def _legend(y, with_other):
    found, x = [], MARGIN
    for draw, words in ((lambda x: _rect(x, y - 9, 16, 10, BETTER), "better than TCP"),
                        (lambda x: _rect(x, y - 9, 16, 10, WORSE), "slower than TCP"),
                        (lambda x: _rect(x, y - 9, 16, 10, PALE), "not accelerated (under half by FIFO)"),
                        (lambda x: _line(x, y - 4, x + 16, y - 4, INK, 1.2), "range"),
                        (lambda x: _diamond(x + 8, y - 4, "#4c6ef5"), "UNIX socket")) + (
                            ((lambda x: _circle(x + 8, y - 4, "#7048a8"), "other build"),) if with_other else ()):
        found += [draw(x), _text(x + 22, y, words, 11, FAINT)]
        x += 22 + 6.2 * len(words) + 24
    return found


def draw(lines, title, about):
    axis = Axis(_extremes(lines), MARGIN + LABEL, PLOT)
    tops, y = [], float(HEAD)
    for number, line in enumerate(lines):
        if number and line.row.family != lines[number - 1].row.family:
            y += GAP
        tops.append(y)
        y += ROW
    width, height = MARGIN + LABEL + PLOT + VALUES + MARGIN, y + FOOT
    found = [_text(MARGIN, MARGIN + 12, title, 20, INK, "start", True), _text(MARGIN, MARGIN + 34, about, 11, FAINT)]
    mean = geometric_mean(lines)
    summary = "Times as good as TCP in the same run (logarithmic); medians of ratios within one repetition"
    found.append(_text(MARGIN, MARGIN + 50, summary + (f"; geometric mean {mean:.2f}x" if mean else ""), 11, FAINT))
    found += _legend(MARGIN + 70, any(OTHER in line.columns for line in lines))
    for tick in axis.ticks():
        one = tick == 1
        found.append(_line(axis.at(tick), HEAD - 6, axis.at(tick), y + 4, INK if one else GRID, 1.4 if one else 1))
        found.append(_text(axis.at(tick), y + 20, f"{tick:g}" if not one else "1.0 = TCP", 10, INK if one else FAINT,
                           "middle", one))
    for line, top in zip(lines, tops):
        found += _draw_row(axis, line, top)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(found) + "\n</svg>\n")
