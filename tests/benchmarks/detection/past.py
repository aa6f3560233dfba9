"""What is known of an endpoint's noise before a rollout: learned by the product's own code from rollouts of other seeds.

The rule: everything that teaches lies before the rollout: stable's own hour, or healthy rollouts of the same kind of
endpoint on the fixed schedule, each taught by what the hour before the first one, and then its predecessors, had shown.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rollout.analysis.criteria import Criteria
from rollout.analysis.crowd import Watch
from rollout.analysis.engine import Array
from rollout.analysis.evidence import Noise, Process
from rollout.analysis.noise import EXPECTED, LEAST, Lesson, lesson, lesson_alone, spread
from tests.benchmarks.detection.workload import PATHS, Endpoint, Fault

ROLLOUTS_BEFORE = 5
_HOUR, _PAST = 60, 2**20  # minutes; the seeds of the past

Taus = Callable[[Endpoint, Criteria], Array]


def nothing_known(endpoint: Endpoint, criteria: Criteria) -> Array:
    """What is expected of every endpoint."""
    return np.full((len(criteria.checks), endpoint.rollouts), EXPECTED)


def hour_before(endpoint: Endpoint, criteria: Criteria) -> Array:
    """What stable's own hour before the rollout shows."""
    ids, idle = np.arange(endpoint.rollouts), np.zeros(endpoint.rollouts, dtype=np.int64)
    hour = [
        endpoint.minute(minute, ids, share=0.0 * ids, step=idle, since=idle)[0]
        for minute in range(PATHS - _HOUR, PATHS)
    ]
    z, m = np.array([minute.z for minute in hour]), np.array([minute.m for minute in hour])
    return _each(z.shape[1:], lambda c, r: min(EXPECTED, spread([_alone(z[:, c, r], m[:, c, r])])))


def quiet_before(endpoint: Endpoint, criteria: Criteria) -> Array:
    """What the quietest past teaches, whatever the endpoint is like today."""
    return np.full((len(criteria.checks), endpoint.rollouts), LEAST)


def rollouts_before(endpoint: Endpoint, criteria: Criteria) -> Array:
    """What so many healthy rollouts before this one taught."""
    taus, taught = hour_before(endpoint, criteria), list[list[list[Lesson]]]()
    for number in range(ROLLOUTS_BEFORE):
        before = Endpoint(endpoint.cell, endpoint.noise, Fault(), endpoint.rollouts, (*endpoint.seed, _PAST, number))
        taught.append(_lessons(before, criteria, taus))
        taus = _each(taus.shape, lambda c, r: spread([lessons[c][r] for lessons in taught]))
    return taus


def _each(shape: Sequence[int], tau: Callable[[int, int], float]) -> Array:
    return np.array([[tau(c, r) for r in range(shape[1])] for c in range(shape[0])])


def _alone(z: Array, m: Array) -> Lesson:
    return lesson_alone([(bad, of) for bad, of in zip(z.tolist(), m.tolist(), strict=True) if of > 0.0])


def _lessons(endpoint: Endpoint, criteria: Criteria, taus: Array) -> list[list[Lesson]]:
    """By check and rollout."""
    watch = Watch(criteria, endpoint.usual, behind=0, rollouts=endpoint.rollouts, prior=taus)
    ids, nobody = np.arange(endpoint.rollouts), np.zeros(endpoint.rollouts, dtype=bool)
    for minute, place in endpoint.schedule():
        cells, _ = endpoint.minute(minute, ids, **place)
        watch.processes.take(cells.z, cells.m, cells.x, cells.n, nobody)
    known = watch.processes
    sums = zip(*(part.tolist() for part in (known.blocks, known.surplus, known.weight, taus)), strict=True)
    return [[_lesson(*one) for one in zip(*row, strict=True)] for row in sums]


def _lesson(blocks: float, surplus: float, weight: float, prior: float) -> Lesson:
    return lesson(Process(blocks=int(blocks), noise=Noise(surplus=surplus, weight=weight)), prior)
