"""One tick of an observing rollout: what people did, what it means, and whether it is over.

The rule: whatever split people set is the one that is judged, each as a stage of its own; none is drift. A split counts once
two looks have shown it. When the candidate has no traffic any more, the data of its last minutes is awaited before the end.
"""

from datetime import datetime, timedelta

from rollout.lifecycle import moves, sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.observing import summary
from rollout.lifecycle.observing.would import is_final, judged_through, weigh
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout, Would
from rollout.lifecycle.splits import noted_foreign, step_share
from rollout.lifecycle.stage import bake_blocks, minute_of
from rollout.lifecycle.story import Story
from rollout.world import DeploymentState, EndpointState, Pin, Severity

#: How long the candidate's first traffic is awaited.
AWAITED = timedelta(days=7)
#: How long the data of the last minutes is awaited: rows arrive after 3 to 10, at worst 20 minutes.
DATA_AWAITED = timedelta(minutes=20)


def begin(story: Story, facts: Facts, why: str) -> None:
    """The two are known and there is data to judge with; where traffic is split already, judging begins at once."""
    rollout, snapshot = story.rollout, facts.snapshot
    if snapshot is None or snapshot.endpoint is None:
        return
    endpoint = snapshot.endpoint
    awaits = (
        ""
        if endpoint.traffic.share(rollout.candidate or "")
        else f" Judging begins when {rollout.candidate} gets some."
    )
    story.move(
        Phase.OBSERVING,
        f"Observing {rollout.ref.name}, where {rollout.stable} is stable and {rollout.candidate} the candidate: its traffic is "
        f"left to people. {why or f'It is {endpoint.traffic}.'}{awaits}",
        severity=Severity.NOTICE,
        confirmed=endpoint.traffic,
        confirmed_at=snapshot.requested_at,
    )
    if not awaits:
        _enter(story, endpoint, story.now)


def follow(story: Story, facts: Facts, before: Rollout) -> None:
    """Take in what this tick has seen; `before` is the rollout that was judged."""
    if story.rollout.phase is not Phase.OBSERVING or before.phase is not Phase.OBSERVING or _gone(story, facts):
        return
    _watch_pins(story, facts)
    _watch_traffic(story, facts)
    weigh(story, facts, before)
    _end_if_over(story, facts, before)


def end_by_person(story: Story, who: str) -> None:
    """A person has seen enough."""
    rollout = story.rollout
    _end(
        story, f"Ended by {who}. The traffic was not touched, it is {rollout.confirmed}. {summary.would_have(rollout)}"
    )


def _end(story: Story, sentence: str) -> None:
    story.move(Phase.OBSERVED, sentence, severity=Severity.NOTICE)
    story.explain()


# --- what people do to the deployments


def _gone(story: Story, facts: Facts) -> bool:
    """The endpoint, or one of the two, is no more: nothing is left to judge."""
    rollout, snapshot = story.rollout, facts.snapshot
    what = None
    if snapshot is not None and snapshot.endpoint is None:
        what = f"endpoint {rollout.ref.name}"
    elif snapshot is not None and snapshot.deployments is not None:
        pair = (rollout.stable or "", rollout.candidate or "")
        what = next((f"deployment {name}" for name in pair if snapshot.deployment(name) is None), None)
    if what is not None:
        _end(story, f"Ended: {what} does not exist any more. {summary.would_have(rollout)}")
    return what is not None


def _watch_pins(story: Story, facts: Facts) -> None:
    """Changed in place, a deployment is another one: what was seen of it is no evidence any more."""
    rollout, snapshot = story.rollout, facts.snapshot
    if snapshot is None or snapshot.deployments is None or rollout.pins is None:
        return
    found = [snapshot.deployment(name or "") for name in (rollout.stable, rollout.candidate)]
    pins = [one.pin for one in found if isinstance(one, DeploymentState)]
    if len(pins) < len(found) or (pins[0], pins[1]) == rollout.pins:
        return
    changes = _changes(rollout, rollout.pins, (pins[0], pins[1]))
    story.set(pins=(pins[0], pins[1]))
    if changes and rollout.judged_from is not None:
        story.tell("changed", f"Would pause: {changes}. What was judged is not what serves, so it is judged afresh.")
        since = story.now if rollout.step_since else None
        story.set(judgement=None, verdict=None, judged_from=story.now, would=None, **_stage(since))


def _changes(rollout: Rollout, before: tuple[Pin, Pin], after: tuple[Pin, Pin]) -> str:
    roles = (("stable", rollout.stable), ("candidate", rollout.candidate))
    return " and ".join(
        f"the {role} deployment {name} was changed in place ({difference})"
        for (role, name), old, new in zip(roles, before, after, strict=True)
        if (difference := old.difference(new))
    )


def _stage(since: datetime | None) -> dict[str, object]:
    """A stage begins; None where what is there cannot be compared."""
    return {"step_since": since, **moves.NO_RETREAT, **moves.NO_HOLD}


# --- what people do to the traffic


def _watch_traffic(story: Story, facts: Facts) -> None:
    snapshot = facts.snapshot
    if snapshot is None or snapshot.endpoint is None:
        return
    story.rollout, shown = noted_foreign(story.rollout, snapshot)
    seen = story.rollout.foreign
    if not shown or seen is None:
        return
    story.set(foreign=None, confirmed=seen.split, confirmed_at=story.now)
    if seen.split.share(story.rollout.candidate or ""):
        _enter(story, snapshot.endpoint, seen.seen_at)
    else:
        _leave(story, snapshot.endpoint, seen.seen_at)


def _enter(story: Story, endpoint: EndpointState, since: datetime) -> None:
    """The candidate has traffic: a stage of its own."""
    rollout, split = story.rollout, endpoint.traffic
    baseline, candidate = split.share(rollout.stable or ""), split.share(rollout.candidate or "")
    others = split.others(rollout.stable or "", rollout.candidate or "")
    if others and not baseline:
        story.tell("split", f"{_shown(endpoint)}. It is not judged: {rollout.stable} has none to compare with.")
        story.set(left_at=None, **_stage(None))
        return
    share = min(99, max(1, round(100 * candidate / (baseline + candidate)))) if baseline else 100
    steps = range(len(rollout.policy.steps))
    reached = [index for index in steps if step_share(rollout.policy, index) <= share]
    story.set(
        share=share,
        step=reached[-1] if reached else 0,
        started_at=rollout.started_at or story.now,
        judged_from=rollout.judged_from or since,
        left_at=None,
        would=rollout.would if is_final(rollout) else None,
        **_stage(since),
    )
    beside = f" {' and '.join(others)} is not part of it." if others else ""
    blocks = bake_blocks(story.rollout)
    first = None if rollout.started_at else Severity.NOTICE
    story.tell("split", f"{_shown(endpoint)}. This is judged for {blocks} minutes of data.{beside}", first)


def _leave(story: Story, endpoint: EndpointState, since: datetime) -> None:
    """The candidate has no traffic."""
    rollout = story.rollout
    if rollout.started_at is None or rollout.left_at is not None:
        story.tell("split", f"{_shown(endpoint)}. {rollout.candidate} has none.")
        return
    until = sentences.clock(since + DATA_AWAITED)
    story.tell(
        "split",
        f"{_shown(endpoint)}. {rollout.candidate} has none; the data of its last minutes is awaited until {until}.",
    )
    story.set(left_at=since)


def _shown(endpoint: EndpointState) -> str:
    by = f", set by {endpoint.last_modified_by}" if endpoint.last_modified_by else ""
    return f"The traffic is {endpoint.traffic}{by}"


# --- the end


def _end_if_over(story: Story, facts: Facts, before: Rollout) -> None:
    rollout = story.rollout
    if rollout.left_at is not None:
        if judged_through(rollout) > minute_of(rollout.left_at) or story.now - rollout.left_at >= DATA_AWAITED:
            _end(story, summary.put_back(rollout))
    elif rollout.started_at is None:
        if story.now - rollout.phase_since >= AWAITED:
            days = AWAITED // timedelta(days=1)
            _end(story, f"Ended: {rollout.candidate} got no traffic in {days} days, so there was nothing to judge.")
    elif _at_the_end(rollout, facts, before):
        if facts.verdict is not None and facts.verdict.action == "pass" and not is_final(rollout):
            story.set(would=Would(act="promote", at=story.now, sentence=f"Would promote {rollout.candidate} to 100 %."))
        _end(story, summary.promoted(story.rollout))
    elif story.now - rollout.started_at >= rollout.policy.deadline:
        limit = sentences.minutes(rollout.policy.deadline)
        told = f"Ended at the policy's deadline, {limit} after {rollout.candidate} got its first traffic"
        _end(story, f"{told}; it is {rollout.confirmed}. {summary.would_have(rollout)}")


def _at_the_end(rollout: Rollout, facts: Facts, before: Rollout) -> bool:
    """The candidate has all traffic, and the last bake is over, with whatever answer."""
    verdict = facts.verdict
    if rollout.share != 100 or verdict is None:
        return False
    if (before.step_since, before.judged_from) != (rollout.step_since, rollout.judged_from):
        return False  # the verdict speaks of the stage before
    gave_up = rollout.would is not None and rollout.would.act == "give_up"
    return verdict.action == "pass" or gave_up or (is_final(rollout) and verdict.blocks >= bake_blocks(rollout))
