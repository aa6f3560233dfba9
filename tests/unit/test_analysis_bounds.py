"""Bounds against scipy, which the product does not need."""

from math import exp, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from rollout.analysis.bounds import (
    beta_share,
    highest_growth,
    highest_increase,
    highest_share,
    quantile_interval,
    share_interval,
    surely_above,
)
from rollout.analysis.cells import Ranked, quantile
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
    assert highest_growth(Ranked({}), Ranked({}), 0.95) is None


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
    few = highest_growth(Ranked(stable), Ranked(candidate), 0.5)
    more = [Ranked({bucket: 100 * count for bucket, count in one.items()}) for one in (stable, candidate)]
    many = highest_growth(*more, 0.5)
    assert few is not None
    assert many is not None
    assert seen < many < few


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_interval_of_a_share_is_wilsons(n: int, part: float) -> None:
    bad = round(n * part)
    expected = stats.binomtest(bad, n).proportion_ci(0.95, method="wilson")
    low, high = share_interval(bad, n) or (2.0, -1.0)
    assert (low, high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))
    assert low <= bad / n <= high


@given(st.dictionaries(st.integers(0, 100), st.integers(1, 1000), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_the_interval_of_a_quantile_holds_it(histogram: dict[int, int], q: float) -> None:
    found = quantile_interval(histogram, q)
    middle = quantile(histogram, q)
    assert middle is not None
    if found is not None:
        assert found[0] <= middle <= found[1]


def test_the_interval_of_a_quantile_covers_it_as_often_as_it_says() -> None:
    draws = stats.norm.rvs(loc=50, scale=8, size=(2000, 400), random_state=7).round().astype(int)
    truth = quantile({at: round(1e7 * p) for at, p in enumerate(stats.norm.pdf(range(101), 50, 8))}, 0.95)
    covered = 0
    for draw in draws:
        found = quantile_interval({int(at): int((draw == at).sum()) for at in set(draw.tolist())}, 0.95)
        covered += found is not None and truth is not None and found[0] <= truth <= found[1]
    assert 0.93 <= covered / len(draws) <= 0.97


def test_nothing_has_no_interval() -> None:
    assert share_interval(0, 0) is None
    assert quantile_interval({}, 0.95) is None
    assert quantile_interval({3: 5}, 0.95) is None  # five answers say little about the slowest twentieth
