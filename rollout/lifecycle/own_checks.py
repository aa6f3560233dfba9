"""A policy's own checks that cannot be read: what that means for a rollout.

The rule: before any traffic is moved every check must have counted once, since a query with a mistake in it never will;
later a check that goes blind is told to people, once, and the others judge on.
"""

from rollout.lifecycle.facts import Facts
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.story import Story
from rollout.world import Severity


def not_read(rollout: Rollout, facts: Facts) -> str | None:
    """Why a rollout cannot start yet: a check that has not counted; None where all have."""
    if not rollout.policy.checks.custom:
        return None
    for name, why in facts.blind.items():
        return f"the policy's own check {name} cannot be read, and it would not judge: {why.rstrip('.')}"
    if facts.counted_at is None or facts.counted_at < rollout.created_at:
        return "the policy's own checks have not been run yet; where it stays so, the daemon's log says why"
    return None


def guard_blind(story: Story, facts: Facts) -> None:
    """Tell once that a check has gone blind, and that it sees again."""
    told = story.rollout.blind
    for name, why in facts.blind.items():
        if name not in told and story.rollout.started_at is not None:
            sentence = f"Check {name} does not judge at present; the other checks do. {why.rstrip('.')}."
            story.set(blind=(*story.rollout.blind, name))
            story.tell("blind", sentence, Severity.ACTION)
    for name in told:
        if name not in facts.blind:
            story.set(blind=tuple(one for one in story.rollout.blind if one != name))
            story.tell("sees_again", f"Check {name} judges again.", Severity.NOTICE)
