"""Evidence: what one block says, what many say, and what is promised about both."""

from math import exp, inf, isfinite, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from rollout.analysis.evidence import (
    BETTER,
    MULTIPLES,
    WORSE,
    Counts,
    Margin,
    Noise,
    Process,
    bounded,
    log_ratios,
    placed,
    planned,
    unplaced,
)

TUNING = planned(40, may_retreat=True)
EXACT = Margin(1.2, 0.0)
USUAL = Margin(1.2, 0.001)
NUMBER = st.integers(0, 10**7)


@st.composite
def blocks(draw: st.DrawFn, most: int = 10**7) -> Counts:
    m, n = draw(st.integers(1, most)), draw(st.integers(1, most))
    return Counts(float(draw(st.integers(0, m))), float(m), float(draw(st.integers(0, n))), float(n))


def fed(counts: Counts, times: int, margin: Margin = USUAL) -> Process:
    process = Process()
    for minute in range(times):
        process = process.after(counts, margin, TUNING, minute=minute, prove=True)
    return process


@given(blocks(most=10**5), st.floats(0.05, 1.0), st.floats(1.0, 3.0), st.floats(0.0, 0.05))
def test_a_block_is_weighed_by_beta_binomial_likelihoods(
    counts: Counts, tau: float, ratio: float, slack: float
) -> None:
    z, m, x, n = counts
    y = z + slack * m / ratio
    theta0 = n * ratio / (n * ratio + m)
    kappa = 1 / (theta0 * (1 - theta0) * tau**2) - 1

    def likelihood(theta: float) -> float:
        a, b = theta * kappa, (1 - theta) * kappa
        return float(special.betaln(x + a, y + b) - special.betaln(a, b))

    for rho, gain in zip(MULTIPLES, log_ratios(counts, Margin(ratio, slack), tau), strict=True):
        expected = likelihood(n * ratio * rho / (n * ratio * rho + m)) - likelihood(theta0)
        assert gain == pytest.approx(expected, rel=1e-6, abs=1e-5)


@given(st.integers(1, 60), st.integers(1, 2000), st.integers(1, 2000), st.floats(0.05, 1.0))
@settings(max_examples=40)
def test_at_the_margin_a_block_is_expected_to_say_nothing(bad: int, m: int, n: int, tau: float) -> None:
    """Exact for allowance 0: the expectation of exp(gain) over x given x + y is 1, and capping only lowers it."""
    theta0 = n * 1.2 / (n * 1.2 + m)
    kappa = 1 / (theta0 * (1 - theta0) * tau**2) - 1
    xs = range(bad + 1)
    chances = stats.betabinom.pmf(list(xs), bad, theta0 * kappa, (1 - theta0) * kappa)
    gains = [log_ratios(Counts(bad - x, m, x, n), EXACT, tau) for x in xs]
    plain = [sum(p * exp(gain[k]) for p, gain in zip(chances, gains, strict=True)) for k in range(len(MULTIPLES))]
    assert plain == pytest.approx([1.0] * len(MULTIPLES), rel=1e-6)
    capped = [bounded(gain, TUNING, most=inf) for gain in gains]
    for k in range(len(WORSE)):
        assert sum(p * exp(gain[k]) for p, gain in zip(chances, capped, strict=True)) <= 1 + 1e-6


@given(blocks(), st.integers(1, 1000), st.floats(0.05, 1.0))
def test_more_bad_requests_never_speak_for_the_candidate(counts: Counts, more: int, tau: float) -> None:
    counts = counts._replace(n=counts.n + more)
    worse = counts._replace(x=counts.x + more)
    before = bounded(log_ratios(counts, USUAL, tau), TUNING, most=inf)
    after = bounded(log_ratios(worse, USUAL, tau), TUNING, most=inf)
    rounding = 1e-4  # lgamma of numbers near 1e9 and above cancels to about 1e-5
    assert all(high >= low - rounding for low, high in zip(before, after, strict=True))


@given(st.lists(blocks(), max_size=8))
def test_no_single_minute_decides_and_every_number_is_finite(sequence: list[Counts]) -> None:
    process = Process()
    for minute, counts in enumerate(sequence):
        before = process.evidence(TUNING.horizon)
        process = process.after(counts, USUAL, TUNING, minute=minute, prove=True)
        cap = 1.0 if minute < 2 else TUNING.strong_cap
        assert process.evidence(TUNING.horizon) <= before * exp(cap) + 1e-9
        assert isfinite(process.evidence(TUNING.horizon))
        assert isfinite(process.not_worse())
        assert 0.05 <= process.noise.tau(TUNING.tau) <= 1.0


def test_evidence_stays_finite_however_long_a_crash_lasts() -> None:
    """Each minute multiplies it by up to e^6."""
    crashed = fed(Counts(0, 1000, 1000, 1000), 200)
    assert crashed.evidence(TUNING.horizon) == pytest.approx(1e100, rel=0.01)
    assert crashed.suspicion() == pytest.approx(1e100)


@given(st.integers(1, 500), st.integers(0, 5000))
def test_the_prior_is_spent_once(horizon: int, blocks_seen: int) -> None:
    spent = sum(placed(block, horizon) for block in range(blocks_seen))
    assert spent + unplaced(blocks_seen, horizon) == pytest.approx(1.0, abs=1e-9)


def test_a_block_without_requests_on_one_side_says_nothing() -> None:
    process = fed(Counts(5, 1000, 5, 1000), 3)
    for silent in (Counts(0, 0, 5, 100), Counts(5, 100, 0, 0), Counts(0, 0, 0, 0)):
        assert process.after(silent, USUAL, TUNING, minute=9, prove=True) is process


@pytest.mark.parametrize("strange", [nan, inf, -inf])
@pytest.mark.parametrize("place", range(4))
def test_a_block_whose_counts_are_no_numbers_says_nothing(strange: float, place: int) -> None:
    process, counts = fed(Counts(5, 1000, 5, 1000), 3), [5.0, 1000.0, 5.0, 1000.0]
    counts[place] = strange
    assert process.after(Counts(*counts), USUAL, TUNING, minute=9, prove=True) is process


def test_before_any_block_the_evidence_is_one() -> None:
    assert Process().evidence(TUNING.horizon) == 1.0
    assert Process().not_worse() == 1.0
    assert Process().fault_since() is None


def test_a_worse_candidate_is_found_and_an_equal_one_is_shown_to_be_not_worse() -> None:
    worse, equal = fed(Counts(30, 3000, 180, 3000), 4), fed(Counts(30, 3000, 30, 3000), 18)
    assert worse.evidence(TUNING.horizon) > 20
    assert worse.not_worse() < 1
    assert equal.evidence(TUNING.horizon) < 0.7
    assert equal.not_worse() > 20


def test_both_getting_worse_together_is_no_evidence() -> None:
    process = fed(Counts(30, 3000, 30, 3000), 5)
    for minute in range(5, 12):
        process = process.after(Counts(900, 3000, 900, 3000), USUAL, TUNING, minute=minute, prove=True)
    assert process.evidence(TUNING.horizon) < 1


@pytest.mark.parametrize("onset", [0, 5, 20])
def test_the_change_point_names_the_first_bad_minute(onset: int) -> None:
    process = Process()
    for minute in range(onset + 5):
        counts = Counts(30, 3000, 180 if minute >= onset else 30, 3000)
        process = process.after(counts, USUAL, TUNING, minute=100 + minute, prove=True)
    assert process.fault_since() == 100 + onset


def test_a_fault_after_the_planned_end_is_still_found() -> None:
    process = fed(Counts(30, 3000, 30, 3000), 3 * TUNING.horizon)
    for minute in range(8):
        process = process.after(Counts(30, 3000, 180, 3000), USUAL, TUNING, minute=1000 + minute, prove=True)
    assert process.evidence(TUNING.horizon) > 20


def test_the_spread_between_minutes_is_learned() -> None:
    quiet, harsh = Noise(), Noise()
    for step in range(40):
        quiet = quiet.after(Counts(100, 10_000, 100, 10_000), 0.3)
        harsh = harsh.after(Counts(100, 10_000, 300 if step % 2 else 33, 10_000), 0.3)
    assert quiet.tau(0.3) < 0.15
    assert harsh.tau(0.3) > 0.5
    assert Noise().tau(0.3) == pytest.approx(0.3)
    assert Noise().tau(0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(("per_minute", "share", "base"), [(600, 0.1, 0.01), (6000, 0.5, 0.01), (60_000, 0.05, 0.001)])
def test_a_candidate_exactly_at_the_margin_fails_at_most_as_often_as_alpha(
    per_minute: int, share: float, base: float
) -> None:
    rng = np.random.default_rng(20)
    failed, rounds = 0, 300
    for _ in range(rounds):
        process = Process()
        highest = 0.0
        for minute in range(40):
            m, n = rng.poisson(per_minute * (1 - share)), rng.poisson(per_minute * share)
            moving = base * np.exp(0.4 * np.sin(minute / 5))  # stable's rate may move as it likes
            counts = Counts(rng.binomial(m, moving), m, rng.binomial(n, 1.2 * moving + 0.001), n)
            process = process.after(counts, USUAL, TUNING, minute=minute, prove=False)
            highest = max(highest, process.evidence(TUNING.horizon))
        failed += highest >= 20
    assert failed <= 0.05 * rounds


def test_not_worse_is_rarely_shown_of_a_candidate_at_the_margin() -> None:
    rng = np.random.default_rng(21)
    shown = 0
    for _ in range(300):
        process, highest = Process(), 0.0
        for minute in range(20):
            counts = Counts(rng.binomial(3000, 0.01), 3000, rng.binomial(3000, 0.013), 3000)
            process = process.after(counts, USUAL, TUNING, minute=minute, prove=True)
            highest = max(highest, process.not_worse())
        shown += highest >= 20
    assert shown <= 15
    assert len(process.proof) == len(BETTER)
