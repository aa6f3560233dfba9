"""What the metrics of other tools mean: which check a threshold bounds, and by how much.

The rule: a threshold becomes a `max` only where its meaning is plain: a rate of errors or of successes, or a latency;
everything else is told. What was guessed (a unit, a quantile) is told too.
"""

import re
from dataclasses import dataclass

from rollout.policy.importing.draft import Draft
from rollout.policy.importing.node import Node

_LATENCY = re.compile(r"latency|duration|response.?time|histogram_quantile|percentile", re.IGNORECASE)
_SUCCESS = re.compile(r"success|availab|non.?5xx|!~?\s*\"?\[?5|!=\s*\"?5", re.IGNORECASE)
_ERRORS = re.compile(r"error|fail|5xx|(?:=~?)\s*\"?\[?5(?:\.|x|\[|[0-9])", re.IGNORECASE)
_QUANTILE = re.compile(
    r"histogram_quantile\(\s*(0?\.\d+)|\bp(50|90|95|99)\b|[_-]p?(50|90|95|99)(?:th)?\b|(50|90|95|99)th"
)
_QUANTILES = re.compile(r"histogram_quantile")
_KINDS = {_LATENCY: "latency", _QUANTILES: "latency", _SUCCESS: "success", _ERRORS: "errors"}
_MILLISECONDS = re.compile(r"_ms\b|millis|_milliseconds", re.IGNORECASE)
MOST_MS = 600_000
LARGEST_SECONDS = 30.0  # a bound above this is taken for milliseconds


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """`value` is where good values end: `low` says that they lie above it."""

    value: float
    low: bool


def kind_of(name: str, query: str) -> str | None:
    """latency, success or errors; None where neither the name nor the query says."""
    for text, signs in ((name, (_LATENCY, _SUCCESS, _ERRORS)), (query, (_QUANTILES, _SUCCESS, _ERRORS, _LATENCY))):
        for sign in signs:
            if sign.search(text):
                return _KINDS[sign]
    return None


def carry(draft: Draft, node: Node, threshold: Threshold, *, name: str, query: str, told: str) -> None:
    """Make a threshold the `max` of the check that it is about, or say why not."""
    kind = kind_of(name, query)
    if kind is None:
        draft.note(node, f"{told}: neither a rate of errors nor a latency by its name: not judged here")
    elif kind == "latency":
        _latency(draft, node, threshold, name=name, query=query, told=told)
    else:
        _errors(draft, node, threshold, success=kind == "success", told=told)


def _errors(draft: Draft, node: Node, threshold: Threshold, *, success: bool, told: str) -> None:
    if threshold.low != success:
        draft.note(node, f"{told}: it bounds from the wrong side, and is left out")
        return
    value = threshold.value / 100 if threshold.value > 1 else threshold.value
    bad = 1 - value if success else value
    if not 0 <= bad <= 1:
        draft.note(node, f"{told}: that is no share of requests, and is left out")
    elif bad < 0.00005:
        draft.note(node, f"{told}: no error at all is no bound that a rate can be judged by; `max` is left out")
    elif bad >= 1:
        draft.note(node, f"{told}: every answer may be an error, so there is no bound; `max` is left out")
    else:
        draft.bound("error_rate", f"{_figures(100 * bad)}%", told, node)


def _latency(draft: Draft, node: Node, threshold: Threshold, *, name: str, query: str, told: str) -> None:
    if threshold.low:
        draft.note(node, f"{told}: a latency is bounded from above, so it is left out")
        return
    milliseconds, how = _milliseconds(threshold.value, f"{name} {query}")
    if not 1 <= milliseconds <= MOST_MS:
        draft.note(node, f"{told}: {_figures(milliseconds)} ms is no latency that a policy can bound")
        return
    check, guessed = _check(f"{name} {query}")
    if how:
        draft.note(node, f"{told}: {how}")
    if guessed:
        draft.note(node, f"{told}: {guessed}")
    draft.bound(check, f"{round(milliseconds)}ms", told, node)


def _milliseconds(value: float, text: str) -> tuple[float, str]:
    if _MILLISECONDS.search(text):
        return value, ""
    if value <= LARGEST_SECONDS:
        return 1000 * value, f"taken for seconds, so `max` is {_figures(1000 * value)} ms"
    return value, "taken for milliseconds"


def _check(text: str) -> tuple[str, str]:
    """The latency check of the quantile that is named, and what was guessed."""
    found = _QUANTILE.search(text)
    if found is None:
        return "latency_p95", "it names no quantile; judged as p95"
    written = float(found[1]) if found[1] else int(next(group for group in found.groups()[1:] if group)) / 100
    nearest = min((0.50, 0.95, 0.99), key=lambda q: abs(q - written))
    name = f"latency_p{round(100 * nearest)}"
    return name, "" if abs(
        nearest - written
    ) < 1e-9 else f"its quantile {written:g} is judged as {name.removeprefix('latency_')}"


def _figures(value: float) -> str:
    """Without an exponent, and without more digits than a policy may write."""
    return f"{value:.4f}".rstrip("0").rstrip(".")
