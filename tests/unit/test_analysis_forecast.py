"""The closed form in its parts: what one minute says of a fault, after how many it is seen, and the traffic behind it."""

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest

from rollout.analysis.cells import Cell, bucket, edge, quantile
from rollout.analysis.evidence import CAUTIOUS_BLOCKS, CAUTIOUS_CAP, Margin, planned
from rollout.analysis.forecast import Comparison, Exposure, slow_share, some
from rollout.analysis.profile import DAY, HOUR, given, log_normal, profile_of

ONE = Comparison(
    margin=Margin(ratio=1.2, allowance=0.005),
    tuning=planned(60, may_retreat=True),
    threshold=log(5 / (0.05 * 0.5)),
    tau=1e-6,
    baseline=0.01,
    candidate=1.0,
)


def with_share(candidate: float, **changes: float) -> Comparison:
    return replace(ONE, candidate=candidate, **changes)  # type: ignore[arg-type]


# --- what a minute says


@pytest.mark.parametrize("share", [0.0, 0.01, 0.017])
def test_up_to_the_margin_a_minute_says_nothing_against_the_candidate(share: float) -> None:
    """The margin is 1.2 times 1 % and 0.5 pp."""
    assert with_share(share).block(900.0, 100.0) == (0.0, 0.0)
    assert not with_share(share).sees([Exposure(minutes=1e4, baseline=900.0, candidate=100.0)], z=0.0)


@pytest.mark.parametrize(("asked", "others"), [(0.0, 100.0), (100.0, 0.0)])
def test_a_minute_of_one_alone_says_nothing(asked: float, others: float) -> None:
    assert ONE.block(asked, others) == (0.0, 0.0)


@pytest.mark.parametrize(("multiple", "rho"), [(1.5, 1.5), (2.5, 2.5), (5.0, 5.0)])
def test_a_minute_says_what_a_draw_says_on_average(multiple: float, rho: float) -> None:
    """Of x bad requests beside y of stable's (with the allowance), the ratio of two binomial likelihoods."""
    share, rng = multiple * 0.017, np.random.default_rng(1)
    margin, alternative = (1.2 * part / (1.2 * part + 90.0) for part in (10.0, 10.0 * rho))
    x, y = rng.poisson(10.0 * share, 200_000), rng.poisson(90.0 * (0.01 + 0.005 / 1.2), 200_000)
    drawn = x * log(alternative / margin) + y * log((1.0 - alternative) / (1.0 - margin))
    mean, variance = with_share(share).block(90.0, 10.0)
    assert mean == pytest.approx(drawn.mean(), rel=0.05)
    assert variance <= drawn.var()  # given how many are bad, it varies less


def test_a_minute_says_no_more_than_its_cap() -> None:
    assert with_share(1.0).block(9e4, 1e4)[0] == pytest.approx(6.0)
    assert with_share(0.017 * 5).block(9e6, 1e6)[0] == pytest.approx(3.0)


def test_spread_between_minutes_makes_many_bad_requests_count_for_fewer() -> None:
    said = [with_share(0.03, tau=tau).block(9000.0, 1000.0)[0] for tau in (1e-6, 0.1, 0.3, 0.8)]
    assert said == sorted(said, reverse=True)
    assert said[0] > 2 * said[2]


# --- when it is seen


def test_the_first_minutes_of_a_crash_are_taken_with_caution() -> None:
    """Two minutes that say 1 each, and then as many as the cap lets them."""
    exposure = Exposure(minutes=60.0, baseline=9e4, candidate=1e4)
    expected = CAUTIOUS_BLOCKS + (ONE.threshold - CAUTIOUS_BLOCKS * CAUTIOUS_CAP) / ONE.tuning.strong_cap
    assert ONE.minutes([exposure]) == pytest.approx(expected, abs=0.01)


def test_the_minutes_under_several_shares_add_up() -> None:
    small, large = (Exposure(minutes=1.0, baseline=9e4 * part, candidate=1e4 * part) for part in (1.0, 2.0))
    whole = replace(small, minutes=60.0)
    assert ONE.minutes([small, replace(large, minutes=59.0)]) == pytest.approx(ONE.minutes([whole]), abs=0.01)
    assert ONE.minutes([small]) is None


def test_to_be_sure_takes_longer_than_on_average() -> None:
    fault = with_share(0.034)
    exposure = Exposure(minutes=1.0, baseline=900.0, candidate=100.0)
    average = fault.minutes([replace(exposure, minutes=500.0)])
    assert average is not None
    assert fault.sees([replace(exposure, minutes=average + 0.1)], z=0.0)
    assert not fault.sees([replace(exposure, minutes=average + 0.1)])
    assert fault.sees([replace(exposure, minutes=3.0 * average)])


def test_minutes_in_which_one_is_asked_nothing_do_not_count() -> None:
    thin = Exposure(minutes=100.0, baseline=1e4, candidate=0.5)
    told = thin.told()
    assert told.minutes == pytest.approx(100.0 * (1.0 - exp(-0.5)))
    assert told.minutes * told.candidate == pytest.approx(50.0)  # no request is lost
    assert some(0.0) == 0.0


# --- durations and traffic


def test_the_share_of_slow_requests_is_that_of_the_histogram() -> None:
    slow = {bucket(100.0): 900, bucket(1000.0): 100}
    assert slow_share(slow, 500.0) == pytest.approx(0.1)
    assert slow_share(slow, 5000.0) == 0.0
    assert slow_share(slow, 1.5) == pytest.approx(1.0)
    assert slow_share({bucket(1.0): 900, bucket(1000.0): 100}, 1.9) < 0.5  # a bar between 1 and 2 ms is one, too
    assert slow_share({}, 500.0) == 0.0
    assert slow_share({}, 1.0) == 1.0


@pytest.mark.parametrize("p95", [20.0, 200.0, 4000.0])
def test_durations_that_are_made_up_are_log_normal_with_this_p95(p95: float) -> None:
    found = log_normal(p95)
    assert quantile(found, 0.95) == pytest.approx(p95, rel=0.05)
    assert quantile(found, 0.5) == pytest.approx(p95 * exp(-0.5 * 1.645), rel=0.05)
    assert sum(found.values()) == pytest.approx(1_000_000, rel=1e-3)
    assert edge(min(found)) < p95 < edge(max(found))
    assert min(found.values()) > 0


def test_what_is_not_said_of_an_endpoint_is_the_usual() -> None:
    usual = given(per_second=2.0, error_rate=None, p95=None)
    assert (usual.mean, usual.rate(0), usual.rate(5 * DAY)) == (120.0, 120.0, 120.0)
    assert (usual.error_rate, usual.client_error_rate, usual.days, usual.lag) == (0.005, 0.01, 0.0, 10)
    assert usual.p95 == pytest.approx(200.0, rel=0.05)
    assert (usual.tau, usual.latency_tau) == (0.3, 0.15)
    said = given(per_second=1.0, error_rate=0.0, p95=50.0, lag=3)
    assert (said.error_rate, said.lag) == (0.0, 3)
    assert said.p95 == pytest.approx(50.0, rel=0.05)


def restless(spread: float, *, count: int = 2000, slow: bool = False) -> dict[int, Cell]:
    """Minutes of an endpoint whose share of errors, or of slow answers, wanders by this spread (sd of its log)."""
    rng = np.random.default_rng(4)
    cells = {}
    for minute in range(count):
        bad = int(rng.poisson(500 * rng.lognormal(0.0, spread)))
        good = {bucket(50.0): 9_400, bucket(400.0): bad if slow else 0}
        cells[minute] = Cell(histograms={"ok": good, "5xx": {0: 0 if slow else bad}})
    return cells


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.5])
def test_the_spread_between_minutes_is_learned_from_pairs_of_them(spread: float) -> None:
    """The log-ratio of two minutes varies with twice the variance of one."""
    found = profile_of(restless(spread), range(2000))
    assert found is not None
    assert found.tau == pytest.approx(spread * sqrt(2.0), rel=0.25)
    assert found.latency_tau < 0.15


def test_the_spread_of_slow_answers_is_its_own() -> None:
    found = profile_of(restless(0.4, slow=True), range(2000))
    assert found is not None
    assert found.latency_tau == pytest.approx(0.4 * sqrt(2.0), rel=0.3)


def test_minutes_without_a_neighbour_teach_no_spread() -> None:
    cells = {minute: cell for minute, cell in restless(0.5).items() if minute % 2 == 0}
    found = profile_of(cells, range(2000))
    assert found is not None
    assert [found.tau, found.latency_tau] == pytest.approx([0.3, 0.15])


def test_hours_that_were_not_looked_at_count_as_the_mean_of_the_others() -> None:
    one = Cell(histograms={"ok": {bucket(50.0): 90}, "5xx": {0: 5}, "model_4xx": {0: 5}})
    cells = dict.fromkeys(range(HOUR), one)
    found = profile_of(cells, range(2 * HOUR), lag=4, begins=30, days=0.5)
    assert found is not None
    assert (found.per_minute[0], found.per_minute[1], found.per_minute[2]) == (100.0, 0.0, 50.0)
    assert (found.minutes, found.lag, found.begins, found.days) == (2 * HOUR, 4, 30, 0.5)
    assert found.durations == {bucket(50.0): 90 * HOUR}
    assert found.p95 == pytest.approx(50.0, rel=0.1)
    assert found.error_rate == pytest.approx((5 * HOUR + 0.5) / (100 * HOUR + 1))
    assert found.client_error_rate == pytest.approx((5 * HOUR + 0.5) / (100 * HOUR + 1))
    assert (found.rate(0), found.rate(29), found.rate(30), found.rate(90)) == (100.0, 100.0, 0.0, 50.0)
    assert (found.same_for(0), found.same_for(29), found.same_for(30)) == (30, 1, 60)


@pytest.mark.parametrize(("requests", "enough"), [(99, False), (100, True)])
def test_a_hundred_requests_make_a_profile(requests: int, enough: bool) -> None:
    found = profile_of({0: Cell(histograms={"ok": {bucket(50.0): requests}})}, range(60))
    assert (found is not None) is enough
