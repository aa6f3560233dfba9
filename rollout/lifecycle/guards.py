"""What stops a rollout whatever the evidence says: deployments that vanish, fail or change, time that runs out.

The rule: each ending is a named phase with a sentence, never a stuck rollout. What a person's hands are on is left
alone, and told.
"""

from datetime import timedelta

from rollout.lifecycle import moves, sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.splits import unconfirmed, wanted_traffic
from rollout.lifecycle.story import Story
from rollout.windows import open_time
from rollout.world import DeploymentState, Pin, Severity, Unreadable

_LIVE = frozenset(
    {Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}
)
#: A split that Azure does not show after this time is worth a line, and then a person. A write takes 20 to 31 s;
#: somebody else's operation (a new deployment) about ten minutes.
SLOW, STUCK = timedelta(minutes=5), timedelta(minutes=30)


def stable_cannot_serve(rollout: Rollout, facts: Facts) -> str | None:
    """Why stable cannot take the traffic, or None.

    Told from evidence (it exists, Azure has not given it up, its last cells hold good answers), not from `Updating` or
    `Scaling`: that is what an autoscaling deployment looks like.
    """
    gone = _stable_gone(rollout, facts)
    if gone is None and facts.stable_serves is False:
        return f"most of the last answers of its stable deployment {rollout.stable} were errors."
    return gone


def _stable_gone(rollout: Rollout, facts: Facts) -> str | None:
    if facts.snapshot is None or facts.snapshot.deployments is None or rollout.stable is None:
        return None
    stable = facts.snapshot.deployment(rollout.stable)
    if stable is None:
        return f"its stable deployment {rollout.stable} does not exist any more."
    if isinstance(stable, Unreadable) or stable.exists_to_serve:
        return None
    return f"its stable deployment {rollout.stable} is {stable.state}."


def unreadable(rollout: Rollout, facts: Facts) -> str | None:
    """Which of the two deployments Azure describes so that nobody can tell what it serves, or None."""
    snapshot, pair = facts.snapshot, (rollout.stable, rollout.candidate)
    for name in pair:
        found = snapshot.deployment(name) if snapshot and name else None
        if isinstance(found, Unreadable):
            return f"Azure's description of {name} cannot be used ({found.why})"
    return None


def hands_on(rollout: Rollout) -> bool:
    """A person's hands are on the traffic or the deployments, or a person is asked about a fail: nothing moves by itself."""
    drifted = rollout.foreign is not None and rollout.foreign.told
    return rollout.phase is Phase.PAUSED and (drifted or rollout.fail_stands or rollout.paused_because == "changed")


def back_to_stable(story: Story, facts: Facts, cause: str, sentence: str) -> None:
    """Roll back by ourselves: never onto a stable that cannot serve, never over a person's hands."""
    rollout = story.rollout
    broken = stable_cannot_serve(rollout, facts)
    if broken:
        moves.halt(story, f"{cause.rstrip('.')}. {rollout.ref.name} cannot be rolled back: {broken}")
    elif hands_on(rollout):
        story.tell_once(
            "left_alone",
            "left_alone",
            f"Act now: {cause.rstrip('.')}. {rollout.ref.name} is paused and left to you: "
            f"{sentences.ways(rollout, resume='goes on all the same')}",
            Severity.PAGE,
            sentences.explained(rollout, story.now),
        )
    else:
        moves.roll_back(story, cause, sentence)


def guard_endpoint(story: Story, facts: Facts) -> None:
    """An endpoint that was deleted ends its rollout."""
    rollout = story.rollout
    live = rollout.phase in _LIVE or rollout.phase is Phase.GUARDING
    if live and facts.snapshot is not None and facts.snapshot.endpoint is None:
        story.move(
            Phase.ABORTED,
            f"Aborted: endpoint {rollout.ref.name} does not exist any more.",
            severity=Severity.ACTION,
        )


def guard_deployments(story: Story, facts: Facts) -> None:
    """Stable gone: halt. Candidate gone: roll back. Either changed in place: pause, its evidence is void."""
    rollout, snapshot = story.rollout, facts.snapshot
    if rollout.phase not in _LIVE or snapshot is None or snapshot.deployments is None:
        return
    if rollout.stable is None or rollout.candidate is None:
        return
    gone = _stable_gone(rollout, facts)
    if gone:
        moves.halt(story, f"{rollout.ref.name} cannot be judged or rolled back: {gone}")
        return
    if rollout.phase is Phase.ROLLING_BACK:
        return
    stable, candidate = snapshot.deployment(rollout.stable), snapshot.deployment(rollout.candidate)
    if candidate is None or (isinstance(candidate, DeploymentState) and not candidate.exists_to_serve):
        what = "does not exist any more" if candidate is None else f"is {candidate.state}"
        cause = f"The candidate {rollout.candidate} {what}"
        back_to_stable(story, facts, cause, f"Rolling back to {rollout.stable} 100 %: the candidate {what}.")
        return
    if isinstance(stable, DeploymentState) and isinstance(candidate, DeploymentState):
        _guard_pins(story, (stable.pin, candidate.pin))


def _guard_pins(story: Story, seen: tuple[Pin, Pin]) -> None:
    rollout = story.rollout
    if seen == rollout.pins:
        return
    story.set(pins=seen)
    roles = (("stable", rollout.stable), ("candidate", rollout.candidate))
    changes = [
        f"the {role} deployment {name} was changed in place ({difference})"
        for (role, name), old, new in zip(roles, rollout.pins or seen, seen, strict=True)
        if (difference := old.difference(new))
    ]
    if changes:  # else only scaled: still the same deployments
        void_evidence(story)
        moves.pause(
            story,
            "changed",
            f"Paused: {' and '.join(changes)}, so what was judged is not what serves. "
            f"{sentences.ways(story.rollout, resume='judges afresh from here')}",
        )


def void_evidence(story: Story) -> None:
    """What was seen so far says nothing about what comes: judge afresh, and bake the step anew."""
    began = story.now if story.rollout.judged_from else None
    story.set(judgement=None, verdict=None, judged_from=began, step_since=None)


def guard_deadline(story: Story) -> None:
    """Active time is bounded; then a person decides."""
    rollout = story.rollout
    if rollout.active_since is None or rollout.phase.ended:
        return
    active = rollout.active + (story.now - rollout.active_since)
    if active >= rollout.policy.deadline:
        moves.pause(
            story,
            "deadline",
            f"Paused: not done after {sentences.minutes(rollout.policy.deadline)} of active time, the policy's deadline. "
            f"Last: {rollout.sentence} {sentences.ways(rollout, resume='gives it as long again')}",
        )


def guard_approval(story: Story, facts: Facts) -> None:
    """An approval that does not come has a default; time outside of windows, and under a freeze, does not count."""
    rollout = story.rollout
    if not rollout.awaits_approval:
        return
    step = rollout.next_step or 0
    approval = rollout.policy.steps[step].approve
    if approval is None or rollout.given is not None or story.freezes:
        return
    if open_time(rollout.policy.windows, rollout.phase_since, story.now) < approval.timeout:
        return
    cause = f"Nobody approved step {step + 1} within {sentences.minutes(approval.timeout)}"
    if approval.on_timeout == "rollback":
        back_to_stable(story, facts, cause, f"Rolling back to {rollout.stable} 100 %: n{cause[1:]}.")
    else:
        moves.pause(
            story,
            "approval",
            f"Paused: n{cause[1:]}. `rollout approve {rollout.ref.name}` still begins it; "
            f"{sentences.ways(rollout, resume='waits as long again')}",
        )


def guard_unconfirmed(story: Story, facts: Facts) -> None:
    """A split that Azure does not take on: told after some minutes, and left to a person after many."""
    rollout = story.rollout
    if rollout.phase is Phase.ROLLING_BACK or not unconfirmed(rollout) or rollout.wanted_since is None:
        return
    waited = story.now - rollout.wanted_since
    if waited < SLOW:
        return
    what = f"{wanted_traffic(rollout)} is not confirmed after {sentences.minutes(waited)}: {_hindrance(rollout, facts)}"
    if waited < STUCK:
        story.tell_once(f"slow {rollout.share}", "slow", f"Waiting for Azure: {what}.", Severity.NOTICE)
    else:
        moves.pause(story, "unconfirmed", f"Paused: {what}. {sentences.ways(rollout, resume='tries again')}")


def _hindrance(rollout: Rollout, facts: Facts) -> str:
    endpoint = facts.snapshot.endpoint if facts.snapshot else None
    if facts.trouble:
        return facts.trouble.rstrip(".")
    if endpoint is None:
        return f"{rollout.ref.name} could not be read"
    if not endpoint.settled:
        by = f", last changed by {endpoint.last_modified_by}" if endpoint.last_modified_by else ""
        return f"{endpoint.name} is {endpoint.state}, an operation runs on it{by}"
    failed = f", and our last write failed: {endpoint.failure.rstrip('.')}" if endpoint.failure else ""
    return f"Azure shows {endpoint.traffic}{failed}"


def page_if_late(story: Story) -> None:
    """A roll back that Azure has not confirmed within a minute needs a person, with the command to do it by hand."""
    rollout = story.rollout
    if rollout.phase is not Phase.ROLLING_BACK or rollout.decided_at is None or not unconfirmed(rollout):
        return
    if (story.now - rollout.decided_at).total_seconds() >= sentences.CONFIRMED_WITHIN:
        page_roll_back(
            story, f"Azure has not confirmed it within {sentences.CONFIRMED_WITHIN} s; it is still being tried."
        )


def page_roll_back(story: Story, why: str) -> None:
    """Page once about a roll back that does not come true."""
    rollout = story.rollout
    story.tell_once(
        "unconfirmed",
        "unconfirmed",
        f"Act now: the roll back of {rollout.ref.name} is not done. {why} By hand: {sentences.by_hand(rollout)}",
        Severity.PAGE,
        {**sentences.explained(rollout, story.now), "by_hand": sentences.by_hand(rollout)},
    )
