"""Where a rollout stands, in the judge's terms, and when it may be done.

The rule: minutes are whole and since the epoch; a step's blocks count from the first whole minute after Azure confirmed
its split, so a minute in which the split changed belongs to no step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from rollout.analysis.verdict import Pair, Stage
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.policy import Policy, Step
from rollout.policy.windows import takes
from rollout.windows import shut
from rollout.world import Freeze

#: A traffic update takes 20 to 31 s on Azure, and is then seen by the next look.
WRITE_TAKES = timedelta(seconds=40)
#: The first step's sized-down share lasts this many closed blocks.
SIZED_BLOCKS = 5


def minute_of(moment: datetime) -> int:
    """The minute since the epoch that this moment lies in."""
    return int(moment.timestamp() // 60)


def next_minute(moment: datetime) -> int:
    """The first whole minute that begins at this moment or later."""
    return ceil(moment.timestamp() / 60)


def stage_of(rollout: Rollout, now: datetime) -> Stage | None:
    """The stage to judge; None before any candidate traffic was confirmed, or where what is observed cannot be compared."""
    if rollout.judged_from is None or (rollout.observes and rollout.step_since is None):
        return None
    return Stage(
        step=rollout.step,
        traffic=rollout.share,
        started=next_minute(rollout.judged_from),
        since=next_minute(rollout.step_since or now),
        bake=bake_blocks(rollout),
        retreated_since=next_minute(rollout.retreated_at) if rollout.retreated_at else None,
        holdback=rollout.share < 100,
        instances=_instances(rollout),
    )


def _instances(rollout: Rollout) -> Pair | None:
    if rollout.pins is None or any(pin.instances is None for pin in rollout.pins):
        return None
    baseline, candidate = (pin.instances or 0 for pin in rollout.pins)
    return Pair(baseline=baseline, candidate=candidate)


def bake_blocks(rollout: Rollout) -> int:
    """Closed blocks wanted before this step can pass."""
    if rollout.sized_share is not None:
        return SIZED_BLOCKS
    return _blocks(rollout.policy.steps[rollout.step])


def error_budget(rollout: Rollout) -> float:
    """The alpha to judge with: halved every time a person went on past a fail."""
    return float(rollout.policy.expert.alpha / 2**rollout.past_fail)


@dataclass(frozen=True, kw_only=True)
class Eta:
    """When a decision is due next, and when all may be done if nothing stands in the way; None where a person is awaited."""

    next_decision_at: datetime | None = None
    done_at: datetime | None = None


def eta(rollout: Rollout, *, now: datetime, lag: timedelta, freezes: Sequence[Freeze] = ()) -> Eta:
    """Wall-clock estimates: each step takes the write, its bake and the data lag, and waits for a window that it fits into.

    An approval's time is unknown, and so is the end of a freeze that a person must lift.
    """
    if rollout.ended or rollout.phase in {Phase.PAUSED, Phase.GUARDING}:
        return Eta(done_at=None if rollout.fail_stands or rollout.ended else rollout.guarded_until)
    if rollout.undo is not None or rollout.phase in {Phase.ROLLING_BACK, Phase.PROMOTING}:
        done = now + WRITE_TAKES
        return Eta(next_decision_at=done, done_at=done)
    if rollout.observes:
        return Eta(next_decision_at=_judged_at(rollout, now, lag))
    if rollout.phase in {Phase.PENDING, Phase.PREPARING}:
        begins = _opening(rollout.policy, freezes, now, step=rollout.first)
        return Eta(next_decision_at=begins, done_at=_after(rollout.policy, freezes, rollout.first - 1, now, lag))
    if rollout.phase is Phase.WAITING:
        return _waiting(rollout, freezes, now, lag)
    since = rollout.step_since or now + WRITE_TAKES
    decision = max(now, since + timedelta(minutes=bake_blocks(rollout) + 1) + lag)
    return Eta(next_decision_at=decision, done_at=_done(rollout, freezes, decision, lag))


def _waiting(rollout: Rollout, freezes: Sequence[Freeze], now: datetime, lag: timedelta) -> Eta:
    """A window opens when it opens; what else is awaited has no time."""
    if rollout.shut is None:
        return Eta()
    if rollout.next_step is not None:  # approved; the gate is all that is left
        return Eta(next_decision_at=_opening(rollout.policy, freezes, now, step=rollout.next_step))
    following = rollout.step if rollout.sized_share is not None else rollout.step + 1
    opens = _opening(rollout.policy, freezes, now, step=following)
    return Eta(next_decision_at=opens, done_at=_done(rollout, freezes, now, lag))


def _done(rollout: Rollout, freezes: Sequence[Freeze], decision: datetime, lag: timedelta) -> datetime | None:
    """When all may be done, once this stretch was decided."""
    step = rollout.step - 1 if rollout.sized_share is not None else rollout.step
    return _after(rollout.policy, freezes, step, decision, lag)


def _opening(policy: Policy, freezes: Sequence[Freeze], at: datetime, *, step: int) -> datetime | None:
    """When a step may begin, from this moment on; past the last one, when the holdback may go."""
    needs = takes(policy.steps[step].bake) if step < len(policy.steps) else WRITE_TAKES
    closed = shut(policy.windows, freezes, now=at, takes=needs)
    return closed.until if closed else at


def _judged_at(rollout: Rollout, now: datetime, lag: timedelta) -> datetime | None:
    """When what is observed may pass; when people go on is theirs to say."""
    if rollout.step_since is None or rollout.left_at is not None:
        return None
    due = rollout.step_since + timedelta(minutes=bake_blocks(rollout) + 1) + lag
    return due if due > now else None


def _after(policy: Policy, freezes: Sequence[Freeze], step: int, start: datetime, lag: timedelta) -> datetime | None:
    """When all steps after this one may be done; each begins in a window that it fits into."""
    at: datetime | None = start
    for index in range(step + 1, len(policy.steps)):
        at = _opening(policy, freezes, at, step=index) if at else None
        if at is None or policy.steps[index].approve:
            return None
        at += _takes(policy.steps[index], lag)
    if at is None or not policy.holdback:
        return at
    at = _opening(policy, freezes, at, step=len(policy.steps))
    return at + WRITE_TAKES if at else None


def _takes(step: Step, lag: timedelta) -> timedelta:
    return WRITE_TAKES + timedelta(minutes=_blocks(step) + 1) + lag


def _blocks(step: Step) -> int:
    return max(1, ceil(step.bake / timedelta(minutes=1)))
