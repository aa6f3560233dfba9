"""A release in a terminal: its waves, one endpoint on each line.

The rule: that of `render`: pure, the API's views in, lines out.
"""

from collections.abc import Sequence
from datetime import tzinfo

from rollout.cli.render import View, event_lines, now_of, phase_mark
from rollout.cli.terminal import Look, cells, fold, table
from rollout.cli.words import clock_time, duration, maybe, moment, split

LAST_EVENTS = 5
PHASES = {
    "running": ("▶", "info", "Running"),
    "between": ("◔", "info", "Between waves"),
    "paused": ("‖", "warn", "Paused"),
    "stopping": ("■", "bad", "Stopping"),
    "succeeded": ("✔", "good", "Released"),
    "stopped": ("■", "bad", "Stopped"),
    "aborted": ("■", "warn", "Aborted"),
}


def release_mark(view: View, look: Look) -> str:
    """`▶ Running`, coloured."""
    icon, style, words = PHASES.get(view["phase"], ("·", "quiet", str(view["phase"])))
    return look.paint(f"{icon} {words}", style, "bold")


def release(view: View, look: Look, *, zone: tzinfo | None = None) -> list[str]:
    """The whole picture of one release, with its last events."""
    now, created = now_of(view), moment(view["created_at"])
    asked = f"started {clock_time(created, today=now, zone=zone)} by {view['started_by']}"
    state = f"{release_mark(view, look)}  wave {view['wave']} of {view['waves']}"
    head = f"{look.paint('Release ' + str(view['name']), 'bold')}  {state}{look.paint('  ·  ' + asked, 'quiet')}"
    events = [
        line for event in view["events"][-LAST_EVENTS:-1] for line in event_lines(event, look, now=now, zone=zone)
    ]
    next_at = maybe(view["next_wave_at"])
    after = f"{duration(view['between_minutes'] * 60)} between waves · on a regression: {view['on_regression']}"
    if view["phase"] == "between" and next_at:
        after = f"wave {view['wave'] + 1} begins {clock_time(next_at, today=now, zone=zone)} · {after}"
    blocks = [
        [head],
        fold(str(view["sentence"]), look.width),
        [*_members(view, look), look.paint(after, "quiet")],
        events,
    ]
    lines: list[str] = []
    for block in blocks:
        lines += ["", *block] if lines and block else block
    return [look.characters(line) for line in lines]


def _members(view: View, look: Look) -> list[str]:
    rows = [_member(member, look) for member in view["members"]]
    for at in range(len(rows) - 1, 0, -1):
        if rows[at][0] == rows[at - 1][0]:
            rows[at][0] = ""
    lines = table(rows)
    if max(map(cells, lines)) > look.width:
        lines = table([[row[0], row[1], row[3], row[4]] for row in rows], gap=" ")
    return lines


def _member(member: View, look: Look) -> list[str]:
    state = look.paint("○ Not begun", "quiet") if member["phase"] is None else phase_mark(member, look)
    waits = look.paint("  needs a person", "warn") if member["needs_person"] else ""
    traffic = split(member["traffic"]) if member["traffic"] else "-"
    return [f"Wave {member['wave']}", str(member["endpoint"]), str(member["workspace"]), state + waits, traffic]


def releases(found: Sequence[View], look: Look) -> list[str]:
    """`rollout release list`: one line for each release."""
    if not found:
        return ["No releases yet. Start one with a policy that has `waves`: rollout start POLICY"]
    rows = [[look.paint(text, "quiet") for text in ("Release", "Phase", "Wave", "Promoted", "Age")]]
    for view in found:
        promoted = sum(member["state"] == "promoted" for member in view["members"])
        age = duration((now_of(view) - moment(view["created_at"])).total_seconds())
        wave, done = f"{view['wave']}/{view['waves']}", f"{promoted}/{len(view['members'])}"
        rows.append([str(view["name"]), release_mark(view, look), wave, done, age])
    return [look.characters(line) for line in table(rows)]
