"""What the detection benchmark says is known of an endpoint before a rollout."""

import numpy as np

from rollout.analysis.criteria import Criteria, criteria_of
from rollout.analysis.noise import EXPECTED, LEAST
from tests.benchmarks.detection.past import hour_before, nothing_known, quiet_before, rollouts_before
from tests.benchmarks.detection.workload import HEALTHY, Cell, Endpoint, Noise, benchmark_policy

P95 = 3


def _criteria() -> Criteria:
    (criteria,) = criteria_of(benchmark_policy()).values()
    return criteria


def _endpoint(noise: Noise, *, rate: float = 100, seed: int = 1) -> Endpoint:
    return Endpoint(Cell(rate, 0.01), noise, HEALTHY, 30, (seed,))


def test_the_past_of_a_quiet_endpoint_says_so() -> None:
    quiet, criteria = _endpoint("iid"), _criteria()
    untold, hour, past = (known(quiet, criteria) for known in (nothing_known, hour_before, rollouts_before))
    assert (untold == EXPECTED).all()
    assert LEAST <= past[0].mean() <= hour[0].mean() < 0.2
    assert (quiet_before(quiet, criteria) == LEAST).all()


def test_the_past_of_a_restless_endpoint_is_told_check_by_check() -> None:
    restless, criteria = _endpoint("noisy"), _criteria()
    past, hour = rollouts_before(restless, criteria), hour_before(restless, criteria)
    assert past[0].mean() > EXPECTED > past[P95].mean()  # its errors burst, its latency hardly moves
    assert hour[0].mean() > 0.9 * EXPECTED  # alone, stable drifts: that says nothing
    assert (hour <= EXPECTED).all()


def test_where_there_is_little_traffic_little_is_learned() -> None:
    idle = _endpoint("noisy", rate=0.1)
    assert np.abs(rollouts_before(idle, _criteria())[0] - EXPECTED).max() < 0.02


def test_the_past_is_of_other_minutes_than_the_rollout() -> None:
    one, other = (rollouts_before(_endpoint("noisy", seed=seed), _criteria()) for seed in (1, 2))
    assert not np.array_equal(one, other)
