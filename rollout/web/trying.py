"""What the API and `rollout check try` show of checks that were tried out, as JSON values.

The rule: that of `views.py`: pure, and stable. Times are ISO 8601 in UTC, rates numbers from 0 to 1.

A trial: `endpoint workspace start end` · `stable candidate` (the two that would be compared, null where there is none) ·
`checks [{name error rows minutes deployments [{name known n bad rate first last}] max_increase sentence
evidence threshold}]`: `error` is why the query is no use, and null where it is; `known` is false for a deployment that the
endpoint does not have (any more), whose rows do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from rollout.analysis.cells import BAD, GOOD, Cell, custom, merge
from rollout.analysis.trial import try_out
from rollout.policy import CustomCheck
from rollout.ports import Counted
from rollout.web.views import iso
from rollout.world import EndpointRef

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the queries of checks counted in the minutes [start, end): by the check's name, or why they did not.

    `deployments` (case-folded) are those of the endpoint; `stable` is the one that others would be compared with.
    """

    ref: EndpointRef
    start: int
    end: int
    deployments: frozenset[str]
    stable: str | None
    counts: Mapping[str, Sequence[Counted] | str]


class Trials(Protocol):
    """The way to run queries of checks once."""

    def run(self, ref: EndpointRef, checks: Sequence[CustomCheck], *, hours: int) -> Trial:
        """Run them over the last hours; waits for Azure. Raises UnavailableError or RefusedError."""


def trial_view(trial: Trial, checks: Sequence[CustomCheck]) -> Json:
    """A trial of these checks."""
    return {
        "endpoint": trial.ref.name,
        "workspace": trial.ref.workspace,
        "start": _iso(trial.start),
        "end": _iso(trial.end),
        "stable": trial.stable,
        "checks": [_check(trial, check) for check in checks],
    }


def _check(trial: Trial, check: CustomCheck) -> Json:
    counted = trial.counts[check.name]
    rows = [] if isinstance(counted, str) else counted
    by_name: dict[str, list[Counted]] = {}
    for row in rows:
        by_name.setdefault(row.deployment, []).append(row)
    view = {
        "name": check.name,
        "error": counted if isinstance(counted, str) else None,
        "rows": len(rows),
        "minutes": len({row.minute for row in rows}),
        "deployments": [_deployment(trial, name, mine) for name, mine in sorted(by_name.items())],
        "max_increase": check.max_increase,
    }
    return {**view, **({} if view["error"] else _judged(trial, check, by_name))}


def _deployment(trial: Trial, name: str, rows: Sequence[Counted]) -> Json:
    n, bad = sum(row.n for row in rows), sum(row.bad for row in rows)
    return {
        "name": name,
        "known": name in trial.deployments,
        "n": n,
        "bad": bad,
        "rate": bad / n if n else None,
        "first": _iso(min(row.minute for row in rows)),
        "last": _iso(max(row.minute for row in rows)),
    }


def _judged(trial: Trial, check: CustomCheck, by_name: Mapping[str, Sequence[Counted]]) -> Json:
    """What the check would say of the pair that has rows."""
    said: Json = {"candidate": None, "evidence": None, "threshold": None}
    known = {name: _cells(check.name, rows) for name, rows in by_name.items() if name in trial.deployments}
    others = sorted(known.keys() - {trial.stable}, key=lambda name: -merge(known[name].values()).asked)
    if not by_name:
        sentence = (
            "It counted nothing. Is there traffic, and does the query keep to `_endpoint`, `_from` and `_to`? Rows arrive "
            "3 to 10 minutes late."
        )
    elif trial.stable not in known or not others:
        there = ", ".join(sorted(known)) or "no deployment of the endpoint"
        sentence = (
            f"Only {there} was counted: it says nothing until stable and candidate both have rows in the same minutes."
        )
    else:
        finding, threshold = try_out(
            check, baseline=known[trial.stable], candidate=known[others[0]], start=trial.start, end=trial.end
        )
        said = {"candidate": others[0], "evidence": finding.evidence, "threshold": threshold}
        would = "it would fail" if finding.evidence >= threshold else "it would not fail"
        sentence = f"{finding.sentence.rstrip('.')}. In a rollout {would} {others[0]}."
    return {**said, "sentence": sentence}


def _cells(name: str, rows: Sequence[Counted]) -> Mapping[int, Cell]:
    cells: dict[int, Cell] = {}
    for row in rows:
        one = Cell(histograms={custom(name): {GOOD: row.n - row.bad, BAD: row.bad}})
        cells[row.minute] = merge([cells[row.minute], one]) if row.minute in cells else one
    return cells


def _iso(minute: int) -> str | None:
    return iso(datetime.fromtimestamp(minute * 60, UTC))
