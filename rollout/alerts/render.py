"""An alert in words: one line that says it all, and a long form that explains it.

The rule: only what is known is told: an absent fact leaves no empty heading. Plain text and Markdown say the same. The
sentence always gets through: details that cannot be read leave it alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rollout.analysis.sentences import number
from rollout.world import Alert, Severity

_CHECKS = {"error_rate": "Errors", "client_errors": "Client errors"}
_TIMES = {
    "first_bad_at": "first bad minute",
    "decided_at": "proven",
    "sent_at": "request sent",
    "confirmed_at": "confirmed by Azure",
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """An alert for people. `line` stands alone; `body` (plain) and `markdown` begin with it.

    `left_out` says why its details are not told, where they could not be read.
    """

    title: str
    line: str
    body: str
    markdown: str
    left_out: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A heading with what stands under it; `listed` for a list, `code` for something to copy, `link` for an address."""

    heading: str
    lines: Sequence[str]
    listed: bool = False
    code: bool = False
    link: bool = False


def render(alert: Alert) -> Message:
    """The words of an alert, from its event's details and the rollout's summary (details win)."""
    sections, left_out = _readable(alert)
    foot = f"Rollout {alert.rollout_id} in {alert.endpoint.workspace} · alert {alert.id}"
    line = alert.event.sentence
    return Message(
        title=_title(alert),
        line=line,
        body="\n\n".join([line, *(_plain(section) for section in sections), foot]) + "\n",
        markdown="\n\n".join([f"**{_escaped(line)}**", *(_markdown(section) for section in sections), _escaped(foot)])
        + "\n",
        left_out=left_out,
    )


def _readable(alert: Alert) -> tuple[list[_Section], str | None]:
    """The sections; only a pointer to the history, and why, where the details are not as they must be."""
    try:
        return [section for section in _sections({**alert.summary, **alert.event.details}) if section.lines], None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        pointer = f"They could not be read: see `rollout history {alert.endpoint.name}`."
        return [_Section(heading="Details", lines=[pointer])], f"{type(error).__name__}: {error}"


def _title(alert: Alert) -> str:
    what = alert.event.kind.replace("_", " ")
    page = "PAGE · " if alert.event.severity is Severity.PAGE else ""
    return f"{page}{what[:1].upper()}{what[1:]}: {alert.endpoint.name}"


def _sections(facts: Mapping[str, Any]) -> Iterable[_Section]:
    findings = [_finding(finding) for finding in facts.get("findings") or ()]
    yield _Section(heading="Now", lines=_now(facts))
    yield _Section(heading="Why (candidate vs stable)", lines=findings, listed=True)
    reasons = [f"{name}: {number(count)}" for name, count in facts.get("reasons") or ()]
    yield _Section(heading="Top error reasons", lines=reasons, listed=True)
    yield _Section(heading="Times", lines=_times(facts), listed=True)
    yield _Section(heading="Started", lines=_started(facts))
    yield _Section(heading="Next", lines=_given(facts, "next"))
    yield _Section(heading="By hand", lines=_given(facts, "by_hand"), code=True)
    yield _Section(heading="Runbook", lines=_given(facts, "runbook"), link=True)


def _given(facts: Mapping[str, Any], key: str) -> list[str]:
    return [str(facts[key])] if facts.get(key) else []


def _now(facts: Mapping[str, Any]) -> list[str]:
    harmed = facts.get("harmed") or 0
    told = f"~{number(harmed)} requests harmed" if harmed >= 1 else None
    return ["; ".join(part for part in (*_given(facts, "now"), told) if part)] if facts.get("now") or told else []


def _finding(finding: Mapping[str, Any]) -> str:
    """`Errors 6.8 % vs 0.30 % (…) · fail · evidence 4 120 · logs`: the check's own sentence, where it has one."""
    told = str(finding.get("sentence") or _comparison(finding)).rstrip(".")
    if finding.get("role", "evidence") != "evidence":  # its sentence says what part it takes
        return f"{told} · {finding.get('source')}"
    evidence = finding.get("evidence")
    parts = [
        told,
        finding.get("action"),
        None if evidence is None else f"evidence {_evidence(evidence)}",
        finding.get("source"),
    ]
    return " · ".join(str(part) for part in parts if part)


def _comparison(finding: Mapping[str, Any]) -> str:
    check = str(finding["check"])
    name = _CHECKS.get(check, check.replace("latency_", "Latency ").replace("_", " "))
    pair = [finding["candidate"], finding["baseline"]]
    values = " vs ".join(_value(rate.get("value"), finding.get("unit")) for rate in pair)
    counts = " vs ".join(f"{number(rate['bad'])} of {number(rate['n'])}" for rate in pair)
    slower = " slower than the bar" if finding.get("unit") == "ms" else ""
    return f"{name} {values} ({counts}{slower})"


def _value(value: float | None, unit: str | None) -> str:
    if value is None:
        return "no data"
    if unit == "ms":
        return f"{number(value)} ms"
    return f"{100 * value:.1f} %" if value >= 0.01 else f"{100 * value:.2f} %"


def _evidence(value: float) -> str:
    if value >= 1e6:
        return "over a million"
    return number(value) if value >= 10 else f"{value:.1f}"


def _times(facts: Mapping[str, Any]) -> list[str]:
    known = {label: datetime.fromisoformat(facts[key]) for key, label in _TIMES.items() if facts.get(key)}
    return [
        f"{label}: {_minute(at) if label == _TIMES['first_bad_at'] else _moment(at)}" for label, at in known.items()
    ]


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _started(facts: Mapping[str, Any]) -> list[str]:
    at = facts.get("started_at")
    parts = [
        f"by {facts['started_by']}" if facts.get("started_by") else "",
        f"at {_moment(datetime.fromisoformat(at))}" if at else "",
        f"with policy {facts['policy']}" if facts.get("policy") else "",
    ]
    told = " ".join(part for part in parts if part)
    return [told] if told else []


def _plain(section: _Section) -> str:
    if not section.listed:
        return f"{section.heading}: {' '.join(section.lines)}"
    return "\n".join([section.heading, *(f"- {line}" for line in section.lines)])


def _markdown(section: _Section) -> str:
    if section.code:
        return f"**{section.heading}**\n\n" + "\n".join(f"    {line}" for line in section.lines)
    lines = [f"<{line}>" if section.link else _escaped(line) for line in section.lines]
    if not section.listed:
        return f"**{section.heading}:** {' '.join(lines)}"
    return f"**{section.heading}**\n\n" + "\n".join(f"- {line}" for line in lines)


def _escaped(text: str) -> str:
    """Signs that Markdown would take for its own; underscores inside words are safe, and left alone for chats."""
    return re.sub(r"[*`<\[\\]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", lambda sign: "\\" + sign[0], text)
