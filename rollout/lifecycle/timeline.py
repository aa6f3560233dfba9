"""The timeline: when each step of a policy decides if nothing stands in the way, and what the candidate is asked by then.

The rule: minutes of the wall clock from the start, with what a person would forget: Azure's writes, the lag of the data,
and minutes that do not count because one of the two deployments was asked nothing. Approvals are given at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil

from rollout.analysis.checks import deciding_source
from rollout.analysis.forecast import METRICS_LAG, Exposure, some
from rollout.analysis.profile import Profile
from rollout.lifecycle.moves import SIZED_PER_MINUTE, share_for
from rollout.lifecycle.splits import step_share
from rollout.lifecycle.stage import SIZED_BLOCKS, WRITE_TAKES
from rollout.policy import Policy

MINUTE = timedelta(minutes=1)
WRITE = WRITE_TAKES / MINUTE
LONGEST = 7 * 24 * 60  # minutes: a bake that takes longer does not end


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A share from its confirmation to its decision; all times in minutes."""

    step: int
    sized: bool  # the first minutes, at a share sized down
    share: int  # percent, the candidate's
    begins: float
    bake: float  # until enough blocks are there; more than the policy's where traffic is thin
    ends: float  # the decision: with the lag of the data
    requests: float  # of the candidate, in the bake
    rate: float  # requests a minute of the whole endpoint, on average over the bake
    complete: bool = True  # the bake ends at all

    def exposure(self, *, lagging: bool) -> Exposure:
        """What was asked under this share: until the bake's last minute, or until the decision."""
        minutes = self.ends - self.begins if lagging else self.bake
        share = self.share / 100.0
        return Exposure(minutes=minutes, baseline=self.rate * (1.0 - share), candidate=self.rate * share)


def timeline(policy: Policy, profile: Profile) -> tuple[Stretch, ...]:
    """All stretches of a rollout in order."""
    found: list[Stretch] = []
    now = WRITE
    for step, sized, share, blocks in _plan(policy, profile):
        stretch = _stretch(profile, now, step=step, sized=sized, share=share, blocks=blocks)
        found.append(replace(stretch, ends=stretch.ends + lag_of(policy, profile)))
        now = found[-1].ends + WRITE
    return tuple(found)


def lag_of(policy: Policy, profile: Profile) -> int:
    """Minutes after its end in which a minute closes in the source that decides."""
    return METRICS_LAG if deciding_source(policy) == "metrics" else profile.lag


def done_at(policy: Policy, stretches: tuple[Stretch, ...]) -> float:
    """The minute in which the candidate has all traffic for good."""
    return stretches[-1].ends + (WRITE if policy.holdback else 0.0)


def exposures(stretches: tuple[Stretch, ...], until: int) -> list[Exposure]:
    """What was asked by the time at which the stretch of this index is decided."""
    return [stretch.exposure(lagging=index < until) for index, stretch in enumerate(stretches[: until + 1])]


def _plan(policy: Policy, profile: Profile) -> Iterator[tuple[int, bool, int, int]]:
    for step in range(len(policy.steps)):
        share = step_share(policy, step)
        smaller = share_for(profile.rate(0), SIZED_PER_MINUTE)
        if step == 0 and policy.first_step == "auto" and smaller < share:
            yield 0, True, smaller, SIZED_BLOCKS
        yield step, False, share, max(1, round(policy.steps[step].bake / MINUTE))


def _stretch(profile: Profile, begins: float, *, step: int, sized: bool, share: int, blocks: int) -> Stretch:
    part = share / 100.0
    minutes, counted, asked = 0, 0.0, 0.0
    while counted < blocks - 1e-9 and minutes < LONGEST:
        rate, same = profile.rate(begins + minutes), profile.same_for(begins + minutes)
        each = some(rate * part) * (some(rate * (1.0 - part)) if share < 100 else 1.0)
        needed = (blocks - counted) / each if each else LONGEST
        taken = min(same, max(1, ceil(needed - 1e-9)), LONGEST - minutes)
        counted, asked, minutes = counted + each * taken, asked + rate * taken, minutes + taken
    return Stretch(
        step=step,
        sized=sized,
        share=share,
        begins=begins,
        bake=float(minutes),
        ends=begins + minutes + 1.0,
        requests=asked * part,
        rate=asked / minutes,
        complete=counted >= blocks - 1e-9,
    )
