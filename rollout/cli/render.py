"""How a rollout looks in a terminal: the API's view (`rollout.web.views`) as lines.

The rule: pure. A view, a `Look` and a time zone in, lines out; `status`, `status --watch` and the demo draw the same
frame. The sentences come from the daemon and are printed as they are.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from rollout.cli.terminal import Look, cells, fold, pad, table
from rollout.cli.words import (
    THIN,
    ago,
    ahead,
    clock_time,
    maybe,
    milliseconds,
    moment,
    number,
    percent,
    size,
    split,
)

View = Mapping[str, Any]

#: phase -> icon, style, words
PHASES: Mapping[str, tuple[str, str, str]] = {
    "pending": ("○", "quiet", "Pending"),
    "preparing": ("◐", "info", "Preparing"),
    "progressing": ("▶", "info", "Progressing"),
    "retreated": ("▼", "warn", "Retreated"),
    "waiting": ("◆", "warn", "Waiting"),
    "paused": ("‖", "warn", "Paused"),
    "rolling_back": ("↩", "bad", "Rolling back"),
    "rolled_back": ("↩", "bad", "Rolled back"),
    "promoting": ("▶", "good", "Promoting"),
    "guarding": ("✔", "good", "Guarding"),
    "succeeded": ("✔", "good", "Promoted"),
    "halted": ("✖", "bad", "Halted"),
    "aborted": ("■", "warn", "Aborted"),
    "observing": ("◎", "info", "Observing"),
    "observed": ("◎", "good", "Observed"),
}
ACTIONS: Mapping[str, tuple[str, str]] = {
    "pass": ("✔", "good"),
    "hold": ("·", "quiet"),
    "retreat": ("▼", "warn"),
    "fail": ("✖", "bad"),
}
STEPS: Mapping[str, tuple[str, str]] = {"done": ("✔", "good"), "now": ("▶", "info"), "ahead": ("○", "quiet")}
LONGEST_NAME = 18  # of a check in a table
LABEL = 10  # columns of the labels on the left


def phase_mark(view: View, look: Look) -> str:
    """`▶ Progressing`, coloured."""
    icon, style, words = PHASES.get(view["phase"], ("·", "quiet", str(view["phase"])))
    return look.paint(f"{icon} {words}", style, "bold")


def status(view: View, look: Look, *, zone: tzinfo | None = None, history: Sequence[View] = ()) -> list[str]:
    """The whole picture of one rollout; `history` are its last events, oldest first."""
    now = now_of(view)
    blocks = [
        _head(view, look, now, zone),
        _said(str(view["sentence"]), look),
        [
            *_traffic(view, look, now, zone),
            *_instances(view, look),
            *(_would(view, look, now, zone) if _observes(view) else _steps(view, look)),
            *_bake(view, look),
            *_next(view, look, now, zone),
            *_gate(view, look, now, zone),
        ],
        _checks(view, look),
        _history(_before(history, view), look, now, zone),
    ]
    lines: list[str] = []
    for block in blocks:
        lines += ["", *block] if lines and block else block
    return [look.characters(line) for line in lines]


def now_of(view: View) -> datetime:
    return moment(view["clock"]["now"])


def _head(view: View, look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    name = look.paint(str(view["endpoint"]), "bold")
    move = f"{view['stable'] or 'stable'} → {view['candidate'] or 'candidate'}"
    where = f"{move}  ·  workspace {view['workspace']}  ·  policy {view['policy']}"
    if view.get("release"):
        where += f"  ·  wave {view['release']['wave']} of {view['release']['waves']}"
    created = moment(view["created_at"])
    asked = f"started {clock_time(created, today=now, zone=zone)} by {view['started_by']}"
    since = maybe(view["phase_since"])
    state = phase_mark(view, look)
    if view["steps"] and not view["ended"] and view["started_at"] and not _observes(view):
        state += f"  step {view['step']} of {len(view['steps'])}"
    if since:
        state += look.paint(f"  since {clock_time(since, today=now, zone=zone)} ({ago(since, now=now)})", "quiet")
    lines = [f"{name}  {look.paint(where, 'quiet')}"]
    if cells(lines[0]) > look.width:
        lines = [name, *(look.paint(line, "quiet") for line in fold(where, look.width))]
    second = f"{state}{look.paint('  ·  ' + asked, 'quiet')}"
    return [*lines, *([second] if cells(second) <= look.width else [state, look.paint(asked, "quiet")])]


def _said(sentence: str, look: Look) -> list[str]:
    return fold(sentence, look.width)


def _row(label: str, text: str, look: Look) -> str:
    return pad(look.paint(label, "quiet"), LABEL) + text


def _traffic(view: View, look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    traffic = view["traffic"]
    wanted, observed = traffic["wanted"], traffic["observed"]
    if observed is None:
        shown = look.paint("not seen yet", "quiet")
    else:
        differs = wanted is not None and wanted != observed
        shown = look.paint(split(observed), *(["warn", "bold"] if differs else ["bold"]))
        if differs:
            shown += look.paint(f"  wanted {split(wanted)}", "quiet")
        shown += look.paint(f"  {_seen(traffic, now, zone)}", "quiet")
    return [_row("Traffic", shown, look), *_bar(observed, view, look)]


def _instances(view: View, look: Look) -> list[str]:
    """How large both are, and what each instance gets."""
    found = view.get("instances")
    if not found or view["ended"] or any(found[role]["count"] is None for role in found):
        return []
    names = {"baseline": view["stable"], "candidate": view["candidate"]}
    parts = []
    for role, each in found.items():
        rate = f" ({each['per_minute']:g} requests a minute each)" if each["per_minute"] is not None else ""
        parts.append(f"{names[role]} {each['count']}{rate}")
    whole = " · ".join(parts)
    lines = [whole] if LABEL + cells(whole) <= look.width else parts
    return [_row("" if at else "Instances", look.paint(line, "quiet"), look) for at, line in enumerate(lines)]


def _seen(traffic: View, now: datetime, zone: tzinfo | None) -> str:
    seen = maybe(traffic["observed_at"])
    state = str(traffic["state"] or "")
    words = [] if state in {"Succeeded", ""} else [state]
    if seen:
        words.append(f"seen {clock_time(seen, today=now, zone=zone, seconds=True)}")
    return ", ".join(words)


def _bar(observed: Mapping[str, int] | None, view: View, look: Look) -> list[str]:
    """The candidate's part of the traffic as a bar."""
    candidate = view["candidate"]
    if not observed or not candidate:
        return []
    share = observed.get(str(candidate).casefold(), 0)
    room = min(40, look.width - LABEL - 20)
    filled = 0 if share == 0 else max(1, round(room * share / 100))
    bar = look.paint("█" * filled, "info") + look.paint("░" * (room - filled), "quiet")
    return [_row("", f"{bar} {candidate} {share}{THIN}%", look)]


def first_words(sentence: str) -> str:
    """`would go on to 25 %`: what comes before the numbers of a sentence."""
    words = re.split(r"[.:] ", sentence, maxsplit=1)[0]
    return words[:1].lower() + words[1:]


def _observes(view: View) -> bool:
    return view.get("mode") == "observe"


def _would(view: View, look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    """What a rollout that observes would do: the sentence's own first words."""
    would = view["would"]
    if not would:
        return []
    words = first_words(str(would["sentence"])).removeprefix("would ")
    since = look.paint(f"  since {clock_time(moment(would['at']), today=now, zone=zone, seconds=True)}", "quiet")
    style = {"roll_back": "bad", "halt": "bad", "pause": "bad", "cut": "warn", "go_on": "good", "promote": "good"}
    shown = look.paint(words, style.get(str(would["act"]), "info"), "bold")
    return _flow("Would", [shown, since.strip()], "  ", look)


def _steps(view: View, look: Look) -> list[str]:
    parts = []
    for step in view.get("mirror_steps", ()):
        icon, style = STEPS[step["state"]]
        loud = ["bold"] if step["state"] == "now" else []
        parts.append(look.paint(f"{icon} mirror {step['mirror_traffic']}{THIN}%", style, *loud))
    for step in view["steps"]:
        icon, style = STEPS[step["state"]]
        words = f"{step['traffic']}{THIN}%" + (" after approval" if step["approve"] and step["state"] != "done" else "")
        parts.append(look.paint(f"{icon} {words}", style, *(["bold"] if step["state"] == "now" else [])))
    return _flow("Steps", parts, "   ", look)


def _flow(label: str, parts: Sequence[str], gap: str, look: Look) -> list[str]:
    """The parts behind a label, in as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and cells(lines[-1] + gap + part) <= look.width - LABEL:
            lines[-1] += gap + part
        else:
            lines.append(part)
    return [_row("" if index else label, line, look) for index, line in enumerate(lines)]


def _bake(view: View, look: Look) -> list[str]:
    bake, requests = view["bake"], view["requests"]
    lines = []
    if view["started_at"] and not view["ended"]:
        room = 20
        filled = min(room, round(room * bake["blocks"] / max(1, bake["of"])))
        bar = look.paint("█" * filled, "info") + look.paint("░" * (room - filled), "quiet")
        lines.append(_row("Bake", f"{bar} {min(bake['blocks'], bake['of'])} of {bake['of']} judged minutes", look))
    if requests and any(requests.values()):
        text = f"{view['candidate']} {number(requests['candidate'])}, {view['stable']} {number(requests['baseline'])}"
        harmed = f"  ·  ~{number(view['harmed'])} harmed" if view["harmed"] >= 1 else ""
        lines.append(_row("Requests", f"{text} in this step{look.paint(harmed, 'bad')}", look))
    return lines


def _next(view: View, look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    eta = view["eta"] or {}
    decision, done = maybe(eta.get("next_decision_at")), maybe(eta.get("done_at"))
    if view["ended"] or (decision is None and done is None):
        return []
    parts = []
    if decision:
        parts.append(f"decision {ahead(decision, now=now, zone=zone)}")
    if done:
        parts.append(f"promoted {ahead(done, now=now, zone=zone)} if all goes well")
    if view["clock"]["speed"] != 1:
        parts.append(look.paint(f"clock × {view['clock']['speed']:g}", "quiet"))
    return _flow("Next", parts, "  ·  ", look)


def _gate(view: View, look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    """What holds every rise: the policy's windows, and what people froze."""
    lines, windows = [], view.get("windows")
    if windows:
        changes = maybe(windows["changes_at"])
        what = (
            ("open, closes" if windows["open"] else "shut, opens") if changes else "open" if windows["open"] else "shut"
        )
        lines += _flow("Window", [f"{what} {ahead(changes, now=now, zone=zone)}" if changes else what], "  ·  ", look)
    for freeze in view.get("freezes") or ():
        lines += [look.paint(line, "warn") for line in fold(str(freeze["sentence"]), look.width)]
    return lines


#: The columns of checks that narrow terminals do without, the least missed first.
_SPARE = ((), ("allowed",), ("allowed", "source"), ("allowed", "source", "evidence"))


def _checks(view: View, look: Look) -> list[str]:
    """One row for each check and source, both numbers with their counts; below it what speaks against the candidate."""
    if not view["checks"]:
        return []
    if not any(map(saw, view["checks"])):
        return [] if view["ended"] else ["No requests of this step were seen yet."]
    lines = _check_table(view, look)
    weighs = any(finding.get("role", "evidence") == "evidence" for finding in view["checks"])
    if view["verdict"] and weighs:  # guarding compares nothing, and so gathers no evidence
        ends = "would end" if _observes(view) else "ends"
        line = f"Evidence against the candidate: {view['verdict']['threshold']:g} {ends} it."
        lines.append(look.paint(line, "quiet"))
    against = [finding for finding in view["checks"] if finding["action"] in {"fail", "retreat"}]
    told = dict.fromkeys(str(finding["sentence"]) for finding in against)
    told |= dict.fromkeys(str(note) for note in (view["verdict"] or {}).get("notes", ()))
    return lines + [line for text in told for line in fold(text, look.width)]


def _check_table(view: View, look: Look) -> list[str]:
    head = {"icon": "", "check": "Check", "source": "Source", "candidate": str(view["candidate"])}
    head |= {"stable": str(view["stable"]), "allowed": "Allowed", "evidence": "Evidence"}
    rows = [{name: look.paint(text, "quiet") for name, text in head.items()}]
    rows += [_check(finding, look) for finding in view["checks"] if saw(finding)]
    lines: list[str] = []
    for spare in _SPARE:
        kept = [[text for name, text in row.items() if name not in spare] for row in rows]
        left = 2 if "source" in spare else 3
        for gap in ("  ", " "):
            lines = table(kept, right=frozenset(range(left, len(kept[0]))), gap=gap)
            if max(map(cells, lines)) <= look.width:
                return lines
    return lines


def _check(finding: View, look: Look) -> dict[str, str]:
    icon, style = mark(finding)
    loud = [style] if style in {"bad", "warn"} else []
    return {
        "icon": look.paint(icon, style, "bold"),
        "check": named(finding),
        "source": look.paint(str(finding["source"]), "quiet"),
        "candidate": look.paint(measured(finding["candidate"], unit_of(finding)), *loud),
        "stable": measured(finding["baseline"], unit_of(finding)),
        "allowed": allowed(finding),
        "evidence": look.paint(spoken(finding), *loud),
    }


def named(finding: View) -> str:
    """A check's name, cut where it is very long."""
    name = str(finding["name"])
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def mark(finding: View) -> tuple[str, str]:
    """The icon of a finding and its style."""
    return ("!", "warn") if finding.get("alert") else ACTIONS.get(finding["action"], ("·", "quiet"))


#: What stands in the place of the evidence where there is none that decides.
_BESIDE: Mapping[str, str] = {"dry_run": "dry run", "bound": "max only", "alert": "alert"}


def spoken(finding: View) -> str:
    """The evidence of a check, or how it takes part without any."""
    if finding.get("role") == "bound" and finding.get("maximum") is None:
        return "watched"
    return _BESIDE.get(str(finding.get("role", "evidence"))) or weighed(finding["evidence"])


def saw(finding: View) -> bool:
    """Whether there is anything to show of a check in this source."""
    return bool(finding["baseline"]["n"] or finding["candidate"]["n"])


def unit_of(finding: View) -> str:
    """The unit of a finding's values; `reported` of quantiles that Azure's metrics tell without counts."""
    return "reported" if (finding["unit"], finding["source"]) == ("ms", "metrics") else str(finding["unit"])


def measured(rate: View, unit: str) -> str:
    """`6.8 % (61 of 900)`, `84 ms (900)`, `412 B (900)`, or `84 ms (10 min)` of the minutes that Azure reported."""
    if rate["value"] is None:
        return "no requests"
    if unit == "reported":
        return f"{milliseconds(rate['value'])} ({number(rate['n'])}{THIN}min)"
    if unit == "bytes":
        return f"{size(rate['value'])} ({number(rate['n'])})"
    if unit == "ms":
        return f"{milliseconds(rate['value'])} ({number(rate['n'])})"
    return f"{percent(rate['value'])} ({number(rate['bad'])} of {number(rate['n'])})"


def allowed(finding: View) -> str:
    """`+0.5 pp`, `+25 %` or `×2`: how far the candidate may be from stable; `≤ 800 ms` where only the bound decides.

    Empty where neither does: a candidate that serves alone is watched for what nobody may allow it.
    """
    margin, most = float(finding["margin"]), finding.get("maximum")
    if finding.get("role") == "bound":
        return "" if most is None else f"≤ {milliseconds(most) if finding['unit'] == 'ms' else percent(most)}"
    if finding["unit"] == "bytes":
        return f"×{1 + margin:g}"
    return f"+{margin * 100:g}{THIN}%" if finding["unit"] == "ms" else f"+{margin * 100:g}{THIN}pp"


def weighed(evidence: float) -> str:
    """`3.1`: the evidence against the candidate; 1 says nothing."""
    if evidence > 9_999:
        return f"{number(9_999)}+"
    return f"{evidence:.1f}" if evidence < 100 else number(evidence)


def _before(history: Sequence[View], view: View) -> Sequence[View]:
    """The history without the sentence that stands at the top already."""
    return history[:-1] if history and history[-1]["sentence"] == view["sentence"] else history


def _history(events: Sequence[View], look: Look, now: datetime, zone: tzinfo | None) -> list[str]:
    return [line for event in events for line in event_lines(event, look, now=now, zone=zone)]


def event_lines(event: View, look: Look, *, now: datetime, zone: tzinfo | None = None) -> list[str]:
    """`14:20:31  Step 1 of 4 passed: …`, folded under its time."""
    at = moment(event["at"])
    stamp = clock_time(at, today=now, zone=zone, seconds=True)
    indent = " " * (len(stamp) + 2)
    style = {"page": "bad", "action": "warn"}.get(str(event["severity"]), "quiet")
    lines = fold(f"{stamp}  {event['sentence']}", look.width, indent=indent)
    return [look.paint(stamp, style) + lines[0][len(stamp) :], *lines[1:]]
