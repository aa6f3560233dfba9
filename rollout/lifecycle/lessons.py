"""Lessons: what a rollout teaches the next ones of its endpoint.

The rule: only a rollout that was promoted without a fail teaches, with all its minutes: what a regression shows is no noise.
"""

from collections.abc import Mapping

from rollout.analysis.noise import Lesson, lessons
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout


def lessons_of(rollout: Rollout) -> Mapping[str, Mapping[str, Lesson]]:
    """By source and check, how much minutes differed beyond chance; empty where it teaches nothing (yet)."""
    if rollout.phase is not Phase.SUCCEEDED or rollout.past_fail or rollout.judgement is None:
        return {}
    return lessons(rollout.judgement)
