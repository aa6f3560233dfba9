"""Crashes in the detection benchmark: the prober's own stream against answers that are made up."""

import numpy as np
import pytest

from rollout.prober.stream import HURRIED
from tests.benchmarks.detection.probed import CRASHES, LONGEST, Crash, false_crashes, seconds_to_crash
from tests.benchmarks.detection.workload import HEALTHY, Cell, Endpoint, Fault

SOON = 10.0  # seconds


def _seconds(crash: Crash, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.array([seconds_to_crash(crash, 0.01, rng) for _ in range(count)])


@pytest.mark.parametrize("name", ["every answer is an error", "every answer hangs"])
def test_a_crash_is_seen_within_seconds(name: str) -> None:
    found = _seconds(CRASHES[name])
    assert np.quantile(found, 0.9) < SOON
    assert found.max() < 2 * SOON  # one of stable's errors in between begins the count anew


def test_half_of_the_answers_are_seldom_ten_in_a_row() -> None:
    found = _seconds(CRASHES["+50pp"], 10)
    assert np.median(found) > 6 * SOON


def test_a_healthy_candidate_does_not_crash() -> None:
    assert (_seconds(Crash(0.0), 2) > LONGEST).all()


def test_the_bound_of_false_crashes_grows_with_what_only_the_candidate_gets_wrong() -> None:
    def bound(fault: Fault, rate: float) -> float:
        return float(false_crashes(Endpoint(Cell(10, rate), "iid", fault, 20, (1,))).mean())

    assert bound(HEALTHY, 0.01) == pytest.approx(50 * 60 / HURRIED * (0.01 * 0.99) ** 10)
    assert bound(HEALTHY, 0.1) > bound(HEALTHY, 0.01)
    assert bound(Fault(error=1.0), 0.01) == pytest.approx(50 * 60 / HURRIED * 0.99**10)
