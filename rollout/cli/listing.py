"""Lists in a terminal: rollouts, alerts, policies.

The rule: that of `render`: pure, the API's views in, lines out.
"""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path

from rollout.cli.render import View, now_of, phase_mark
from rollout.cli.terminal import Look, cells, fold, table
from rollout.cli.words import clock_time, duration, moment, split


def overview(views: Sequence[View], look: Look) -> list[str]:
    """`rollout list`: one line for each rollout."""
    if not views:
        return ["No rollouts yet. Start one with: rollout start POLICY"]
    head = ["Endpoint", "Workspace", "Phase", "Step", "Traffic", "Candidate", "Age"]
    rows = [[look.paint(text, "quiet") for text in head]]
    rows += [_overview_row(view, look) for view in views]
    lines = table(rows)
    if max(cells(line) for line in lines) > look.width:
        lines = table([[row[0], row[2], row[3], row[4], row[6]] for row in rows], gap=" ")
    return [look.characters(line) for line in lines]


def _overview_row(view: View, look: Look) -> list[str]:
    traffic = None if view["ended"] else view["traffic"]["observed"]  # what the endpoint shows is no more its doing
    age = (now_of(view) - (moment(view["created_at"]))).total_seconds()
    acts = view.get("mode") != "observe"  # else its steps are people's
    step = f"{view['step']}/{len(view['steps'])}" if acts and view["steps"] and view["started_at"] else "-"
    return [
        str(view["endpoint"]),
        str(view["workspace"]),
        phase_mark(view, look) + (look.paint(" frozen", "warn") if view.get("freezes") else ""),
        step,
        split(traffic) if traffic else "-",
        str(view["candidate"] or "-"),
        duration(age),
    ]


def deliveries(found: Sequence[View], look: Look, *, now: datetime, zone: tzinfo | None = None) -> list[str]:
    """`rollout alerts`: what became of each alert, newest first."""
    if not found:
        return ["No alerts were sent."]
    styles = {"delivered": "good", "waiting": "warn", "dead": "bad"}
    lines = []
    for one in found:
        at = moment(one["at"])
        state = look.paint(str(one["state"]), styles.get(str(one["state"]), "quiet"))
        stamp = clock_time(at, today=now, zone=zone, seconds=True)
        attempts = f"{one['attempts']} attempt{'' if one['attempts'] == 1 else 's'}"
        lines.append(f"{stamp}  {look.paint(str(one['channel']), 'bold')}  {state}  {one['severity']}, {attempts}")
        lines += ["  " + line for line in fold(str(one["sentence"]), look.width - 2)]
        if one["error"]:
            lines += ["  " + look.paint(line, "bad") for line in fold(str(one["error"]), look.width - 2)]
    return [look.characters(line) for line in lines]


def policies(found: Sequence[View], look: Look) -> list[str]:
    """`rollout policies`: what the daemon has loaded, with the mistakes of files that it could not load."""
    if not found:
        return ["The daemon has found no policies."]
    head = ["Policy", "Endpoint", "Workspace", "File", "State"]
    rows = [[look.paint(text, "quiet") for text in head]]
    for one in found:
        good = look.paint("loaded", "good")
        stale = look.paint("last good version, file has mistakes", "warn")
        state = good if not one["mistakes"] else stale if one["name"] else look.paint("has mistakes", "bad")
        rows.append([str(one[key] or "-") for key in ("name", "endpoint", "workspace", "file")] + [state])
    mistakes = [str(mistake) for one in found for mistake in one["mistakes"]]
    folded = [line for mistake in mistakes for line in fold(mistake, look.width, indent="  ")]
    lines = table(rows)
    if max(map(cells, lines)) > look.width:  # the file's folder is the daemon's, and mostly the same
        lines = table([[row[0], row[1], Path(row[3]).name, row[4]] for row in rows], gap=" ")
    return [look.characters(line) for line in [*lines, *([""] if folded else []), *folded]]
