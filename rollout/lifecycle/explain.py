"""Explaining: one verdict of a rollout with everything that led to it.

The rule: what is told comes from judging again what the judge was shown (`analysis.replay`). Where that was forgotten, it
comes from the history, which holds the verdicts that changed something, and says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import get_args

from pydantic import TypeAdapter

from rollout.analysis.bounds import quantile_interval, share_interval
from rollout.analysis.exhibits import Exhibit
from rollout.analysis.findings import Look, shown_by
from rollout.analysis.replay import Judged, replay
from rollout.analysis.verdict import Finding, Reason, Stage, Verdict, case_of
from rollout.analysis.whatif import what_if
from rollout.errors import RefusedError
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Act, Rollout
from rollout.world import Event

Interval = tuple[float, float]

FORGOTTEN = (
    "What the judge was shown minute by minute is not kept for this rollout any more: this is told from its history, which "
    "holds the verdicts that changed something."
)
_PHASES = frozenset(phase.value for phase in Phase)
_ENDS = frozenset({"rolling_back", "rolled_back", "promoting", "guarding", "succeeded", "halted", "aborted"})
#: Events that tell what became of the traffic.
_TOLD = _ENDS | {"retreated", "paused", "split", "observed"} | {f"would_{act}" for act in get_args(Act)}
_VERDICT, _STAGE = TypeAdapter(Verdict), TypeAdapter(Stage)


@dataclass(frozen=True, kw_only=True)
class Point:
    """The evidence after one look; of looks that are known only from the history, the stage may not be known."""

    at: datetime
    verdict: Verdict
    stage: Stage | None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finding with the 95 % intervals of both values; None where too little is known."""

    finding: Finding
    baseline: Interval | None = None
    candidate: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Something that happened to the evidence or to the traffic."""

    at: datetime
    kind: str  # fault_began, suspected, resumed, decided, or the kind of an event
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One verdict, and how it came about."""

    rollout: Rollout
    at: datetime
    verdict: Verdict
    stage: Stage | None
    measured: tuple[Measured, ...]
    points: tuple[Point, ...]  # all looks up to this one, in order
    moments: tuple[Moment, ...]
    what_if: tuple[str, ...]
    forgotten: str | None = None  # why less is known than could be


def explain(
    rollout: Rollout, exhibits: Sequence[Exhibit], history: Sequence[Event], *, step: int | None = None
) -> Explanation:
    """Explain the last verdict, or the last one on this step (an index into the policy's steps).

    Raises RefusedError where there is no verdict to explain.
    """
    points, looked = _points(rollout, exhibits), bool(exhibits)
    if not points:
        points, looked = list(_points_of(history)), False
    points += _watched(rollout)
    wanted = [index for index, point in enumerate(points) if step is None or (point.stage and point.stage.step == step)]
    if not wanted:
        raise RefusedError(_nothing(rollout, points, step))
    while len(wanted) > 1 and _moved_on(points[wanted[-1]]):
        wanted.pop()
    final = step is None or points[-1].stage is None or points[-1].stage.step == step
    points = points[: wanted[-1] + 1]
    last = points[-1]
    judged = _judged(rollout, exhibits, last.at) if looked else None
    return Explanation(
        rollout=rollout,
        at=last.at,
        verdict=last.verdict,
        stage=last.stage,
        measured=_measured(rollout, judged) if judged else tuple(Measured(finding=f) for f in last.verdict.findings),
        points=tuple(points),
        moments=tuple(_moments(points, history, final=final)),
        what_if=what_if(judged, rollout.policy, candidate=rollout.candidate or "the candidate") if judged else (),
        forgotten=None if looked else FORGOTTEN,
    )


def _moved_on(point: Point) -> bool:
    """A look at traffic that was about to move: what was decided was decided before."""
    return point.verdict.reason is Reason.BAKE and point.verdict.blocks == 0


def _nothing(rollout: Rollout, points: Sequence[Point], step: int | None) -> str:
    if not points:
        return f"Nothing of {rollout.ref.name} was judged yet: {rollout.sentence}"
    if all(point.stage is None for point in points):
        return f"{FORGOTTEN} Which step each of them was about is not in it: leave --step out."
    known = sorted({point.stage.step + 1 for point in points if point.stage})
    return f"Step {(step or 0) + 1} was not judged; those that were: {', '.join(map(str, known))}."


def _points(rollout: Rollout, exhibits: Sequence[Exhibit]) -> list[Point]:
    return [Point(at=look.at, verdict=look.verdict, stage=look.stage) for look in replay(rollout.policy, exhibits)]


def _points_of(history: Sequence[Event]) -> Iterator[Point]:
    """The verdicts that the history holds; an event that repeats one tells nothing new."""
    before: Verdict | None = None
    for event in history:
        kept, stage = event.details.get("verdict"), event.details.get("stage")
        if isinstance(kept, Mapping):
            verdict = _VERDICT.validate_python(kept)
            if verdict != before:
                yield Point(at=event.at, verdict=verdict, stage=_STAGE.validate_python(stage) if stage else None)
            before = verdict


def _watched(rollout: Rollout) -> list[Point]:
    """What was seen last while guarding: the watch keeps no state, so there is one such look, and no stage."""
    if rollout.guarded_until is None or rollout.verdict is None:
        return []
    return [Point(at=rollout.decided_at or rollout.phase_since, verdict=rollout.verdict, stage=None)]


def _judged(rollout: Rollout, exhibits: Sequence[Exhibit], at: datetime) -> Judged | None:
    """The look of this moment with all that the judge had before it."""
    return next((look for look in replay(rollout.policy, exhibits) if look.at == at), None)


def _measured(rollout: Rollout, judged: Judged) -> tuple[Measured, ...]:
    case = case_of(judged.judgement, policy=rollout.policy, stage=judged.stage, series=judged.series, now=judged.now)
    looks = {look.criteria.source: look for look in case.looks}
    seen = judged.verdict.action != "pass"
    return tuple(_intervals(finding, looks[finding.source], seen=seen) for finding in judged.verdict.findings)


def _intervals(finding: Finding, look: Look, *, seen: bool) -> Measured:
    check = next((check for check in look.criteria.everything if check.name == finding.check), None)
    if check is None or check.reported:  # not told from requests
        return Measured(finding=finding)
    counts, stable, ours = shown_by(check, look.seen if seen else look.closed, finding.action)
    if check.quantile is None:
        pair = share_interval(counts.z, counts.m), share_interval(counts.x, counts.n)
    else:
        pair = quantile_interval(stable, check.quantile), quantile_interval(ours, check.quantile)
    return Measured(finding=finding, baseline=pair[0], candidate=pair[1])


def _moments(points: Sequence[Point], history: Sequence[Event], *, final: bool) -> list[Moment]:
    """When the fault began, when it was suspected, what was decided, and what the traffic did; in order."""
    first, last = points[0], points[-1]
    found = [moment for moment in _told(history) if first.at <= moment.at and (final or moment.at <= last.at)]
    if last.verdict.first_bad is not None:
        began = datetime.fromtimestamp(last.verdict.first_bad * 60, UTC)
        found.append(
            Moment(at=began, kind="fault_began", sentence="From this minute on, the requests speak for a fault.")
        )
    for before, point in pairwise([None, *points]):
        if point and _suspected(point) and not (before and _suspected(before)):
            found.append(Moment(at=point.at, kind="suspected", sentence=point.verdict.sentence))
    found.append(Moment(at=last.at, kind="decided", sentence=last.verdict.sentence))
    return sorted(found, key=lambda moment: (moment.at, moment.kind in _TOLD))


def _suspected(point: Point) -> bool:
    return point.verdict.reason in {Reason.SUSPICION, Reason.REGRESSION}


def _told(history: Sequence[Event]) -> Iterator[Moment]:
    """The retreats, their ends, and the end of the rollout."""
    before = ""
    for event in history:
        resumed = before == Phase.RETREATED and event.kind in {Phase.PROGRESSING, Phase.WAITING}
        if resumed or event.kind in _TOLD:
            yield Moment(at=event.at, kind="resumed" if resumed else event.kind, sentence=event.sentence)
        if event.kind in _PHASES:
            before = event.kind
