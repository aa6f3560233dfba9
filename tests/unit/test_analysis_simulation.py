"""Whole rollouts, played with seeded chance: what is promoted, what is rolled back, and how soon."""

from collections import Counter

import pytest

from rollout.analysis.verdict import Reason
from tests.support.judging import START, Play, Traffic, play, policy

POLICY = policy(steps=(10, 25, 50, 100), expert={"evidence": ["logs"]})
LAG, STEADY = 5, 3  # minutes until cells are closed, and steady


def plays(traffic: Traffic, count: int, *, first: int = 0) -> list[Play]:
    return [play(POLICY, traffic, seed=seed, lag=LAG, steady=STEADY) for seed in range(first, first + count)]


@pytest.mark.parametrize("per_minute", [600, 6000])
def test_healthy_rollouts_in_noise_are_promoted(per_minute: float) -> None:
    outcomes = Counter(one.outcome for one in plays(Traffic(per_minute=per_minute, noise=0.25), 60))
    assert outcomes["failed"] <= 1
    assert outcomes["promoted"] >= 58


def test_a_candidate_with_five_points_more_errors_fails_within_its_first_step() -> None:
    found = plays(Traffic(per_minute=6000, noise=0.25, candidate_error=lambda _: 0.06), 40)
    assert all(one.outcome == "failed" for one in found)
    assert max(one.minutes for one in found) <= 10 + LAG
    assert sum(one.bad for one in found) / len(found) < 400
    assert all(one.last.harmed == pytest.approx(one.bad, rel=0.9) for one in found)


def test_a_fault_in_mid_rollout_is_found_and_dated() -> None:
    found = plays(Traffic(per_minute=6000, candidate_error=lambda minute: 0.06 if minute >= 20 else 0.01), 20)
    assert all(one.outcome == "failed" for one in found)
    assert max(one.minutes for one in found) <= 20 + STEADY + 15
    assert all(one.last.first_bad == START + 20 for one in found)


def test_a_slower_candidate_is_found() -> None:
    found = plays(Traffic(per_minute=6000, candidate_slower=lambda _: 1.6), 10)
    assert all(one.outcome == "failed" for one in found)
    assert all(one.last.sentence.startswith("The candidate failed: p95") for one in found)


def test_a_candidate_within_the_margin_is_promoted() -> None:
    found = plays(Traffic(per_minute=6000, candidate_error=lambda _: 0.012, candidate_slower=lambda _: 1.1), 10)
    assert all(one.outcome == "promoted" for one in found)


def test_a_burst_that_passes_costs_a_retreat_and_no_rollout() -> None:
    burst = Traffic(per_minute=6000, candidate_error=lambda minute: 0.08 if 3 <= minute < 6 else 0.01)
    found = plays(burst, 10)
    assert all(one.outcome == "promoted" for one in found)
    assert all(one.retreats >= 1 for one in found)
    assert all(Reason.RECOVERED in one.reasons() for one in found)


def test_a_crash_is_found_in_minutes() -> None:
    found = plays(Traffic(per_minute=600, error=0.003, candidate_error=lambda _: 0.95), 10)
    assert all(one.outcome == "failed" for one in found)
    assert max(one.minutes for one in found) <= 2 + STEADY + 1


def test_evidence_that_time_brings_ends_a_busy_rollout_early() -> None:
    found = plays(Traffic(per_minute=60_000, error=0.002), 5)
    assert all(one.outcome == "promoted" for one in found)
    assert max(one.minutes for one in found) < 4 * (10 + LAG + 1)
    assert all(Reason.EARLY in one.reasons() for one in found)
