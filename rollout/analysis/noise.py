"""Noise: how much the minutes of an endpoint differ beyond chance, learned before a rollout begins.

The rule: only the past teaches, and what it taught is fixed before the first minute is judged (`Judgement.taus`), so that
the evidence keeps its promise whatever was learned. A spread tau is the sd of the log-ratio of both deployments' bad
shares between minutes. Where little is known it stays near `EXPECTED`.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from rollout.analysis.checks import Check, durations
from rollout.analysis.criteria import criteria_of
from rollout.analysis.evidence import RESIDUAL_MAX, TAU_MAX, Process
from rollout.analysis.judgement import Judgement
from rollout.analysis.terms import Series
from rollout.policy import Policy

EXPECTED = 0.3  # the spread where nothing was learned …
EXPECTED_BLOCKS = 10.0  # … and how many telling minutes that counts for
#: However quiet the past was, at least this is expected: a rollout learns slowly that an endpoint has become restless.
LEAST = 0.15


class Lesson(NamedTuple):
    """What some minutes taught of one check in one source."""

    blocks: float  # minutes, each counted by how much it can tell of the spread (0 to 1)
    square: float  # tau squared, summed over them


Lessons = Mapping[str, Mapping[str, Sequence[Lesson]]]  # of past rollouts, by source and check
Spreads = Mapping[str, Mapping[str, float]]  # taus, by source and check


def learned(policy: Policy, taught: Lessons, series: Iterable[Series]) -> Spreads:
    """What a judgement begins with (`Judgement.taus`).

    Past rollouts teach; where there are none, stable's own hour before this one. Alone it moves with everything that
    drifts, which both deployments would share: so it can only show that the noise is less than `EXPECTED`.
    """
    shown, past = {one.source: one for one in series}, spreads(taught)
    found: dict[str, dict[str, float]] = {}
    for source, criteria in criteria_of(policy).items():
        keys = own_keys(policy) if source == "custom" else {}
        for check in criteria.checks:
            tau = past.get(source, {}).get(keys.get(check.name, check.name))
            tau = _alone(check, shown.get(source)) if tau is None else tau
            if tau is not None:
                found.setdefault(source, {})[check.name] = tau
    return found


def own_keys(policy: Policy) -> Mapping[str, str]:
    """What lessons of the policy's own checks are kept under: another query of the same name counts something else."""
    own = policy.checks.custom
    return {check.name: f"{check.name} {sha256(check.query.encode()).hexdigest()[:8]}" for check in own}


def spreads(taught: Lessons) -> Spreads:
    """What past rollouts alone make a rollout expect, whatever its policy checks."""
    return {
        source: {name: spread(lessons) for name, lessons in checks.items() if lessons}
        for source, checks in taught.items()
    }


def rollouts_in(taught: Lessons) -> int:
    """How many past rollouts taught something."""
    every = (lessons for checks in taught.values() for lessons in checks.values())
    return max((sum(lesson.blocks > 0.0 for lesson in lessons) for lessons in every), default=0)


def _alone(check: Check, series: Series | None) -> float | None:
    """The spread as stable's hour before shows it, at most `EXPECTED`; None where there is no such hour."""
    if series is None:
        return None
    cells = [cell for minute, cell in series.history.items() if minute < series.closed_before]
    bar = check.find_bar(durations(cells))
    counts = [check.counts(cell, cell, bar) for cell in cells]
    own = lesson_alone([(one.z, one.m) for one in counts if one is not None and one.m > 0.0])
    return min(EXPECTED, spread([own])) if own.blocks else None


def lesson_alone(minutes: Sequence[tuple[float, float]]) -> Lesson:
    """What minutes of one deployment teach, z bad of m each: the log-ratio of two such deployments varies twice as much."""
    prior = EXPECTED**2 / 2.0
    rate = (sum(z for z, _ in minutes) + 0.5) / (sum(m for _, m in minutes) + 0.5)
    blocks = square = 0.0
    for z, m in minutes:
        g = m * rate
        telling = (g * prior / (1.0 + g * prior)) ** 2
        residual = min((z - g) ** 2 / g, max(RESIDUAL_MAX, g))
        blocks, square = blocks + telling, square + telling * 2.0 * (residual - 1.0) / g
    return Lesson(blocks, square)


def lessons(judgement: Judgement) -> Mapping[str, Mapping[str, Lesson]]:
    """By source and check, what the minutes of a whole rollout taught."""
    return {
        source: {
            name: lesson(check.process, judgement.taus.get(source, {}).get(name, EXPECTED))
            for name, check in state.checks.items()
        }
        for source, state in judgement.sources.items()
    }


def lesson(process: Process, prior: float) -> Lesson:
    """The moment estimate of a rollout that began with the spread `prior`.

    Its minutes were weighed by what they could tell of `prior`; here they count by what they can tell of `EXPECTED`, or of
    `prior` where that is larger, and never for more minutes than there were: so a rollout counts the same whatever was
    known before it.
    """
    noise = process.noise
    if noise.weight <= 0.0:
        return Lesson(0.0, 0.0)
    blocks = min(noise.weight * max(prior, EXPECTED) ** 4, float(process.blocks))
    return Lesson(blocks, blocks * noise.surplus / noise.weight)


def spread(taught: Iterable[Lesson]) -> float:
    """The tau to begin with, `LEAST` to `TAU_MAX`: the mean over the telling minutes of the past, `EXPECTED` counted in."""
    blocks, square = EXPECTED_BLOCKS, EXPECTED_BLOCKS * EXPECTED**2
    for one in taught:
        blocks, square = blocks + one.blocks, square + one.square
    return float(min(max(square / blocks, LEAST**2), TAU_MAX**2) ** 0.5)
