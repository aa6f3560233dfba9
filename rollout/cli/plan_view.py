"""How a plan looks in a terminal: the view of `rollout.web.plans` as lines.

The rule: that of `render`: pure, a view and a `Look` in, lines out; readable at 80 columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rollout.cli.terminal import Look, fold, pad, table
from rollout.cli.words import THIN, duration, milliseconds, number, percent

View = Mapping[str, Any]
LABEL = 10
MINUTE = 60
TENTHS = 0.0005  # a part of rollouts from which it is shown with digits


def lines(view: View, look: Look) -> list[str]:
    """The whole plan."""
    blocks = [
        _head(view, look),
        _concerns(view, look),
        _steps(view, look),
        _healthy(view, look),
        _faults(view, look),
        _proposal(view, look),
    ]
    found: list[str] = []
    for block in blocks:
        found += ["", *block] if found and block else block
    return [look.characters(line) for line in found]


def short(view: View, look: Look) -> list[str]:
    """Three lines for `rollout start`."""
    asked = ", ".join(number(step["requests"]) for step in view["steps"] if not step["sized"])
    found = [
        *_row(
            "Plan", f"about {asked} requests in the steps, 100{THIN}% after {time(view['done_minutes']['fixed'])}", look
        ),
        *_row("", f"{sight(view['sees'], view)} (with 80{THIN}%)", look),
    ]
    for concern in view["concerns"]:
        found += _row("", concern["sentence"], look)
    return [look.characters(line) for line in found]


def sight(sees: View, view: View) -> str:
    """`sees from +1.2 pp of errors and +34 % of p95 up`: of what the policy looks at."""
    known = {"errors": (points(sees["errors"]), "errors"), "latency": (growth(sees["latency"]), "p95")}
    watched = {name: words for name, words in known.items() if view["watches"][name]}
    seen = " and ".join(f"{least} of {what}" for name, (least, what) in watched.items() if sees[name] is not None)
    blind = " or ".join(what for name, (_, what) in watched.items() if sees[name] is None)
    parts = [f"from {seen} up" if seen else "", f"no increase of {blind}" if blind else ""]
    return f"sees {', '.join(part for part in parts if part) or 'neither errors nor p95: those checks are off'}"


def _row(label: str, text: str, look: Look) -> list[str]:
    first, *more = fold(text, look.width - LABEL)
    return [pad(look.paint(label, "quiet"), LABEL) + first, *(" " * LABEL + line for line in more)]


def _head(view: View, look: Look) -> list[str]:
    profile = view["profile"]
    rates = profile["requests_per_minute_by_hour_utc"]
    low, high = min(rates), max(rates)
    rate = _number(high) if high - low < 0.05 * high else f"{_number(low)} to {_number(high)}"
    seen = _seen(profile)
    good = f"errors {percent(profile['error_rate'])}, p95 {milliseconds(profile['latency_p95_ms'])}"
    traffic = f"{rate} requests a minute, {good} ({seen})"
    return [
        look.paint(view["endpoint"], "bold") + look.paint(f"  policy {view['policy']}", "quiet"),
        *_row("Traffic", traffic, look),
        *_row("Data", f"a minute is judged about {profile['lag_minutes']} min after its end", look),
        *_noise(view, look),
        *_probes(view, look),
    ]


def _noise(view: View, look: Look) -> list[str]:
    """Where the played rollouts' noise comes from; older daemons do not say."""
    noise = view["profile"].get("noise")
    if not noise or not view["forecast"]:
        return []
    count = noise["rollouts"]
    learned = f"learned from {number(count)} past rollout{'' if count == 1 else 's'}"
    return _row("Noise", learned if count else "assumed, until a rollout of this endpoint was promoted", look)


def _probes(view: View, look: Look) -> list[str]:
    often = view["probes_per_minute"]
    if often is None:
        return []
    text = f"{number(often)} requests a minute more to each of the two, judged as each minute ends"
    return _row("Probes", f"{text}; what they see is not forecast", look)


def _number(value: float) -> str:
    return number(value) if value >= 10 else f"{value:.2g}"


def _seen(profile: View) -> str:
    if not profile["days"]:
        return "as given"
    back = duration(profile["days"] * 24 * 60 * MINUTE)
    return f"{duration(profile['minutes'] * MINUTE)} of the last {back}"


def _concerns(view: View, look: Look) -> list[str]:
    found = []
    for concern in view["concerns"]:
        icon, style = ("✖", "bad") if concern["blocking"] else ("▼", "warn")
        first, *more = fold(concern["sentence"], look.width - 2)
        found += [f"{look.paint(icon, style, 'bold')} {first}", *(f"  {line}" for line in more)]
    return found


def _steps(view: View, look: Look) -> list[str]:
    sees = [head for name, head in (("errors", "Sees errors"), ("latency", "Sees p95")) if view["watches"][name]]
    head = ["Step", "Traffic", "Bake", "Decided", "Requests", *sees]
    rows = [[look.paint(text, "quiet") for text in head]]
    rows += [_step(step, view["watches"]) for step in view["steps"]]
    notes = (
        "Requests: the candidate's in the bake. Decided: after the start, with the lag of the data and Azure's writes. "
    )
    if sees:
        notes += (
            "Sees: the smallest increase that is caught by then in 80 of 100 rollouts if it was there from the start."
        )
    if any(step["approve"] for step in view["steps"]):
        notes += " (a): after an approval, whose time is not counted."
    return [
        *table(rows, right=frozenset(range(1, len(head)))),
        *(look.paint(line, "quiet") for line in fold(notes, look.width)),
    ]


def _step(step: View, watches: View) -> list[str]:
    name = f"{step['step']}{' sized' if step['sized'] else ' (a)' if step['approve'] else ''}"
    return [
        name,
        f"{step['share']}{THIN}%",
        time(step["bake_minutes"]),
        time(step["decided_minute"]),
        number(step["requests"]),
        *([points(step["sees"]["errors"])] if watches["errors"] else []),
        *([growth(step["sees"]["latency"])] if watches["latency"] else []),
    ]


def time(minutes: float) -> str:
    """`2 h 4 min`; never in seconds."""
    return duration(max(2.0, minutes) * MINUTE)


def points(value: float | None) -> str:
    """`+1.2 pp`, or that nothing is seen."""
    return "nothing" if value is None else f"+{100 * value:.2g}{THIN}pp"


def growth(value: float | None) -> str:
    """`+34 %`."""
    return "nothing" if value is None else f"+{100 * value:.0f}{THIN}%"


def _part(value: float) -> str:
    return f"{100 * value:.{0 if value < TENTHS or value > 1 - TENTHS or value > 0.1 else 1}f}{THIN}%"


def _healthy(view: View, look: Look) -> list[str]:
    done, forecast = view["done_minutes"], view["forecast"]
    early = f", {time(done['early'])} with early promotion" if done["early"] else ""
    found = _row("100 %", f"after {time(done['fixed'])} with every bake in full{early}", look)
    if forecast:
        parts = {"promoted": "promoted", "rolled_back": "rolled back", "paused": "paused", "retreated": "retreats"}
        told = "  ·  ".join(f"{words} {_part(forecast['healthy'][key])}" for key, words in parts.items())
        found += _row("Healthy", told, look)
    return found


def _faults(view: View, look: Look) -> list[str]:
    forecast = view["forecast"]
    if not forecast:
        return []
    head = ["A candidate with", "rolled back", "paused", "after", "bad requests", "95th"]
    rows = [[look.paint(text, "quiet") for text in head]]
    rows += [_fault(fault) for fault in forecast["faults"]]
    notes = f"Bad requests: served beyond a healthy candidate's, on average. {number(forecast['rollouts'])} rollouts were played."
    if any(fault["allowed"] for fault in forecast["faults"]):
        notes += " (ok): no more than the policy allows."
    return [
        *table(rows, right=frozenset(range(1, len(head)))),
        *(look.paint(line, "quiet") for line in fold(notes, look.width)),
    ]


def _fault(fault: View) -> list[str]:
    return [
        fault["name"] + (" (ok)" if fault["allowed"] else ""),
        _part(fault["detected"]),
        _part(fault["paused"]),
        time(fault["minutes"]) if fault["minutes"] is not None else "-",
        _harm(fault["harm"]),
        _harm(fault["harm_95"]),
    ]


def _harm(requests: float) -> str:
    return number(requests) if requests >= 0.95 else "<1" if requests > 0.0 else "0"


def faults_told(view: View) -> list[dict[str, Any]]:
    """The faults that were played, each with its sentence."""
    found = []
    for fault in view["forecast"]["faults"] if view["forecast"] else ():
        after = f" after {time(fault['minutes'])}" if fault["minutes"] is not None else ""
        harm = f"{_harm(fault['harm'])} bad requests on average"
        told = f"{fault['name']}: rolled back {_part(fault['detected'])}{after}, {harm}"
        found.append({**fault, "told": told + (" (no more than the policy allows)" if fault["allowed"] else "")})
    return found


def _proposal(view: View, look: Look) -> list[str]:
    if not view["concerns"]:
        return []
    if not view["proposal"]:
        told = "No steps and bakes of any length help: at this traffic, send the candidate requests of your own first."
        return fold(told, look.width) if not view["ok"] else []
    then: View = view["proposal_sees"]
    told = f"Better here: {sight(then['sees'], view)}, 100{THIN}% after {time(then['done_minutes']['fixed'])}."
    left: Sequence[str] = [concern["sentence"] for concern in then["concerns"]]
    head = [line for text in (told, *(f"Still: {text}" for text in left)) for line in fold(text, look.width)]
    return [*head, "", *view["proposal"].splitlines()]
