"""Bounds against scipy, which the product does not need."""

from math import exp, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from rollout.analysis.bounds import beta_share, highest_growth, highest_increase, highest_share, surely_above
from rollout.analysis.evidence import Counts


@given(st.floats(-1, 8), st.floats(-1, 8), st.floats(-4, 4))
def test_the_incomplete_beta_function_agrees_with_scipy(log_a: float, log_b: float, z: float) -> None:
    a, b = 10**log_a, 10**log_b
    mean = a / (a + b)
    x = min(max(mean + z * sqrt(mean * (1 - mean) / (a + b + 1)), 1e-12), 1 - 1e-12)
    assert beta_share(a, b, x) == pytest.approx(special.betainc(a, b, x), abs=1e-5)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.001, 0.9))
def test_surely_above_is_the_exact_binomial_test(n: int, part: float, limit: float) -> None:
    bad = round(n * part)
    exact = stats.binomtest(bad, n, limit, alternative="greater").pvalue if bad else 1.0
    if abs(exact - 0.05) > 1e-6:
        assert surely_above(bad, n, limit) == (exact <= 0.05)


def test_nothing_is_sure_of_nothing() -> None:
    assert not surely_above(0, 0, 0.05)
    assert highest_share(0, 0) == 1.0
    assert highest_growth({}, {}, 0.95) is None


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_highest_share_is_wilsons(n: int, part: float) -> None:
    bad = round(n * part)
    expected = stats.binomtest(bad, n).proportion_ci(0.9, method="wilson").high
    assert highest_share(bad, n) == pytest.approx(expected, abs=1e-9)


def test_the_highest_increase_is_newcombes() -> None:
    # Newcombe 1998, table II, method 10: 56/70 - 48/80 lies in (0.0524, 0.3339) at 95 % two-sided; one-sided 97.5 %.
    # At our 95 % one-sided, both Wilson limits are the 90 % two-sided ones.
    ours, theirs = 56 / 70, 48 / 80
    high = stats.binomtest(56, 70).proportion_ci(0.9, method="wilson").high
    low = stats.binomtest(48, 80).proportion_ci(0.9, method="wilson").low
    expected = ours - theirs + sqrt((high - ours) ** 2 + (theirs - low) ** 2)
    assert highest_increase(Counts(48, 80, 56, 70)) == pytest.approx(expected, abs=1e-9)


def test_the_highest_growth_shrinks_with_data_and_never_falls_below_what_is_seen() -> None:
    stable, candidate = {40: 500, 44: 400, 48: 100}, {41: 500, 45: 400, 49: 100}
    seen = exp(log(2) / 8) - 1
    few = highest_growth(stable, candidate, 0.5)
    many = highest_growth({k: 100 * v for k, v in stable.items()}, {k: 100 * v for k, v in candidate.items()}, 0.5)
    assert few is not None
    assert many is not None
    assert seen < many < few
