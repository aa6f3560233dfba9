"""Undo and retry: rollouts that are made from an endpoint's last one.

The rule: each is a rollout of its own, with its own history, and judges anew. An undo goes back to the stable deployment
that was kept; a retry begins the same policy with the same two deployments. What cannot be is refused with what to do.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rollout.errors import ConflictError
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Retry, Rollout, Undo
from rollout.lifecycle.stage import WRITE_TAKES
from rollout.world import Event

_RETRIED = frozenset({Phase.ROLLED_BACK, Phase.ABORTED, Phase.HALTED})


def undo_of(
    past: Sequence[Rollout], *, rollout_id: str, by: str, reason: str | None, now: datetime
) -> tuple[Rollout, tuple[Event, ...]]:
    """The rollout that puts all traffic back on the stable deployment that was kept, and its first event.

    `past` are the endpoint's rollouts, newest first. Raises ConflictError where there is nothing to go back to.
    """
    newest = past[0]
    if not newest.ended and newest.phase is not Phase.GUARDING:
        raise ConflictError(
            f"A rollout of {newest.ref.name} is under way ({newest.phase.replace('_', ' ')}): `rollout abort "
            f"{newest.ref.name} --reason …` puts all traffic back on {newest.stable or 'stable'}."
        )
    last = next((one for one in past if _moved(one)), newest)
    if last.observes or last.phase not in {Phase.GUARDING, Phase.SUCCEEDED}:
        raise ConflictError(
            f"There is nothing to undo on {last.ref.name}: its last rollout did not end with a promotion. {last.sentence}"
        )
    sentence = (
        f"{_asked(by, 'to undo the promotion of ' + str(last.candidate), reason)}: all traffic of {last.ref.name} goes back "
        f"to {last.stable}. Azure takes about {WRITE_TAKES.seconds} s from when {last.stable} can serve; nothing is judged."
    )
    undo = Undo(of=last.id, instances=last.stable_instances, reason=reason)
    return _new(last, rollout_id=rollout_id, by=by, now=now, sentence=sentence, undo=undo)


def retry_of(
    last: Rollout, *, rollout_id: str, by: str, reason: str | None, from_step: int, now: datetime
) -> tuple[Rollout, tuple[Event, ...]]:
    """A rollout of the same policy and deployments, with fresh evidence; `from_step` counts from 1.

    Raises ConflictError where the last one did not end without a promotion, or an approval would be passed over.
    """
    name, steps = last.ref.name, last.policy.steps
    if last.observes:
        raise ConflictError(f"The last rollout of {name} only observed: `rollout observe` begins another one.")
    if last.phase not in _RETRIED:
        what = "was promoted" if last.ended else f"is under way ({last.phase.replace('_', ' ')})"
        raise ConflictError(f"There is nothing to retry on {name}: its last rollout {what}. {last.sentence}")
    if not 1 <= from_step <= len(steps):
        raise ConflictError(f"There is no step {from_step}: the policy {last.policy.name} has {len(steps)}.")
    passed = [at for at in range(from_step - 1) if steps[at].approve and at not in last.approved]
    if passed:
        raise ConflictError(
            f"Step {passed[0] + 1} waits for an approval that was not given: retry from step {passed[0] + 1} or before it."
        )
    where = f", from step {from_step}" if from_step > 1 else ""
    sentence = f"{_asked(by, f'to retry the rollout of {name} with policy {last.policy.name}{where}', reason)}."
    retry = Retry(of=last.id, step=from_step - 1, reason=reason)
    return _new(last, rollout_id=rollout_id, by=by, now=now, sentence=sentence, retry=retry)


def superseded(active: Rollout, by: Rollout) -> tuple[Rollout, tuple[Event, ...]] | None:
    """The active rollout of an endpoint after another one was asked for; None where it is in the way.

    One that only guards ends, unless a fail stands or it has something to put back. An undo takes over what there is to
    put back (`by` was made by `undo_of`), so that nothing stands in its way once the candidate was promoted.
    """
    if by.undo is not None and active.phase in {Phase.GUARDING, Phase.SUCCEEDED}:
        active = replace(active, originals=(), retire=None)
    elif active.phase is not Phase.GUARDING or active.fail_stands or active.originals:
        return None
    if active.phase is Phase.SUCCEEDED:
        return active, ()
    what = "undid the promotion" if by.undo else "asked for another rollout"
    sentence = f"Guarding has ended: {by.created_by} {what} of {active.ref.name}."
    ended = replace(active, phase=Phase.SUCCEEDED, phase_since=by.created_at, sentence=sentence, told=())
    return ended, (Event(at=by.created_at, kind=Phase.SUCCEEDED.value, sentence=sentence),)


def taking_over(by: Rollout, active: Rollout) -> Rollout:
    """The undo, with what the rollout that it ends has asked of Azure until now: it was made from an earlier look."""
    return replace(by, originals=active.originals, errands=active.errands) if by.undo else by


def _moved(rollout: Rollout) -> bool:
    """It has moved traffic: one that never started leaves what was before it."""
    return rollout.started_at is not None or rollout.phase is Phase.SUCCEEDED


def _asked(by: str, what: str, reason: str | None) -> str:
    return f"{by} asked {what} ({reason.rstrip('.')})" if reason else f"{by} asked {what}"


def _new(
    last: Rollout,
    *,
    rollout_id: str,
    by: str,
    now: datetime,
    sentence: str,
    undo: Undo | None = None,
    retry: Retry | None = None,
) -> tuple[Rollout, tuple[Event, ...]]:
    rollout = Rollout(
        id=rollout_id,
        ref=last.ref,
        policy=last.policy,
        stable=last.stable,
        candidate=last.candidate,
        phase=Phase.PENDING,
        created_at=now,
        created_by=by,
        phase_since=now,
        sentence=sentence,
        undo=undo,
        retry=retry,
        approved=last.approved if undo else (),
        sizes=last.sizes if undo else None,
        originals=last.originals if undo else (),
        errands=last.errands if undo else (),
    )
    return rollout, (Event(at=now, kind=Phase.PENDING.value, sentence=sentence),)
