"""The engine says, for many rollouts at once, what the scalar evidence says of each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.analysis import evidence
from rollout.analysis.engine import Processes, likelihood
from rollout.analysis.evidence import Counts, Margin, Process, planned

MARGINS = (Margin(1.2, 0.001), Margin(1.0, 0.001), Margin(1.2, 0.0))


@given(
    seed=st.integers(0, 2**32 - 1),
    per_minute=st.sampled_from([5.0, 60.0, 600.0, 60_000.0]),
    share=st.floats(0.02, 0.95),
    rate=st.sampled_from([0.0, 0.001, 0.02, 0.4]),
    may_retreat=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_engine_agrees_with_the_scalar_evidence(
    seed: int, per_minute: float, share: float, rate: float, may_retreat: bool
) -> None:
    rng = np.random.default_rng(seed)
    tuning, rollouts, blocks = planned(10, may_retreat=may_retreat), 4, 50
    engine = Processes(MARGINS, tuning, rollouts)
    scalar = [[Process() for _ in range(rollouts)] for _ in MARGINS]
    for minute in range(blocks):
        shape = (len(MARGINS), rollouts)
        m, n = rng.poisson(per_minute * (1 - share), shape), rng.poisson(per_minute * share, shape)
        z, x = rng.binomial(m, rate), rng.binomial(n, np.minimum(1.0, rate * rng.lognormal(0.3, 0.5, shape)))
        prove = rng.random(rollouts) < 0.8
        if minute == 20:
            again = rng.random(rollouts) < 0.5
            engine.unproven(again)
            scalar = [[one.unproven() if again[r] else one for r, one in enumerate(row)] for row in scalar]
        engine.take(*(part.astype(float) for part in (z, m, x, n)), prove)
        for c, margin in enumerate(MARGINS):
            for r in range(rollouts):
                counts = Counts(float(z[c, r]), float(m[c, r]), float(x[c, r]), float(n[c, r]))
                scalar[c][r] = scalar[c][r].after(counts, margin, tuning, minute=minute, prove=bool(prove[r]))
    close = 1e-9 if per_minute * rate < 10_000 else 1e-7  # scalar lgammas of such numbers cancel to 1e-10 a block
    ours, not_worse, suspicion, tau = engine.evidence(), engine.not_worse(), engine.suspicion(), engine.tau()
    for c in range(len(MARGINS)):
        for r in range(rollouts):
            process = scalar[c][r]
            assert ours[c, r] == pytest.approx(process.evidence(tuning.horizon), rel=close)
            assert not_worse[c, r] == pytest.approx(process.not_worse(), rel=close)
            assert suspicion[c, r] == pytest.approx(process.suspicion(), rel=close)
            assert tau[c, r] == pytest.approx(process.noise.tau(tuning.tau), rel=1e-9)
            assert engine.blocks[c, r] == process.blocks


def test_the_greatest_spread_between_minutes_is_the_same_in_arrays() -> None:
    """All fails on one of the two and nothing on the other, and then the other way round."""
    tuning, margin = planned(10, may_retreat=True), MARGINS[0]
    engine, scalar = Processes([margin], tuning, 1), Process()
    for minute in range(40):
        counts = Counts(30.0 if minute % 2 else 0.0, 1000.0, 0.0 if minute % 2 else 30.0, 1000.0)
        engine.take(*(np.full((1, 1), count) for count in counts), np.array([True]))
        scalar = scalar.after(counts, margin, tuning, minute=minute, prove=True)
    assert scalar.noise.tau(tuning.tau) == 1.0
    assert engine.tau() == pytest.approx(1.0)
    assert engine.evidence() == pytest.approx(scalar.evidence(tuning.horizon))


@given(st.integers(0, 10**6), st.floats(0.05, 1.0), st.sampled_from([3, 5000]))
@settings(max_examples=30, deadline=None)
def test_a_single_block_is_as_likely_in_arrays(seed: int, tau: float, most: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = rng.integers(0, most, (2, 3, 4)).astype(float) * (rng.random((2, 3, 4)) < 0.9)
    z, x = np.floor(m * rng.random((3, 4))), np.floor(n * rng.random((3, 4)))
    ratio, allowance = (np.array([[getattr(margin, name)] for margin in MARGINS]) for name in ("ratio", "allowance"))
    found = likelihood(z, m, x, n, ratio=ratio, allowance=allowance, tau=np.full((3, 4), tau))
    for c, margin in enumerate(MARGINS):
        for r in range(4):
            counts = Counts(z[c, r], m[c, r], x[c, r], n[c, r])
            assert found[c, r] == pytest.approx(evidence.likelihood(counts, margin, tau), rel=1e-8)


@pytest.mark.parametrize("place", range(4))
def test_a_minute_that_is_no_number_says_nothing_in_arrays(place: int) -> None:
    engine = Processes(MARGINS, planned(50, may_retreat=True), 2)
    block = [np.full((3, 2), count) for count in (5.0, 1000.0, 6.0, 1000.0)]
    engine.take(*block, np.array([True, True]))
    before = [part.copy() for part in (engine.evidence(), engine.suspicion(), engine.not_worse(), engine.tau())]
    block[place][:, 0] = np.nan
    engine.take(*block, np.array([True, True]))
    after = engine.evidence(), engine.suspicion(), engine.not_worse(), engine.tau()
    for was, now in zip(before, after, strict=True):
        assert now[:, 0] == pytest.approx(was[:, 0], rel=0)
        assert (now[:, 1] != was[:, 1]).all()


def test_rollouts_that_are_done_leave_the_others_as_they_are() -> None:
    tuning = planned(50, may_retreat=True)
    both, one = Processes(MARGINS, tuning, 2), Processes(MARGINS, tuning, 1)
    block = [np.array([[3.0, 7.0]] * 3), np.full((3, 2), 900.0), np.array([[1.0, 2.0]] * 3), np.full((3, 2), 100.0)]
    both.take(*block, np.array([True, True]))
    both.keep(np.array([False, True]))
    both.take(*(part[:, 1:] for part in block), np.array([True]))
    for _ in range(2):
        one.take(*(part[:, 1:] for part in block), np.array([True]))
    assert both.evidence() == pytest.approx(one.evidence(), rel=0)
    assert both.not_worse() == pytest.approx(one.not_worse(), rel=0)


@given(
    seed=st.integers(0, 2**32 - 1),
    bad=st.floats(0.3, 2000.0),
    share=st.floats(0.02, 0.95),
    tau=st.sampled_from([0.0, 0.1, 0.3]),
    may_retreat=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_at_the_margin_evidence_rarely_reaches_what_fails(
    seed: int, bad: float, share: float, tau: float, may_retreat: bool
) -> None:
    """Exactly at the margin, with minutes that differ by the stated law: at most alpha ever fail (Ville)."""
    rng, rollouts, alpha = np.random.default_rng(seed), 400, 0.05
    margin = Margin(1.2, 0.0)
    n, m = np.full((1, rollouts), 1e6 * share), np.full((1, rollouts), 1e6 * (1 - share))
    theta = n * margin.ratio / (n * margin.ratio + m)
    engine, failed = Processes([margin], planned(50, may_retreat=may_retreat), rollouts), np.zeros(rollouts, bool)
    for _ in range(60):
        total = rng.poisson(bad * rng.lognormal(0.0, 0.4), (1, rollouts))  # both deployments drift alike
        kappa = 1 / (theta * (1 - theta) * tau**2) - 1 if tau else None
        part = rng.beta(theta * kappa, (1 - theta) * kappa) if kappa is not None else theta
        x = rng.binomial(total, part).astype(float)
        engine.take(total - x, m, x, n, np.ones(rollouts, bool))
        failed |= engine.evidence()[0] >= 1 / alpha
    assert failed.mean() <= alpha + 3 * (alpha * (1 - alpha) / rollouts) ** 0.5
