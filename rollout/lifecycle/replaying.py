"""A rollout judged again from its export: the verdicts then beside the verdicts now.

The rule: with its own policy every verdict that the history holds is compared, and evidence that differs by more than
1e-9 is named. With another policy the looks are compared whose action differs, and nothing is said about where the traffic
would have gone from there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from rollout.analysis import sentences
from rollout.analysis.checks import sources_of
from rollout.analysis.judgement import VERSION as JUDGE
from rollout.analysis.replay import differences, replay, same_shares
from rollout.analysis.verdict import Stage, Verdict
from rollout.errors import RefusedError
from rollout.lifecycle.export import Export
from rollout.policy import Policy

_VERDICT = TypeAdapter(Verdict)
AS_IT_WAS = (
    "The traffic is taken as it was, with its retreats: after the first verdict that differs, the rollout would have gone "
    "another way."
)


@dataclass(frozen=True, kw_only=True)
class _Look:
    at: datetime
    stage: Stage
    verdict: Verdict


def judge_again(export: Export, *, other: Policy | None = None) -> dict[str, Any]:
    """What judging again gives, as JSON values.

    Keys: `endpoint id policy` · `with` (the other policy's name, or null) · `same` (every kept verdict came out again;
    null with another policy) · `sentence` · `changes [{at step traffic then now differences}]` (the kept verdicts, or with
    another policy the looks at which the action begins to differ) · `verdicts [{at step traffic action reason evidence
    sentence}]` (every look, as judged now) · `notes`. Raises RefusedError where nothing is left to judge.
    """
    ours = _looks(replay(export.policy, export.exhibits))
    if not ours:
        raise RefusedError(
            f"What the judge was shown is not kept for this rollout of {export.rollout.endpoint}: there is nothing to "
            "judge again."
        )
    now = ours if other is None else _looks(replay(other, export.exhibits, instead_of=export.policy))
    changes = _kept(export, ours) if other is None else _other(ours, now)
    broken = [change for change in changes if change["differences"]]
    return {
        "endpoint": export.rollout.endpoint,
        "id": export.rollout.id,
        "policy": export.policy.name,
        "with": other.name if other else None,
        "same": not broken if other is None else None,
        "sentence": _same(len(ours), changes, broken) if other is None else _compared(ours, now, other),
        "changes": changes,
        "verdicts": [_told(look) | _judged(look.verdict) for look in now],
        "notes": list(_notes(export, other)),
    }


def _looks(judged: Iterable[Any]) -> list[_Look]:
    return [_Look(at=one.at, stage=one.stage, verdict=one.verdict) for one in judged]


def _kept(export: Export, looks: Sequence[_Look]) -> list[dict[str, Any]]:
    """Every verdict of the history beside the same look judged now."""
    by_time, found = {look.at: look for look in looks}, []
    for event in export.events:
        kept, look = event.details.get("verdict"), by_time.pop(event.at, None)
        if look is not None and isinstance(kept, Mapping):
            then = _VERDICT.validate_python(kept)
            told = list(differences(then, look.verdict))
            found.append(_told(look) | {"then": _judged(then), "now": _judged(look.verdict), "differences": told})
    return found


def _other(ours: Sequence[_Look], now: Sequence[_Look]) -> list[dict[str, Any]]:
    """The looks at which another action begins; while it lasts, it is told once."""
    found, before = [], None
    for then, look in zip(ours, now, strict=True):
        pair = (then.verdict.action, look.verdict.action)
        if pair != before and pair[0] != pair[1]:
            told = [f"{pair[0]} then, {pair[1]} now"]
            pairs = {"then": _judged(then.verdict), "now": _judged(look.verdict), "differences": told}
            found.append(_told(look) | pairs)
        before = pair
    return found


def _told(look: _Look) -> dict[str, Any]:
    return {"at": look.at.isoformat(), "step": look.stage.step + 1, "traffic": look.stage.traffic}


def _judged(verdict: Verdict) -> dict[str, Any]:
    return {
        "action": verdict.action,
        "reason": verdict.reason.value,
        "evidence": verdict.evidence,
        "sentence": verdict.sentence,
    }


def _same(count: int, changes: Sequence[object], broken: Sequence[Mapping[str, Any]]) -> str:
    again = f"{count} look{'' if count == 1 else 's'} judged again with the rollout's own policy: "
    if not broken:
        return f"{again}all {len(changes)} kept verdicts came out the same, evidence to 1e-9."
    first = broken[0]
    return (
        f"{again}{len(broken)} of {len(changes)} kept verdicts came out otherwise, the first at {first['at']} "
        f"({'; '.join(first['differences'])})."
    )


def _compared(ours: Sequence[_Look], now: Sequence[_Look], other: Policy) -> str:
    then, would = _failed(ours), _failed(now)
    start = f"With policy {other.name} the candidate"
    if would is None:
        highest = max(look.verdict.evidence for look in now)
        end = "would not have failed" if then else "would not have failed either"
        return (
            f"{start} {end}: the evidence stays at or below {sentences.evidence(highest)}, and fails at "
            f"{sentences.evidence(now[-1].verdict.threshold)}."
        )
    found = f"{start} would have failed at {would.at:%H:%M:%S} UTC"
    if then is None:
        return f"{found}; with its own it did not. {would.verdict.sentence}"
    when = "as it did" if would.at == then.at else f"instead of {then.at:%H:%M:%S}"
    return f"{found}, {when}. {would.verdict.sentence}"


def _failed(looks: Sequence[_Look]) -> _Look | None:
    return next((look for look in looks if look.verdict.action == "fail"), None)


def _notes(export: Export, other: Policy | None) -> Iterable[str]:
    if export.judge != JUDGE:
        yield (
            f"It was judged by a judge of version {export.judge}, this one is of version {JUDGE}: the numbers may differ."
        )
    if other is None:
        return
    yield AS_IT_WAS
    if not same_shares(export.policy, other):
        yield f"The steps of {other.name} have other shares: the steps and bakes are the rollout's own."
    missing = [source for source in sources_of(other) if source not in sources_of(export.policy)]
    if missing:
        yield f"Nothing was recorded of {', '.join(missing)}, which {other.name} asks for too."
