"""What stops a rollout whatever the evidence says: deployments that vanish, fail or change, time that runs out.

The rule: each ending is a named phase with a sentence, never a stuck rollout.
"""

from dataclasses import replace

from rollout.lifecycle import moves, sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.story import Story
from rollout.world import Pin, Severity

_LIVE = frozenset(
    {Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK}
)


def stable_cannot_serve(rollout: Rollout, facts: Facts) -> str | None:
    """Why stable cannot take the traffic, or None.

    Told from evidence (it exists, Azure has not given it up, its last cells hold good answers), not from `Updating` or
    `Scaling`: that is what an autoscaling deployment looks like.
    """
    deployments = facts.snapshot.deployments if facts.snapshot else None
    if deployments is not None and rollout.stable is not None:
        stable = deployments.get(rollout.stable.casefold())
        if stable is None:
            return f"its stable deployment {rollout.stable} does not exist any more."
        if not stable.exists_to_serve:
            return f"its stable deployment {rollout.stable} is {stable.state}."
    if facts.stable_serves is False:
        return f"most of the last answers of its stable deployment {rollout.stable} were errors."
    return None


def guard_endpoint(story: Story, facts: Facts) -> None:
    """An endpoint that was deleted ends its rollout."""
    rollout = story.rollout
    if rollout.phase in _LIVE and facts.snapshot is not None and facts.snapshot.endpoint is None:
        story.move(
            Phase.ABORTED,
            f"Aborted: endpoint {rollout.ref.name} does not exist any more.",
            severity=Severity.ACTION,
        )


def guard_deployments(story: Story, facts: Facts) -> None:
    """Stable gone: halt. Candidate gone: roll back. Either changed in place: pause, its evidence is void."""
    rollout = story.rollout
    deployments = facts.snapshot.deployments if facts.snapshot else None
    if rollout.phase not in _LIVE or deployments is None or rollout.stable is None or rollout.candidate is None:
        return
    broken = stable_cannot_serve(rollout, replace(facts, stable_serves=None))
    if broken:
        moves.halt(story, f"{rollout.ref.name} cannot be judged or rolled back: {broken}")
        return
    if rollout.phase is Phase.ROLLING_BACK:
        return
    candidate = deployments.get(rollout.candidate.casefold())
    if candidate is None or not candidate.exists_to_serve:
        what = "does not exist any more" if candidate is None else f"is {candidate.state}"
        cause = f"the candidate {rollout.candidate} {what}"
        moves.roll_back(story, cause, f"Rolling back to {rollout.stable} 100 %: {cause}.")
        return
    _guard_pins(story, (deployments[rollout.stable.casefold()].pin, candidate.pin))


def _guard_pins(story: Story, seen: tuple[Pin, Pin]) -> None:
    rollout = story.rollout
    if rollout.pins is None:
        story.set(pins=seen)
        return
    if rollout.phase is Phase.PAUSED and rollout.paused_because == "changed":
        return
    for role, name, old, new in zip(
        ("stable", "candidate"), (rollout.stable, rollout.candidate), rollout.pins, seen, strict=True
    ):
        difference = old.difference(new)
        if difference:
            moves.pause(
                story,
                "changed",
                f"Paused: the {role} deployment {name} was changed in place during the rollout ({difference}), so what was "
                f"judged is not what serves. `rollout resume {rollout.ref.name}` judges afresh from here; "
                f"`rollout abort {rollout.ref.name} --reason …` puts all traffic on {rollout.stable}.",
            )
            return
    if seen != rollout.pins:  # scaled: still the same deployments
        story.set(pins=seen)


def guard_deadline(story: Story) -> None:
    """Active time is bounded; then a person decides."""
    rollout = story.rollout
    if rollout.active_since is None or rollout.phase is Phase.PAUSED:
        return
    active = rollout.active + (story.now - rollout.active_since)
    if active >= rollout.policy.deadline:
        hours = rollout.policy.deadline.total_seconds() / 3600
        moves.pause(
            story,
            "deadline",
            f"Paused: not done after {hours:g} h of active time, the policy's deadline. Last: {rollout.sentence} "
            f"`rollout resume {rollout.ref.name}` gives it as long again.",
        )


def guard_approval(story: Story) -> None:
    """An approval that does not come has a default."""
    rollout = story.rollout
    if rollout.phase is not Phase.WAITING or rollout.next_step is None:
        return
    approval = rollout.policy.steps[rollout.next_step].approve
    if approval is None or story.now - rollout.phase_since < approval.timeout:
        return
    if approval.on_timeout == "rollback":
        moves.roll_back(
            story, "nobody approved in time", f"Rolling back to {rollout.stable} 100 %: nobody approved in time."
        )
    else:
        moves.pause(story, "approval", f"Paused: nobody approved step {rollout.next_step + 1} in time.")


def page_if_late(story: Story) -> None:
    """A roll back that Azure has not confirmed within a minute needs a person, with the command to do it by hand."""
    rollout = story.rollout
    if rollout.phase is not Phase.ROLLING_BACK or rollout.late_told or rollout.decided_at is None:
        return
    if (story.now - rollout.decided_at).total_seconds() >= sentences.CONFIRMED_WITHIN:
        story.set(late_told=True)
        story.tell(
            "unconfirmed",
            f"Act now: Azure has not confirmed the roll back of {rollout.ref.name} for "
            f"{sentences.CONFIRMED_WITHIN} s; it is still being tried. By hand: {sentences.by_hand(rollout)}",
            Severity.PAGE,
            {**sentences.ending_details(rollout, story.now), "by_hand": sentences.by_hand(rollout)},
        )
