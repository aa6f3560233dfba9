"""A chart of the evidence in a terminal: a bar for each moment, on a logarithmic scale, with the lines that matter.

The rule: pure; at most as wide as asked for; without UTF-8 it is drawn in plain characters. The numbers of every bar are in
`explain -o json` too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from math import ceil, log10

from rollout.cli.terminal import Look, cells, pad
from rollout.cli.words import clock_time, number

HEIGHT = 6
WIDEST = 80
LOWEST, HIGHEST = 0.1, 1e4  # evidence beyond is drawn at the edge
LABEL = 8
EIGHTHS, PLAIN = "▁▂▃▄▅▆▇█", "....::##"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The evidence at one moment; `mark` stands under it."""

    at: datetime
    value: float
    mark: str = ""


def chart(bars: Sequence[Bar], lines: Mapping[float, str], look: Look, *, zone: tzinfo | None = None) -> list[str]:
    """The bars over time; `lines` are values with what they mean, such as `{20: "fails"}`."""
    words = max((cells(word) for word in lines.values()), default=0)
    room = max(10, min(look.width, WIDEST) - LABEL - 2 - words - 1)
    columns, marks = _columns(bars, room)
    top = min(HIGHEST, max([*(bar.value for bar in bars), *lines, 1.0]) * 1.5)
    heights = [_height(value, top) for value in columns]
    levels = {max(0, ceil(_height(value, top) / 8) - 1): value for value in sorted(lines, reverse=True)}
    drawn = []
    for row in range(HEIGHT - 1, -1, -1):
        value = levels.get(row)
        label = pad("" if value is None else f"{value:g}", LABEL, right=True)
        body = "".join(_cell(heights, column, row, look, lined=value is not None) for column in range(room))
        painted = _painted(body, columns, lines, look)
        word = "" if value is None else f" {lines[value]}"
        drawn.append(f"{look.paint(label + ' |', 'quiet')}{painted}{look.paint(word, 'quiet')}".rstrip())
    return [*drawn, *_axis(bars, marks, room, look, zone)]


def _columns(bars: Sequence[Bar], room: int) -> tuple[list[float], list[str]]:
    """The largest value of each column's time (else the one before), and the last mark in it."""
    begin, end = bars[0].at, bars[-1].at
    values: list[float | None] = [None] * room
    marks = [" "] * room
    for bar in bars:
        part = (bar.at - begin) / (end - begin) if end > begin else 0.0
        column = min(room - 1, int(part * room))
        values[column] = max(bar.value, values[column] or 0.0)
        marks[column] = bar.mark or marks[column]
    filled, last = [], bars[0].value
    for value in values:
        last = last if value is None else value
        filled.append(last)
    return filled, marks


def _height(value: float, top: float) -> int:
    """In eighths of a row; at least one."""
    bounded = min(max(value, LOWEST), top)
    return max(1, round(8 * HEIGHT * log10(bounded / LOWEST) / log10(top / LOWEST)))


def _cell(heights: Sequence[int], column: int, row: int, look: Look, *, lined: bool) -> str:
    filled = min(8, heights[column] - 8 * row)
    if filled > 0:
        return (EIGHTHS if look.unicode else PLAIN)[filled - 1]
    return ("·" if look.unicode else "-") if lined and column % 2 == 0 else " "


def _painted(body: str, columns: Sequence[float], lines: Mapping[float, str], look: Look) -> str:
    """Runs of columns in the colour of what their value means."""
    if not look.colours:
        return body
    limits = sorted(lines)
    styles = ["quiet" if cell in " ·-" else _style(value, limits) for cell, value in zip(body, columns, strict=True)]
    text, start = "", 0
    for at in range(1, len(body) + 1):
        if at == len(body) or styles[at] != styles[start]:
            text += look.paint(body[start:at], styles[start])
            start = at
    return text


def _style(value: float, limits: Sequence[float]) -> str:
    above = sum(value >= limit for limit in limits)
    return "info" if not above else "bad" if above == len(limits) else "warn"


def _axis(bars: Sequence[Bar], marks: Sequence[str], room: int, look: Look, zone: tzinfo | None) -> list[str]:
    first, last = (clock_time(bar.at, today=bars[-1].at, zone=zone) for bar in (bars[0], bars[-1]))
    times = pad(first, room - cells(last)) + last if bars[0].at < bars[-1].at else first
    under = [" " * (LABEL + 2) + "".join(marks)] if any(mark.strip() for mark in marks) else []
    return [line.rstrip() for line in (*under, " " * (LABEL + 2) + look.paint(times, "quiet"))]


def looks(count: int) -> str:
    """`1 look`, `4 812 looks`."""
    return f"{number(count)} look{'' if count == 1 else 's'}"
