"""What the judge promises, held against the stated model: at the margin a block is expected to say nothing, and a rollout
fails at most as often as alpha allows, whatever the traffic, the split, the rate and their movement.

Expectations are exact sums (what is left out of a tail is below 1e-9). Frequencies are seeded simulations: a judge that
keeps its promise breaks one of these bounds once in a million examples (`SURELY`).
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite, log10

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from rollout.analysis import engine
from rollout.analysis.bounds import beta_share, highest_share, quantile_interval, surely_above
from rollout.analysis.cells import Cell
from rollout.analysis.engine import Processes
from rollout.analysis.evidence import BETTER, MULTIPLES, WORSE, Counts, Margin, Process, log_ratios, planned
from rollout.analysis.verdict import Judgement, Series, begin, judge
from tests.support.judging import START, cell, logs, policy, stage

Array = NDArray[np.float64]
ALPHA, BETA = 0.05, 0.05
SURELY = 1e-6
#: Errors as by default, latency as by default, and the form that is exact.
MARGINS = (Margin(1.2, 0.001), Margin(1.0, 0.001), Margin(1.2, 0.0))
LEARNED = st.floats(0.05, 0.3)  # spreads between minutes up to what is expected before any was seen


def exponent(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers that are as likely small as large."""
    return st.floats(log10(low), log10(high)).map(lambda at: 10.0**at)


# --- one block -----------------------------------------------------------------------------------------------------


def likely(n: int, rate: float) -> tuple[Array, Array]:
    """All counts of n that are not out of the question, and their chances."""
    low, high = stats.binom.ppf([5e-11, 1 - 5e-11], n, rate)
    counts = np.arange(low, high + 1)
    return counts, stats.binom.pmf(counts, n, rate)


def expected(n: int, m: int, rate: float, margin: Margin, tau: float, *, may_retreat: bool) -> tuple[Array, Array]:
    """E[e] of one block at the exact margin, by WORSE as it is bounded, and by BETTER."""
    tuning = planned(40, may_retreat=may_retreat)
    (zs, of_z), (xs, of_x) = likely(m, rate), likely(n, min(1.0, margin.ratio * rate + margin.allowance))
    z, x = np.meshgrid(zs, xs, indexing="ij")
    given = {"ratio": np.array(margin.ratio), "allowance": np.array(margin.allowance), "tau": np.array(tau)}
    gains = engine.log_ratios(z, np.full_like(z, m), x, np.full_like(x, n), **given)
    better = np.minimum(gains[len(WORSE) :], tuning.mild_cap)
    says = np.exp(np.concatenate([engine._bounded(gains[: len(WORSE)], tuning), better]))
    found = np.einsum("kzx,z,x->k", says, of_z, of_x)
    return found[: len(WORSE)], found[len(WORSE) :]


@given(
    per_minute=exponent(2, 1e5),
    share=st.floats(0.01, 0.99),
    rate=exponent(1e-4, 0.3),
    margin=st.sampled_from(MARGINS),
    tau=LEARNED,
    may_retreat=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_at_the_margin_no_alternative_expects_to_gain(
    per_minute: float, share: float, rate: float, margin: Margin, tau: float, may_retreat: bool
) -> None:
    """Exact sum over what chance may show of a block: whatever rate both share, so also while it moves."""
    n, m = max(1, round(per_minute * share)), max(1, round(per_minute * (1 - share)))
    rate = min(rate, 1500 / max(n, m))  # keeps the sum short: above it, see the simulations
    worse, better = expected(n, m, rate, margin, tau, may_retreat=may_retreat)
    assert worse.max() <= 1 + 1e-8
    assert better.max() <= 1 + 1e-8


@given(
    per_minute=exponent(2, 1e5),
    share=st.floats(0.01, 0.99),
    rate=exponent(1e-4, 0.3),
    margin=st.sampled_from(MARGINS),
    tau=st.floats(0.3, 1.0),
)
@settings(max_examples=40, deadline=None)
def test_a_block_says_nothing_on_average_whatever_spread_was_learned(
    per_minute: float, share: float, rate: float, margin: Margin, tau: float
) -> None:
    """Where minutes differ less than is believed a mild alternative may gain a little; E still does not, N hardly."""
    n, m = max(1, round(per_minute * share)), max(1, round(per_minute * (1 - share)))
    rate = min(rate, 1500 / max(n, m))
    worse, better = expected(n, m, rate, margin, tau, may_retreat=True)
    assert worse.mean() <= 1 + 1e-8
    assert better.mean() <= 1.005


# --- whole rollouts ------------------------------------------------------------------------------------------------


class World:
    """Rollouts of a candidate that sits exactly at its margin, in minutes that both deployments share.

    The shared rate wanders, bursts and jumps; the split changes as in steps and retreats; traffic has its tides.
    """

    def __init__(
        self, seed: int, *, per_minute: float, share: float, rate: float, movement: float, rollouts: int
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.per_minute, self.rate, self.movement, self.rollouts = per_minute, rate, movement, rollouts
        self.wander = np.zeros(rollouts)
        self.share = np.full(rollouts, share)

    def minute(self, margins: tuple[Margin, ...], tau: float) -> tuple[Array, Array, Array, Array]:
        """z, m, x, n by margin and rollout: one deployment's requests are one set, whatever is checked of them.

        `tau`: sd of what the candidate's rate has of its own in each minute, as the stated model says it: given x + z,
        the candidate's part is beta-binomial around its part at the margin.
        """
        rng, size = self.rng, self.rollouts
        self.wander = 0.9 * self.wander + self.movement * rng.normal(size=size)
        burst = np.where(rng.random(size) < 0.03, 1.5 * self.movement, 0.0)
        rate = np.minimum(self.rate * np.exp(self.wander + burst), 0.4)
        jumps = rng.random(size) < 0.1
        self.share = np.where(jumps, rng.uniform(0.01, 0.99, size), self.share)
        tide = self.per_minute * rng.lognormal(0.0, 0.25, size)
        m, n = rng.poisson(tide * (1 - self.share)), rng.poisson(tide * self.share)
        z, x = np.empty((len(margins), size)), np.empty((len(margins), size))
        for c, margin in enumerate(margins):
            z[c] = rng.binomial(m, rate)
            x[c] = rng.binomial(n, np.minimum(1.0, margin.ratio * rate + margin.allowance))
            if tau:
                z[c], x[c] = self._spread(z[c] + x[c], m, n, margin, tau)
        return z, np.broadcast_to(m, z.shape).astype(float), x, np.broadcast_to(n, x.shape).astype(float)

    def _spread(self, bad: Array, m: Array, n: Array, margin: Margin, tau: float) -> tuple[Array, Array]:
        theta = (n * margin.ratio + 1e-9) / (n * margin.ratio + m + 2e-9)
        kappa = 1 / (theta * (1 - theta) * tau**2) - 1
        x = np.minimum(self.rng.binomial(bad.astype(int), self.rng.beta(theta * kappa, (1 - theta) * kappa)), n)
        return np.minimum(bad - x, m), x


def most(alpha: float, rollouts: int) -> int:
    """As many of the rollouts may fail by chance alone, but for once in a million."""
    return int(stats.binom.ppf(1 - SURELY, rollouts, alpha))


ROLLOUTS, MINUTES = 2000, 50
AT_THE_MARGIN = {
    "seed": st.integers(0, 2**32 - 1),
    "per_minute": exponent(1, 1e5),
    "share": st.floats(0.01, 0.99),
    "rate": exponent(1e-4, 0.3),
    "movement": st.sampled_from([0.0, 0.1, 0.4]),
}


@given(**AT_THE_MARGIN, may_retreat=st.booleans())
@settings(max_examples=8, deadline=None)
def test_at_the_margin_a_rollout_rarely_fails_and_is_rarely_shown_not_worse(
    seed: int, per_minute: float, share: float, rate: float, movement: float, may_retreat: bool
) -> None:
    """Each check alone, however often one looks: E reaches 1/alpha at most in alpha of the rollouts, N 1/beta in beta."""
    world = World(seed, per_minute=per_minute, share=share, rate=rate, movement=movement, rollouts=ROLLOUTS)
    found = Processes(MARGINS, planned(40, may_retreat=may_retreat), ROLLOUTS)
    failed, proven = (np.zeros((len(MARGINS), ROLLOUTS), bool) for _ in range(2))
    for _ in range(MINUTES):
        found.take(*world.minute(MARGINS, tau=0.0), np.ones(ROLLOUTS, bool))
        failed |= found.evidence() >= 1 / ALPHA
        proven |= found.not_worse() >= 1 / BETA
    assert failed.sum(axis=1).max() <= most(ALPHA, ROLLOUTS)
    assert proven.sum(axis=1).max() <= most(BETA, ROLLOUTS)


@given(**AT_THE_MARGIN, tau=st.sampled_from([0.05, 0.15, 0.3]))
@settings(max_examples=8, deadline=None)
def test_minutes_that_differ_by_the_stated_law_fail_no_more_rollouts(
    seed: int, per_minute: float, share: float, rate: float, movement: float, tau: float
) -> None:
    world = World(seed, per_minute=per_minute, share=share, rate=rate, movement=movement, rollouts=ROLLOUTS)
    margins = (Margin(1.2, 0.0), Margin(1.0, 0.0))  # with an allowance the law is stated of no counts
    found = Processes(margins, planned(40, may_retreat=True), ROLLOUTS)
    failed = np.zeros((len(margins), ROLLOUTS), bool)
    for _ in range(MINUTES):
        found.take(*world.minute(margins, tau), np.ones(ROLLOUTS, bool))
        failed |= found.evidence() >= 1 / ALPHA
    assert failed.sum(axis=1).max() <= most(ALPHA, ROLLOUTS)


@given(**AT_THE_MARGIN)
@settings(max_examples=5, deadline=None)
def test_many_checks_and_sources_share_one_alpha(
    seed: int, per_minute: float, share: float, rate: float, movement: float
) -> None:
    """All checks of both sources at their margins at once; the sources show the same requests, one of them late."""
    world = World(seed, per_minute=per_minute, share=share, rate=rate, movement=movement, rollouts=ROLLOUTS)
    tuning = planned(40, may_retreat=True)
    fast, slow = Processes(MARGINS[:1], tuning, ROLLOUTS), Processes(MARGINS, tuning, ROLLOUTS)
    failed, waiting = np.zeros(ROLLOUTS, bool), []
    for _ in range(MINUTES):
        block = world.minute(MARGINS, tau=0.0)
        fast.take(*(part[:1] for part in block), np.ones(ROLLOUTS, bool))
        waiting.append(block)
        if len(waiting) > 5:
            slow.take(*waiting.pop(0), np.ones(ROLLOUTS, bool))
        loudest = np.maximum(0.5 * fast.evidence()[0], 0.5 * (np.array([0.5, 0.25, 0.25]) @ slow.evidence()))
        failed |= loudest >= 1 / ALPHA
    assert failed.sum() <= most(ALPHA, ROLLOUTS)


def test_a_simulation_that_breaks_the_margin_is_noticed() -> None:
    """The bounds above can fail: a candidate a third above its margin crosses them."""
    world = World(5, per_minute=5000, share=0.3, rate=0.02, movement=0.1, rollouts=500)
    found = Processes((Margin(1.2, 0.0),), planned(40, may_retreat=True), 500)
    failed = np.zeros(500, bool)
    for _ in range(MINUTES):
        found.take(*world.minute((Margin(1.6, 0.0),), tau=0.0), np.ones(500, bool))
        failed |= found.evidence()[0] >= 1 / ALPHA
    assert failed.sum() > most(ALPHA, 500)


# --- numbers -------------------------------------------------------------------------------------------------------


@given(
    m=st.integers(1, 10**5),
    n=st.integers(1, 10**5),
    z=st.integers(0, 3000),
    x=st.integers(0, 3000),
    ratio=st.floats(1, 3),
    tau=st.floats(0.05, 1),
)
@settings(max_examples=100, deadline=None)
def test_a_block_is_weighed_as_scipys_beta_binomial_says(
    m: int, n: int, z: int, x: int, ratio: float, tau: float
) -> None:
    z, x = min(z, m), min(x, n)
    theta = n * ratio / (n * ratio + m)
    kappa = 1 / (theta * (1 - theta) * tau**2) - 1
    parts = [n * ratio * rho / (n * ratio * rho + m) for rho in MULTIPLES]
    told = [stats.betabinom.logpmf(x, x + z, part * kappa, (1 - part) * kappa) for part in [theta, *parts]]
    found = log_ratios(Counts(z, m, x, n), Margin(ratio, 0.0), tau)
    assert found == pytest.approx([one - told[0] for one in told[1:]], rel=1e-6, abs=1e-6)


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0.001, 0.999))
@settings(deadline=None)
def test_the_lower_bound_of_a_share_is_clopper_and_pearsons(n: int, part: float, limit: float) -> None:
    bad = round(n * part)
    low = stats.binomtest(bad, n).proportion_ci(0.9, method="exact").low
    if abs(low - limit) > 1e-5:
        assert surely_above(bad, n, limit) == (low > limit)


@given(exponent(0.5, 1e9), exponent(0.5, 1e9), st.floats(0, 1))
def test_the_incomplete_beta_function_is_a_distribution(a: float, b: float, x: float) -> None:
    assert 0.0 <= beta_share(a, b, x) <= 1.0
    assert beta_share(a, b, x) == pytest.approx(1.0 - beta_share(b, a, 1.0 - x), abs=1e-6)
    assert (beta_share(a, b, 0.0), beta_share(a, b, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_the_interval_of_a_quantile_has_the_ranks_of_the_normal_law(q: float) -> None:
    """One duration per bucket, so that a rank is a bucket: the bounds lie 1.96 standard errors of the rank away."""
    n = 10_000
    low, high = quantile_interval(dict.fromkeys(range(n // 10), 10), q) or (0.0, 0.0)
    spread = float(stats.norm.ppf(0.975)) * (q * (1 - q) / n) ** 0.5
    for bound, rank in ((low, q - spread), (high, q + spread)):
        assert 8 * np.log2(bound) == pytest.approx(rank * n / 10, abs=1e-6)


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_the_highest_share_leaves_a_twentieth_to_chance(n: int, part: float) -> None:
    """Wilson's bound is the share of which so few bad requests are as unlikely as 5 %, by the normal law."""
    bad = round(n * part)
    high = highest_share(bad, n)
    if bad < n and high < 1.0:
        score = (high - bad / n) / (high * (1 - high) / n) ** 0.5
        assert stats.norm.sf(score) == pytest.approx(0.05, abs=1e-4)


# --- edges of what may be shown ------------------------------------------------------------------------------------

ONE = policy(expert={"evidence": ["logs"]})
HISTORY = dict.fromkeys(range(START - 60, START), cell(990, bad=10, client=3))
CELLS = st.builds(
    cell,
    ok=st.integers(0, 2000),
    bad=st.integers(0, 60),
    client=st.integers(0, 60),
    gone=st.integers(0, 20),
    ms=st.floats(1, 5000),
)
SHOWN = st.dictionaries(st.integers(START, START + 14), CELLS, max_size=15)


def judged(judgement: Judgement, series: Series, now: int) -> Judgement:
    return judge(judgement, policy=ONE, stage=stage(), series=[series], now=now)[0]


def until(cells: Mapping[int, Cell], end: int) -> dict[int, Cell]:
    return {minute: one for minute, one in cells.items() if minute < end}


@given(baseline=SHOWN, candidate=SHOWN, ends=st.sets(st.integers(1, 14), max_size=6), chance=st.randoms())
@settings(max_examples=60, deadline=None)
def test_however_the_minutes_come_the_judgement_is_the_same(
    baseline: dict[int, Cell], candidate: dict[int, Cell], ends: set[int], chance: object
) -> None:
    """In any order, at once or in looks of any size, each look twice, also with a clock that went back in between."""
    closed = START + 15
    whole = judged(begin(ONE), logs(baseline, candidate, closed_before=closed, history=HISTORY), closed)
    shuffled = list(baseline.items())
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    judgement = begin(ONE)
    for end in [*(START + end for end in sorted(ends)), closed]:
        shown = logs(until(dict(shuffled), end), until(candidate, end), closed_before=end, history=HISTORY)
        once = judged(judgement, shown, end)
        assert judged(once, shown, end) == once
        back = replace(shown, closed_before=START - 500)
        assert judged(once, back, START - 500) == once
        judgement = once
    assert judgement == whole


@given(baseline=SHOWN, candidate=SHOWN, late=SHOWN)
@settings(max_examples=60, deadline=None)
def test_what_comes_late_is_counted_and_changes_nothing(
    baseline: dict[int, Cell], candidate: dict[int, Cell], late: dict[int, Cell]
) -> None:
    closed = START + 15
    series = logs(baseline, candidate, closed_before=closed, history=HISTORY)
    before = judged(begin(ONE), series, closed)
    after = judged(before, replace(series, candidate={**candidate, **late}), closed)
    kept = before.sources["logs"]
    new = sum(
        max(0, one.count() - (candidate[minute].count() if minute in candidate else 0)) for minute, one in late.items()
    )
    assert after.sources["logs"].late == new
    assert replace(after.sources["logs"], late=0, taken=kept.taken) == kept


@given(baseline=SHOWN, candidate=SHOWN, silent=st.sampled_from(["baseline", "candidate", "both"]))
@settings(max_examples=40, deadline=None)
def test_the_silence_of_a_deployment_is_no_evidence_and_no_pass(
    baseline: dict[int, Cell], candidate: dict[int, Cell], silent: str
) -> None:
    nothing: dict[int, Cell] = {}
    shown = (
        nothing if silent in {"baseline", "both"} else baseline,
        nothing if silent in {"candidate", "both"} else candidate,
    )
    series = logs(*shown, closed_before=START + 15, read_at=START + 15, history=HISTORY)
    _, verdict = judge(begin(ONE), policy=ONE, stage=stage(), series=[series], now=START + 15)
    assert verdict.action == "hold"
    assert verdict.evidence == pytest.approx(1.0)


@given(baseline=SHOWN, candidate=SHOWN, empty=st.sets(st.integers(START, START + 14)))
@settings(max_examples=40, deadline=None)
def test_a_minute_without_requests_is_as_good_as_missing(
    baseline: dict[int, Cell], candidate: dict[int, Cell], empty: set[int]
) -> None:
    """No row says n = 0 or m = 0; a cell that does weighs nothing."""
    left = {minute: one for minute, one in candidate.items() if minute not in empty}
    blank = left | dict.fromkeys(empty, Cell())
    found = [
        judged(begin(ONE), logs(baseline, shown, closed_before=START + 15, history=HISTORY), START + 15)
        for shown in (left, blank)
    ]
    processes = [{name: one.process for name, one in each.sources["logs"].checks.items()} for each in found]
    assert processes[0] == processes[1]
    assert found[0].sources["logs"].blocks == found[1].sources["logs"].blocks


@pytest.mark.parametrize("n", [10**9, 10**12])
def test_huge_counts_are_judged_like_any(n: int) -> None:
    usual = dict.fromkeys(range(START - 60, START), cell(n, bad=n // 100))
    stable = dict.fromkeys(range(START, START + 12), cell(9 * n, bad=9 * n // 100))
    for bad, action in ((n // 100, "pass"), (n // 20, "fail"), (n // 2, "fail")):
        candidate = dict.fromkeys(range(START, START + 12), cell(n - bad, bad=bad))
        series = logs(stable, candidate, history=usual)
        _, verdict = judge(begin(ONE), policy=ONE, stage=stage(), series=[series], now=START + 12)
        assert verdict.action == action
        assert all(isfinite(one.evidence) and isfinite(one.not_worse) for one in verdict.findings)
        assert "nan" not in str(asdict(verdict))


@given(
    st.lists(
        st.tuples(*(st.just(0.0) | st.floats(1e-6, 1e12) for _ in range(4))).map(
            lambda four: Counts(min(four[:2]), max(four[:2]), min(four[2:]), max(four[2:]))
        ),
        max_size=12,
    )
)
@settings(deadline=None)
def test_any_counts_leave_every_number_finite(blocks: list[Counts]) -> None:
    tuning, process = planned(40, may_retreat=True), Process()
    for minute, counts in enumerate(blocks):
        process = process.after(counts, MARGINS[0], tuning, minute=minute, prove=True)
        told = (process.evidence(40), process.suspicion(), process.not_worse(), process.noise.tau(0.3), process.run)
        assert all(isfinite(number) for number in told)
    assert len(process.proof) == len(BETTER)
