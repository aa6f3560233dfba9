"""How an explanation looks in a terminal.

The rule: that of `render`: pure, the API's view (`rollout.web.explaining`) in, lines out, the daemon's sentences as they
are.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from rollout.cli.chart import Bar, chart
from rollout.cli.render import ACTIONS, View, allowed, first_words, mark, measured, named, saw, spoken, unit_of, weighed
from rollout.cli.terminal import Look, cells, fold, table
from rollout.cli.words import THIN, clock_time, moment, number, percent

ACTION_WORDS: Mapping[str, str] = {"pass": "Passed", "hold": "Held", "retreat": "Retreated", "fail": "Failed"}
#: kind of a moment -> icon, style, words
MOMENTS: Mapping[str, tuple[str, str, str]] = {
    "fault_began": ("○", "warn", "the fault began, as the evidence has it"),
    "suspected": ("◆", "warn", "under suspicion"),
    "retreated": ("▼", "warn", "it retreated"),
    "resumed": ("▶", "info", "the retreat was over"),
    "decided": ("●", "info", "this verdict"),
    "paused": ("‖", "warn", "paused"),
    "rolling_back": ("↩", "bad", "the roll back began"),
    "rolled_back": ("↩", "bad", "all traffic was back on stable"),
    "promoting": ("▶", "good", "the last traffic moved to the candidate"),
    "guarding": ("✔", "good", "promoted; stable was kept, to take the traffic back"),
    "succeeded": ("✔", "good", "promoted"),
    "halted": ("✖", "bad", "halted"),
    "aborted": ("■", "warn", "ended"),
    "split": ("▶", "info", ""),  # in the words of its sentence, as what an observer would do
    "observed": ("◎", "good", "the observation ended"),
    "would_cut": ("▼", "warn", ""),
    "would_go_on": ("✔", "good", ""),
    "would_promote": ("✔", "good", ""),
    "would_roll_back": ("✖", "bad", ""),
    "would_pause": ("✖", "bad", ""),
    "would_halt": ("✖", "bad", ""),
}


def explanation(view: View, look: Look, *, zone: tzinfo | None = None) -> list[str]:
    """The whole picture of one verdict."""
    now = moment(view["clock"]["now"])
    blocks = [
        _head(view, look, now, zone),
        fold(str(view["verdict"]["sentence"]), look.width),
        _checks(view, look),
        _evidence(view, look, zone),
        [line for each in view["moments"] for line in _moment(each, view, look, now, zone)],
        [line for text in view["what_if"] for line in fold(str(text), look.width)],
        _notes(view, look),
    ]
    lines: list[str] = []
    for block in blocks:
        lines += ["", *block] if lines and block else block
    return [look.characters(line) for line in lines]


def _head(view: View, look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    icon, style = ACTIONS.get(view["verdict"]["action"], ("·", "quiet"))
    words = ACTION_WORDS.get(view["verdict"]["action"], str(view["verdict"]["action"]))
    state = look.paint(f"{icon} {words}", style, "bold")
    at = clock_time(moment(view["at"]), today=now, zone=zone, seconds=True)
    where = f"step {view['step']} of {view['steps']} at {view['traffic']}{THIN}%, " if view["step"] else ""
    move = f"{view['stable'] or 'stable'} → {view['candidate'] or 'candidate'}  ·  policy {view['policy']}"
    name = look.paint(str(view["endpoint"]), "bold")
    return [f"{name}  {look.paint(move, 'quiet')}", f"{state}  {look.paint(f'{where}at {at}', 'quiet')}"]


def _checks(view: View, look: Look) -> list[str]:
    """Two lines for each check: both values with their counts, below them their 95 % intervals."""
    shown = [check for check in view["checks"] if saw(check)]
    if not shown:
        return []
    head = ["", "Check", "Source", str(view["candidate"]), str(view["stable"]), "Allowed", "Evidence"]
    rows = [[look.paint(text, "quiet") for text in head]]
    for check in shown:
        rows += _check(check, look)
    note = [look.paint("Below each value: the 95 % interval that it lies in.", "quiet")]
    lines: list[str] = []
    for spare in ((), (5,), (2, 5)):  # what narrow terminals do without
        for gap in ("  ", " "):
            kept = [[text for at, text in enumerate(row) if at not in spare] for row in rows]
            left = 2 if 2 in spare else 3
            lines = table(kept, right=frozenset(range(left, len(kept[0]))), gap=gap)
            if max(map(cells, lines)) <= look.width:
                return lines + note
    return lines + note


def _check(check: View, look: Look) -> list[list[str]]:
    icon, style = mark(check)
    loud = [style] if style in {"bad", "warn"} else []
    pair = [check["candidate"], check["baseline"]]
    values = [
        look.paint(icon, style, "bold"),
        named(check),
        look.paint(str(check["source"]), "quiet"),
        *(measured(rate, unit_of(check)) for rate in pair),
        allowed(check),
        look.paint(spoken(check), *loud),
    ]
    ranges = [look.paint(interval(rate, check["unit"]), "quiet") for rate in pair]
    return [values, ["", "", "", *ranges, "", ""]] if any(ranges) else [values]


def interval(rate: View, unit: str) -> str:
    """`4.2 to 6.9 %`: where the true value lies, 95 %; empty where too little is known."""
    low, high = rate.get("low"), rate.get("high")
    if low is None or high is None:
        return ""
    if unit == "ms":
        return f"{number(low)} to {number(high)}{THIN}ms"
    first, last = percent(low), percent(high)
    return f"{first.removesuffix('%').strip()} to {last}"


def _evidence(view: View, look: Look, zone: tzinfo | None) -> list[str]:
    points = view["points"]
    threshold = float(view["verdict"]["threshold"])
    title = f"Evidence against {view['candidate']} (logarithmic)"
    marks = dict(zip(map(str, range(len(points))), _marks(points), strict=True))
    bars = [
        Bar(at=moment(point["at"]), value=float(point["evidence"]), mark=marks[str(index)])
        for index, point in enumerate(points)
    ]
    lines = {threshold: "fails"}
    legend = _legend(points)
    return [look.paint(title, "quiet"), *chart(bars, lines, look, zone=zone), *([legend] if legend else [])]


def _marks(points: Sequence[View]) -> list[str]:
    """Where a step began its number, where it retreated, or no longer did, an arrow."""
    found, step, retreated = [], None, False
    for point in points:
        mark = ""
        if point["step"] is not None and point["step"] != step:
            mark = str(point["step"])[-1]
        if bool(point["retreated"]) != retreated:
            mark = "▼" if point["retreated"] else "▶"
        step, retreated = point["step"], bool(point["retreated"])
        found.append(mark)
    return found


def _legend(points: Sequence[View]) -> str:
    words = []
    if any(point["step"] is not None for point in points):
        words.append("1 2 …: the step's first look")
    if any(point["retreated"] for point in points):
        words.append("▼ retreat, ▶ its end")
    return " " * 10 + "; ".join(words) if words else ""


def _moment(one: View, view: View, look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    icon, style, words = MOMENTS.get(one["kind"], ("·", "quiet", ""))
    stamp = clock_time(moment(one["at"]), today=now, zone=zone, seconds=True)
    told = words or first_words(str(one["sentence"]))
    if one["kind"] == "decided":
        told = f"{words}: {view['verdict']['action']}, evidence {weighed(view['verdict']['evidence'])}"
    indent = " " * (len(stamp) + 4)
    return fold(f"{stamp}  {look.paint(icon, style)} {told}", look.width, indent=indent)


def _notes(view: View, look: Look) -> list[str]:
    texts = [*view["verdict"]["notes"], *([view["forgotten"]] if view["forgotten"] else [])]
    return [look.paint(line, "quiet") for text in texts for line in fold(str(text), look.width)]


def replayed(found: Mapping[str, Any], look: Look, *, zone: tzinfo | None = None) -> list[str]:
    """What judging again gave."""
    lines = fold(str(found["sentence"]), look.width)
    if found["changes"]:
        head = [look.paint(text, "quiet") for text in ("Time", "Step", "Then", "Now", "Evidence", "now")]
        today = moment(found["changes"][-1]["at"])
        rows = [_change(change, look, today, zone) for change in found["changes"]]
        lines += ["", *table([head, *rows], right=frozenset({4, 5}))]
    lines += [line for note in found["notes"] for line in ["", *fold(str(note), look.width)]]
    return [look.characters(line) for line in lines]


def _change(change: View, look: Look, today: datetime, zone: tzinfo | None) -> list[str]:
    then, now = change["then"], change["now"]
    words = [f"{verdict['action']} ({verdict['reason']})" for verdict in (then, now)]
    return [
        clock_time(moment(change["at"]), today=today, zone=zone, seconds=True),
        f"{change['step']} ({change['traffic']}{THIN}%)",
        words[0],
        look.paint(words[1], "warn") if words[0] != words[1] else look.paint("same", "quiet"),
        weighed(then["evidence"]),
        weighed(now["evidence"]),
    ]
