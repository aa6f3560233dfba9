"""The benchmark's Kayenta is held to Kayenta's own test vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.detection.kayenta import high, intervals, mann_whitney, score, wilcoxon_diff

FIXTURE = Path(__file__).parents[1] / "benchmarks/detection/fixtures/kayenta_mann_whitney.json"
CASES = json.loads(FIXTURE.read_text())["cases"]
CLOSE = 1e-6  # as in its suite


@pytest.mark.parametrize("case", [case for case in CASES if "interval" in case], ids=lambda case: case["name"])
def test_mann_whitney_gives_its_intervals(case: dict[str, Any]) -> None:
    found = mann_whitney(case["experiment"], case["control"], case["confidence"])
    assert (found.low, found.high) == pytest.approx(case["interval"], abs=CLOSE)
    assert found.estimate == pytest.approx(case["estimate"], abs=case.get("estimate_within", CLOSE))


@pytest.mark.parametrize("case", [case for case in CASES if "wilcoxon_diff" in case], ids=lambda case: case["name"])
def test_the_rank_sum_is_its_own(case: dict[str, Any]) -> None:
    x, y = np.array(case["experiment"]), np.array(case["control"])
    for mu, expected in case["wilcoxon_diff"]:
        assert wilcoxon_diff(mu, 0.0, x, y) == pytest.approx(expected, abs=1e-5)


def test_the_ends_of_the_search_are_its_own() -> None:
    case = next(case for case in CASES if "ends" in case)
    x, y = np.array(case["experiment"]), np.array(case["control"])
    ends = case["ends"]
    assert (x.min() - y.max(), x.max() - y.min()) == pytest.approx((ends["low"], ends["high"]))
    quantiles = (1.9599639845400536, -1.9599639845400536)
    assert [wilcoxon_diff(ends["low"], q, x, y) for q in quantiles] == pytest.approx(ends["at_low"], abs=CLOSE)
    assert [wilcoxon_diff(ends["high"], q, x, y) for q in quantiles] == pytest.approx(ends["at_high"], abs=CLOSE)


@given(seed=st.integers(0, 10**6), points=st.sampled_from([5, 10, 30]), counts=st.booleans())
@settings(max_examples=40, deadline=None)
def test_many_at_once_agree_with_one_at_a_time(seed: int, points: int, counts: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.lognormal(3.2, 0.5, (3, points)), rng.lognormal(3.0, 0.5, (3, points))
    if counts:  # many ties
        x, y = np.floor(x), np.floor(y)
    low, top, _ = intervals(x, y, 0.98)
    for row in range(3):
        one = mann_whitney(x[row], y[row], 0.98)
        steps = np.unique(np.subtract.outer(x[row], y[row]))
        near = np.abs(np.subtract.outer([one.low, one.high], steps)).min(axis=1)
        assert near == pytest.approx([0, 0], abs=2e-4)  # the solver comes to rest at a step …
        assert (low[row], top[row]) == pytest.approx((one.low, one.high), abs=2e-4)  # … and at this one


def test_labels_and_scores() -> None:
    steady, worse = np.tile(np.arange(20.0), (1, 1)), np.tile(np.arange(20.0) + 30.0, (1, 1))
    assert not high(steady, steady)[0][0]
    beyond, effect = high(worse, steady)
    assert beyond[0]
    assert effect[0] == pytest.approx(39.5 / 9.5)
    fine = (np.array([False]), np.array([1.0]))
    assert score([beyond, fine[0]], [effect, fine[1]], (1.0, 1.0))[0] == 50.0
    assert score([beyond, fine[0]], [effect, fine[1]], allowed=(5.0, 1.0))[0] == 100.0
