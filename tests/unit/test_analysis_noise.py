"""What is learned of an endpoint's noise before a rollout begins."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.analysis.cells import Cell
from rollout.analysis.evidence import TAU_MAX, Counts, Noise, Process
from rollout.analysis.judgement import CheckState, SourceState
from rollout.analysis.noise import (
    EXPECTED,
    LEAST,
    Lesson,
    learned,
    lesson,
    lesson_alone,
    lessons,
    rollouts_in,
    spread,
    spreads,
)
from rollout.analysis.verdict import Series, begin, judge
from rollout.lifecycle import Phase
from rollout.lifecycle.lessons import lessons_of
from rollout.policy import Checks, CustomCheck, Policy
from tests.support.judging import START, logs, policy, stage
from tests.support.stories import a_rollout

HOLDING = policy(when={"suspicion": "hold"})


def _pair(rng: np.random.Generator, tau: float, *, prior: float, blocks: int = 50, rate: float = 2_000.0) -> Process:
    """What a rollout shows whose deployments' log-ratio varies by tau, beside a drift that both share."""
    noise = Noise()
    for drift, mine in zip(rng.lognormal(0.0, 0.3, blocks), rng.lognormal(0.0, tau, blocks), strict=True):
        z, x = rng.poisson([rate * drift, rate * drift * mine])
        noise = noise.after(Counts(float(z), 1e5, float(x), 1e5), prior)
    return Process(blocks=blocks, noise=noise)


@pytest.mark.parametrize("tau", [0.2, 0.3, 0.5])
@pytest.mark.parametrize("prior", [0.1, 0.3, 0.8])
def test_five_rollouts_teach_their_spread_whatever_was_expected_of_them(tau: float, prior: float) -> None:
    rng = np.random.default_rng(7)
    found = spread([lesson(_pair(rng, tau, prior=prior), prior) for _ in range(5)])
    assert found == pytest.approx(tau, rel=0.35)


@pytest.mark.parametrize("rate", [20.0, 2_000.0])
def test_a_rollout_counts_for_its_minutes_whatever_was_expected_of_them(rate: float) -> None:
    usual, quiet = (
        lesson(_pair(np.random.default_rng(7), 0.1, prior=prior, rate=rate), prior).blocks for prior in (0.3, 0.1)
    )
    assert 0.2 * 50 < usual <= quiet <= 50
    assert lesson(Process(), 0.3) == Lesson(0.0, 0.0)


def test_the_less_is_known_the_nearer_to_what_is_expected_of_all() -> None:
    assert spread([]) == EXPECTED
    one, ten = (spread([Lesson(2.0, 2.0 * 0.2**2)] * count) for count in (1, 10))
    assert 0.2 < ten < one < EXPECTED
    assert spread([Lesson(500.0, 0.0)]) == LEAST


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e6, 1e6)), max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_spread_is_within_its_bounds_whatever_was_taught(taught: list[tuple[float, float]]) -> None:
    assert LEAST <= spread([Lesson(*one) for one in taught]) <= TAU_MAX


def test_stable_alone_teaches_twice_its_own_variance() -> None:
    rng = np.random.default_rng(3)
    own = [(float(rng.poisson(5_000 * one)), 1e5) for one in rng.lognormal(0.0, 0.2, 4_000)]
    taught = lesson_alone(own)
    assert (taught.square / taught.blocks) ** 0.5 == pytest.approx(0.2 * 2**0.5, rel=0.1)
    assert lesson_alone([]) == Lesson(0.0, 0.0)
    assert lesson_alone([(0.0, 50.0)] * 60).blocks < 0.1  # hardly an error: nothing to tell from


# --- where a judgement begins --------------------------------------------------------------------------------------


def _hour(rng: np.random.Generator, spread_of_errors: float) -> dict[int, Cell]:
    cells = {}
    for minute in range(60):
        bad = int(rng.poisson(200 * rng.lognormal(0.0, spread_of_errors)))
        cells[START - 60 + minute] = Cell(histograms={"ok": {50: 5_000, 60: 4_000, 70: 900}, "5xx": {40: bad}})
    return cells


def _series(history: dict[int, Cell]) -> Series:
    return logs({}, {}, history=history, closed_before=START)


def test_a_quiet_hour_of_stable_lowers_what_is_expected_and_a_loud_one_does_not_raise_it() -> None:
    rng = np.random.default_rng(5)
    quiet = learned(HOLDING, {}, [_series(_hour(rng, 0.0))])["logs"]
    loud = learned(HOLDING, {}, [_series(_hour(rng, 0.8))])["logs"]
    assert quiet["error_rate"] < 0.2
    assert loud["error_rate"] == EXPECTED
    assert quiet["latency_p95"] < 0.2
    assert learned(HOLDING, {}, [_series({})]) == {}


def test_minutes_that_may_still_change_teach_nothing() -> None:
    series = logs({}, {}, history=_hour(np.random.default_rng(5), 0.0), closed_before=START - 60)
    assert learned(HOLDING, {}, [series]) == {}


def test_past_rollouts_count_before_stables_hour() -> None:
    taught = {"logs": {"error_rate": [Lesson(50.0, 50.0 * 0.6**2)]}}
    found = learned(HOLDING, taught, [_series(_hour(np.random.default_rng(5), 0.0))])["logs"]
    assert found["error_rate"] == spread(taught["logs"]["error_rate"]) > EXPECTED
    assert found["latency_p95"] < 0.2


def test_an_own_check_learns_from_its_query_not_from_its_name() -> None:
    def counting(kql: str) -> Policy:
        return policy(
            checks=Checks(custom=(CustomCheck(name="empty", kql=kql), CustomCheck(name="odd", kql="U | count")))
        )

    first = begin(counting("T | count"))
    found = Process(blocks=9, noise=Noise(surplus=9.0, weight=9.0))
    state = SourceState(checks={"empty": CheckState(process=found), "odd": CheckState(process=found)})
    taught_by = a_rollout(
        policy=counting("T | count"), phase=Phase.SUCCEEDED, judgement=replace(first, sources={"custom": state})
    )
    taught = {"custom": {key: [one] for key, one in lessons_of(taught_by)["custom"].items()}}

    same, other = learned(counting("T | count"), taught, []), learned(counting("T | where x | count"), taught, [])
    assert same["custom"].keys() == {"empty", "odd"}
    assert same["custom"]["empty"] > EXPECTED
    assert other["custom"] == {"odd": same["custom"]["odd"]}


def test_what_past_rollouts_taught_is_known_without_a_policy() -> None:
    nothing, much = Lesson(0.0, 0.0), Lesson(50.0, 50.0 * 0.6**2)
    taught = {
        "logs": {"error_rate": [much, nothing, much], "latency_p95": [much]},
        "metrics": {"error_rate": [nothing]},
    }
    assert spreads(taught)["logs"] == learned(HOLDING, taught, [])["logs"]
    assert spreads(taught)["metrics"] == {"error_rate": EXPECTED}
    assert rollouts_in(taught) == 2
    assert (spreads({}), rollouts_in({})) == ({}, 0)


def _minutes(cell: Cell, first: int, count: int) -> dict[int, Cell]:
    return {first + minute: cell for minute in range(count)}


def test_a_rollout_teaches_by_its_own_judgement() -> None:
    judgement = begin(HOLDING, taus={"logs": {"error_rate": 0.5}})
    bad = Cell(histograms={"ok": {50: 900}, "5xx": {40: 100}})
    series = logs(_minutes(bad, START, 6), _minutes(bad, START, 6), history=_minutes(bad, START - 60, 60))
    after, _ = judge(judgement, policy=HOLDING, stage=stage(), series=[series], now=START + 6)
    found = lessons(after)["logs"]["error_rate"]
    assert found == lesson(after.sources["logs"].checks["error_rate"].process, 0.5)
    assert 1.0 < found.blocks <= 6.0
