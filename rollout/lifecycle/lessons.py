"""Lessons: what a rollout teaches the next ones of its endpoint.

The rule: only a rollout that was promoted without a fail teaches, with all its minutes: what a regression shows is no noise.
"""

from collections.abc import Mapping

from rollout.analysis.noise import Lesson, lessons, own_keys
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout


def lessons_of(rollout: Rollout) -> Mapping[str, Mapping[str, Lesson]]:
    """By source and check, how much minutes differed beyond chance; empty where it teaches nothing (yet).

    Checks of a policy's own stand under their keys (`analysis.noise.own_keys`).
    """
    if rollout.phase is not Phase.SUCCEEDED or rollout.past_fail or rollout.judgement is None:
        return {}
    found, keys = lessons(rollout.judgement), own_keys(rollout.policy)
    own = {keys[name]: lesson for name, lesson in found.get("custom", {}).items() if name in keys}
    return {**found, "custom": own} if own else found
