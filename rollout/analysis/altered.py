"""The same minutes with some of the candidate's requests better or worse than they were, or under another bound.

The rule: only what is asked for changes; requests move between good and bad, and none come or go. Cells may then hold
parts of requests: they are made to be weighed, never to be kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from rollout.analysis.cells import BAD, GOOD, UNTIMED, Cell, bucket
from rollout.analysis.checks import REFUSED, Check
from rollout.analysis.replay import Judged
from rollout.analysis.terms import Finding, Series
from rollout.policy import Policy

_OCTAVE = 8  # buckets: what was slow becomes half of the bar, what becomes slow doubles it


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a look that can be made in part; `most` requests move when it is made whole, `bad` were bad before."""

    most: float
    bad: float
    by: Callable[[float], Judged]


def altered(policy: Policy, check: str, **changes: float) -> Policy:
    """The policy with another `max_increase` or `max` of one check."""
    old: Any = policy.checks.named(check)
    new = old.model_copy(update=changes)
    own = tuple(new if one is old else one for one in policy.checks.custom)
    update = {"custom": own} if old in policy.checks.custom else {check: new}
    return policy.model_copy(update={"checks": policy.checks.model_copy(update=update)})


def fewer_bad(judged: Judged, finding: Finding, check: Check, since: int) -> Change:
    """Some of the candidate's bad requests from this minute on are good."""
    return _change(judged, finding, check, since, better=True)


def more_bad(judged: Judged, finding: Finding, check: Check, since: int) -> Change:
    """Some of the candidate's good requests from this minute on are bad, evenly."""
    return _change(judged, finding, check, since, better=False)


def _change(judged: Judged, finding: Finding, check: Check, since: int, *, better: bool) -> Change:
    bar = bucket(check.candidate_bar(finding.bar)) if finding.bar else None
    series = next(one for one in judged.series if one.source == finding.source)  # what is told was shown
    cells = [series.candidate[minute] for minute in taken(series) if minute >= since]
    bad = sum(sum(_bad_of(cell, check, bar).values()) for cell in cells)
    good = sum(sum(_good_of(cell, check, bar).values()) for cell in cells)

    def by(part: float) -> Judged:
        return _with(judged, finding, lambda cell: _moved(cell, check, bar, part, better=better), since)

    return Change(most=float(bad if better else good), bad=float(bad), by=by)


def _with(judged: Judged, finding: Finding, change: Callable[[Cell], Cell], since: int) -> Judged:
    def changed(one: Series) -> Series:
        if one.source != finding.source:
            return one
        cells = {minute: change(cell) if minute >= since else cell for minute, cell in one.candidate.items()}
        return replace(one, candidate=cells)

    return replace(judged, series=tuple(changed(one) for one in judged.series))


def taken(series: Series) -> list[int]:
    """The candidate's minutes that a look takes in: those that are closed or steady."""
    return [minute for minute in series.candidate if minute < series.closed_before or minute in series.steady]


Place = tuple[str, int]  # a class and a bucket


def _bad_of(cell: Cell, check: Check, bar: int | None) -> dict[Place, int]:
    """What counts as bad: by its class, or by its duration."""
    places = {(name, at): count for name, histogram in cell.histograms.items() for at, count in histogram.items()}
    if check.measure is not None:
        return {place: count for place, count in places.items() if place == (check.measure, BAD) and not check.reported}
    if check.quantile is None:
        return {place: count for place, count in places.items() if place[0] in REFUSED[check.name]}
    return {
        (name, at): count
        for (name, at), count in places.items()
        if name in {"ok", "gone"} and bar is not None and at > bar
    }


def _good_of(cell: Cell, check: Check, bar: int | None) -> dict[Place, int]:
    """What could be bad instead."""
    if check.measure is not None:
        good = {} if check.reported else cell.measure(check.measure)
        return {(check.measure, at): count for at, count in good.items() if at == GOOD}
    ok = cell.histograms.get("ok", {})
    if check.quantile is None:
        return {("ok", at): count for at, count in ok.items()}
    return {("ok", at): count for at, count in ok.items() if bar is not None and UNTIMED < at <= bar}


def _moved(cell: Cell, check: Check, bar: int | None, part: float, *, better: bool) -> Cell:
    """A part of the bad requests made good, or of the good ones bad."""
    source = (_bad_of if better else _good_of)(cell, check, bar)
    if check.measure is not None:
        target = (check.measure, GOOD if better else BAD)
    elif check.quantile is not None:
        target = ("ok", max(0, (bar or 0) + (-_OCTAVE if better else _OCTAVE)))
    else:
        target = ("ok" if better else REFUSED[check.name][0], UNTIMED)
    histograms: dict[str, dict[int, float]] = {name: dict(histogram) for name, histogram in cell.histograms.items()}
    for (name, at), count in source.items():
        histograms[name][at] -= part * count
    into = histograms.setdefault(target[0], {})
    into[target[1]] = into.get(target[1], 0.0) + part * sum(source.values())
    return Cell(histograms=cast("Mapping[str, Mapping[int, int]]", histograms))
