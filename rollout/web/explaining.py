"""What `explain` shows, as JSON values.

The rule: pure, and stable, as `views.py`; a share of requests is a number from 0 to 1, a latency milliseconds.

Keys: `endpoint workspace id policy phase outcome stable candidate` · `step` (from 1; null where not known) `steps` `traffic`
(the candidate's percent) `at` · `verdict {action reason sentence evidence threshold blocks requests harmed first_bad_at
notes}` · `checks`: as in a rollout's view, with `low` and `high` (95 %) beside each value, and `bar weight not_worse
compatible` · `points [{at step traffic retreated evidence action reason}]`: every look up to this one · `moments [{at kind
sentence}]` · `what_if`: sentences · `forgotten`: why less is known than could be, or null · `clock {now speed}`.
"""

from datetime import UTC, datetime

from rollout.lifecycle.explain import Explanation, Interval, Measured, Point
from rollout.web import views
from rollout.web.views import Json


def explain_view(found: Explanation, *, now: datetime, speed: float) -> Json:
    """One verdict, and how it came about."""
    rollout, stage = found.rollout, found.stage
    return {
        "endpoint": rollout.ref.name,
        "workspace": rollout.ref.workspace,
        "id": rollout.id,
        "policy": rollout.policy.name,
        "phase": rollout.phase.value,
        "outcome": views.outcome(rollout),
        "stable": rollout.stable,
        "candidate": rollout.candidate,
        "step": stage.step + 1 if stage else None,
        "steps": len(rollout.policy.steps),
        "traffic": stage.traffic if stage else None,
        "at": views.iso(found.at),
        "verdict": _verdict(found),
        "checks": [_check(measured) for measured in found.measured],
        "points": [_point(point) for point in found.points],
        "moments": [{"at": views.iso(one.at), "kind": one.kind, "sentence": one.sentence} for one in found.moments],
        "what_if": list(found.what_if),
        "forgotten": found.forgotten,
        "clock": {"now": views.iso(now), "speed": speed},
    }


def _verdict(found: Explanation) -> Json:
    verdict = found.verdict
    first_bad = datetime.fromtimestamp(verdict.first_bad * 60, UTC) if verdict.first_bad is not None else None
    return {
        "action": verdict.action,
        "reason": verdict.reason.value,
        "sentence": verdict.sentence,
        "evidence": verdict.evidence,
        "threshold": verdict.threshold,
        "blocks": verdict.blocks,
        "requests": {"baseline": verdict.requests.baseline, "candidate": verdict.requests.candidate},
        "harmed": verdict.harmed,
        "first_bad_at": views.iso(first_bad),
        "notes": list(verdict.notes),
    }


def _check(measured: Measured) -> Json:
    finding = measured.finding
    shown = views.finding_view(finding)
    return {
        **shown,
        "baseline": {**shown["baseline"], **_interval(measured.baseline)},
        "candidate": {**shown["candidate"], **_interval(measured.candidate)},
        "bar": finding.bar,
        "weight": finding.weight,
        "not_worse": finding.not_worse,
        "compatible": finding.compatible,
    }


def _interval(interval: Interval | None) -> Json:
    low, high = interval or (None, None)
    return {"low": low, "high": high}


def _point(point: Point) -> Json:
    stage = point.stage
    return {
        "at": views.iso(point.at),
        "step": stage.step + 1 if stage else None,
        "traffic": stage.traffic if stage else None,
        "retreated": stage.retreated_since is not None if stage else None,
        "evidence": point.verdict.evidence,
        "action": point.verdict.action,
        "reason": point.verdict.reason.value,
    }
