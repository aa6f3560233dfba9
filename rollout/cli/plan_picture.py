"""The picture of a plan: the candidate's share over time, and when each fault would be rolled back, as SVG.

The rule: pure, a view of `rollout.web.plans` in, the text of an SVG out; no library, readable in black and white.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from rollout.cli.plan_view import faults_told, sight, time

View = Mapping[str, Any]

WIDTH, LEFT, RIGHT, TOP, PLOT = 960, 64, 32, 128, 300
LINE, TAG = 20, 22
TICKS = (5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080)
MOST_TICKS = 9
LIKELY = 0.5  # the part of rollouts from which a fault has a mark
INK, QUIET, RULE, STABLE, CANDIDATE, LAG, BAD = (
    "#1f2933",
    "#5f6b7a",
    "#d5dbe2",
    "#eef1f5",
    "#2563eb",
    "#93b4f5",
    "#c2261d",
)
STYLE = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


class _Axes:
    """Where a minute and a share lie."""

    def __init__(self, view: View) -> None:
        detected = [fault["minutes"] or 0.0 for fault in faults_told(view)]
        self.end: float = 1.04 * max(view["done_minutes"]["fixed"], *detected, 1.0)

    def x(self, minute: float) -> float:
        """Pixels from the left."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * minute / self.end, 1)

    def y(self, share: float) -> float:
        """Pixels from the top."""
        return round(TOP + PLOT * (1.0 - share / 100.0), 1)


def picture(view: View) -> str:
    """The SVG."""
    axes, faults = _Axes(view), faults_told(view)
    height = TOP + PLOT + 58 + LINE * (len(faults) + 1) + 16
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'",
        f"     {STYLE} role='img'>",
        f"<title>{escape(_title(view))}</title>",
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
        *_head(view),
        *_grid(axes),
        *_shares(view, axes),
        *_marks(view, axes),
        *_legend(view),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _title(view: View) -> str:
    return f"{view['endpoint']}: {view['policy']}" if view["policy"] != view["endpoint"] else str(view["endpoint"])


def _text(
    x: float, y: float, text: str, *, size: int = 13, fill: str = INK, anchor: str = "start", bold: bool = False
) -> str:
    weight = " font-weight='600'" if bold else ""
    weight += " stroke='#ffffff' stroke-width='3' paint-order='stroke'" if bold and fill == INK else ""
    return (
        f"<text x='{x}' y='{y}' font-size='{size}' fill='{fill}' text-anchor='{anchor}'{weight}>{escape(text)}</text>"
    )


def _head(view: View) -> Iterator[str]:
    yield _text(LEFT, 32, _title(view), size=18, bold=True)
    yield _text(LEFT, 54, f"100 % after {time(view['done_minutes']['fixed'])}; {sight(view['sees'], view)}", fill=QUIET)


def _grid(axes: _Axes) -> Iterator[str]:
    yield f"<rect x='{LEFT}' y='{TOP}' width='{WIDTH - LEFT - RIGHT}' height='{PLOT}' fill='{STABLE}'/>"
    for share in (0, 25, 50, 75, 100):
        y = axes.y(share)
        yield f"<line x1='{LEFT}' y1='{y}' x2='{WIDTH - RIGHT}' y2='{y}' stroke='{RULE}'/>"
        yield _text(LEFT - 8, y + 4, f"{share} %", size=12, fill=QUIET, anchor="end")
    each = next((tick for tick in TICKS if axes.end / tick <= MOST_TICKS), TICKS[-1])
    for minute in range(0, int(axes.end) + 1, each):
        x = axes.x(minute)
        yield f"<line x1='{x}' y1='{TOP + PLOT}' x2='{x}' y2='{TOP + PLOT + 5}' stroke='{QUIET}'/>"
        yield _text(x, TOP + PLOT + 20, time(minute) if minute else "start", size=12, fill=QUIET, anchor="middle")


def _shares(view: View, axes: _Axes) -> Iterator[str]:
    """Each step as a block: the bake, then the time until its data is in."""
    ends = [step["begins_minute"] for step in view["steps"][1:]] + [view["done_minutes"]["fixed"]]
    for step, end in zip(view["steps"], ends, strict=True):
        begins, baked = step["begins_minute"], step["begins_minute"] + step["bake_minutes"]
        y = axes.y(step["share"])
        yield _block(axes, begins, baked, y, CANDIDATE)
        yield _block(axes, baked, end, y, LAG)
        if step["approve"]:
            x = axes.x(begins)
            yield f"<line x1='{x}' y1='{TOP}' x2='{x}' y2='{TOP + PLOT}' stroke='{INK}' stroke-width='2'/>"
            yield _text(x - 6, TOP + 16, "approval", size=12, anchor="end")
    done = axes.x(view["done_minutes"]["fixed"])
    yield f"<rect x='{done}' y='{TOP}' width='{round(WIDTH - RIGHT - done, 1)}' height='{PLOT}' fill='{CANDIDATE}'/>"
    yield from _labels(view, axes)


def _block(axes: _Axes, begins: float, ends: float, y: float, fill: str) -> str:
    width = round(axes.x(ends) - axes.x(begins), 1)
    return f"<rect x='{axes.x(begins)}' y='{y}' width='{width}' height='{round(TOP + PLOT - y, 1)}' fill='{fill}'/>"


def _labels(view: View, axes: _Axes) -> Iterator[str]:
    free = 0.0
    for step in view["steps"]:
        x, high = axes.x(step["begins_minute"]) + 4, step["share"] > 80
        if x < free:
            continue
        text = f"{step['share']} %"
        y = axes.y(step["share"]) + (18 if high else -6)
        yield _text(x, y, text, size=13, fill="#ffffff" if high else INK, bold=True)
        free = x + 9.0 * len(text)


def _marks(view: View, axes: _Axes) -> Iterator[str]:
    """A numbered mark for each fault that is likely rolled back, at the median time."""
    used: list[tuple[float, int]] = []
    faults = enumerate(faults_told(view), 1)
    found = [(fault["minutes"], at) for at, fault in faults if fault["detected"] >= LIKELY]
    for minutes, at in sorted(found):
        x = axes.x(minutes)
        row = next(row for row in range(len(found)) if all(r != row or abs(x - left) >= TAG for left, r in used))
        used.append((x, row))
        y = TOP - 14 - row * TAG
        yield f"<line x1='{x}' y1='{y}' x2='{x}' y2='{TOP + PLOT}' stroke='{BAD}' stroke-dasharray='4 3'/>"
        yield f"<circle cx='{x}' cy='{y}' r='9.5' fill='#ffffff' stroke='{BAD}' stroke-width='1.5'/>"
        yield _text(x, y + 4.5, str(at), size=12, fill=BAD, anchor="middle", bold=True)


def _legend(view: View) -> Iterator[str]:
    y = TOP + PLOT + 50
    for x, fill, text in (
        (LEFT, CANDIDATE, "candidate: bake"),
        (LEFT + 150, LAG, "candidate: data on its way"),
        (LEFT + 370, STABLE, "stable"),
    ):
        yield f"<rect x='{x}' y='{y - 11}' width='14' height='14' fill='{fill}' stroke='{RULE}'/>"
        yield _text(x + 20, y, text, size=12, fill=QUIET)
    for at, fault in enumerate(faults_told(view), 1):
        y += LINE
        yield _text(LEFT + 7, y + 4, str(at), size=12, fill=BAD, anchor="middle", bold=True)
        yield _text(LEFT + 22, y + 4, fault["told"], size=13)
