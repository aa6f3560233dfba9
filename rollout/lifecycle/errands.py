"""Errands: what a rollout asks of Azure beside the split, from the intent to what became of it.

The rule: level-triggered, as the split is. Whoever decides says in each tick what is still wanted (`Story.want`); here it
is left out while Azure is at it, and asked again where the answer was lost or Azure was busy. What Azure refused is
wanted again only by those who want it again: they look at `intent_for` first. A tick never waits.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from rollout.lifecycle.facts import Facts
from rollout.lifecycle.rollout import ErrandOutcome, Intent, Rollout
from rollout.lifecycle.story import Story
from rollout.world import Errand

#: When an errand is sent again that Azure was too busy for, or gave no answer to.
BUSY = timedelta(seconds=15)
#: When one is sent again whose operation is over, though Azure does not show its effect: reads lag behind writes.
SHOWN = timedelta(seconds=60)
#: When one is sent again that was refused or failed, where it is still wanted.
REFUSED = timedelta(minutes=5)
#: An operation of which nothing is heard is given up after this time: a large scale-out takes half an hour.
LONGEST = timedelta(hours=1)
#: An errand whose answer was lost may still take effect for so long.
LATE = timedelta(minutes=2)


def intent_for(rollout: Rollout, errand: Errand) -> Intent | None:
    """What became of exactly this errand; None where it was never begun."""
    found = next((each for each in rollout.errands if _place(each.errand) == _place(errand)), None)
    return found if found is not None and found.errand == errand else None


def said_no(rollout: Rollout, errand: Errand) -> str | None:
    """Azure's sentence where it refused this errand, or where its operation failed."""
    found = intent_for(rollout, errand)
    return (found.why or "Azure gave no reason") if found and found.outcome in {"refused", "failed"} else None


def under_way(rollout: Rollout) -> bool:
    """Azure is at one of the errands, or is to be asked again."""
    return any(each.outcome in {None, "accepted", "conflict", "unknown"} for each in rollout.errands)


def may_still_change(rollout: Rollout, deployment: str, now: datetime) -> tuple[Errand, ...]:
    """The errands to a deployment that Azure is at, or that nobody knows the end of: what is shown of it may not last."""
    return tuple(
        each.errand
        for each in rollout.errands
        if each.errand.deployment.casefold() == deployment.casefold() and _may_take_effect(each, now)
    )


def _may_take_effect(intent: Intent, now: datetime) -> bool:
    lost = intent.outcome == "unknown" and intent.ended_at is not None and now - intent.ended_at < LATE
    return lost or intent.outcome in {None, "accepted"}


def due_errands(rollout: Rollout, wanted: Iterable[Errand], now: datetime) -> tuple[Errand, ...]:
    """Those that are sent now. One deployment does one thing at a time."""
    found: dict[str, Errand] = {}
    for errand in wanted:
        name = errand.deployment.casefold()
        if name not in found and _is_due(rollout, errand, now):
            found[name] = errand
    return tuple(found.values())


def _is_due(rollout: Rollout, errand: Errand, now: datetime) -> bool:
    mine = [each for each in rollout.errands if _same_deployment(each.errand, errand)]
    if any(each.outcome == "accepted" for each in mine):
        return False
    last = intent_for(rollout, errand)
    if last is None or last.ended_at is None or last.outcome is None:
        return last is None
    if last.not_before is not None and now < last.not_before:
        return False
    pauses = {"conflict": BUSY, "unknown": BUSY, "done": SHOWN}
    return now - last.ended_at >= pauses.get(last.outcome, REFUSED)


def with_intents(rollout: Rollout, errands: Iterable[Errand], now: datetime) -> Rollout:
    """The intents, written down before the requests are sent."""
    for errand in errands:
        others = tuple(each for each in rollout.errands if _place(each.errand) != _place(errand))
        rollout = replace(rollout, errands=(*others, Intent(errand=errand, begun_at=now)))
    return rollout


def errand_answered(
    rollout: Rollout,
    errand: Errand,
    *,
    outcome: ErrandOutcome,
    now: datetime,
    why: str | None = None,
    operation: str | None = None,
    not_before: datetime | None = None,
) -> Rollout:
    """The rollout after Azure's answer to the request."""
    changes = {"outcome": outcome, "why": why, "operation": operation, "not_before": not_before, "ended_at": now}
    return _changed(rollout, lambda each: replace(each, **changes) if each.errand == errand else each)  # type: ignore[arg-type]


def lost_answers(rollout: Rollout, now: datetime) -> Rollout:
    """A tick runs alone: an errand that is still open then was sent by a process that is gone."""
    return _changed(rollout, lambda each: each if each.ended_at else replace(each, ended_at=now, outcome="unknown"))


def operations_over(story: Story, facts: Facts) -> None:
    """Take in how the operations that were running have ended."""
    story.rollout = _changed(story.rollout, lambda each: _ended(each, facts, story.now))


def _ended(intent: Intent, facts: Facts, now: datetime) -> Intent:
    if intent.outcome != "accepted":
        return intent
    if intent.operation in facts.forgotten:
        return replace(intent, outcome="unknown", ended_at=now)
    if intent.operation in facts.operations:
        why = facts.operations[intent.operation or ""]
        return replace(intent, outcome="failed" if why else "done", why=why, ended_at=now)
    lost = intent.operation is None or now - intent.begun_at >= LONGEST
    return replace(intent, outcome="done", ended_at=now) if lost else intent


def _changed(rollout: Rollout, change: Callable[[Intent], Intent]) -> Rollout:
    errands = tuple(change(each) for each in rollout.errands)
    return rollout if errands == rollout.errands else replace(rollout, errands=errands)


def _place(errand: Errand) -> tuple[str, str]:
    return errand.kind, errand.deployment.casefold()


def _same_deployment(one: Errand, other: Errand) -> bool:
    return one.deployment.casefold() == other.deployment.casefold()
