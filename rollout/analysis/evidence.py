"""Evidence: blocks of counts in, a number E out that grows large only where the candidate is worse than the margin.

The rule: what weighs a block (noise, prior, caps) is known before the block is seen. Then E is an e-process: while the
candidate is within its margin, the chance that E ever reaches 1/alpha is at most alpha, however often one looks
(Ville 1939; Grünwald, de Heide, Koolen 2024). The margin: p_candidate <= ratio * p_stable + allowance in every minute,
with p_stable unknown and free to move.

One block with x bad of n on the candidate and z bad of m on stable is judged by x given x + y, where
y = z + allowance*m/ratio: the candidate's part of them is theta0 = n*ratio / (n*ratio + m) at the margin and
theta1 = n*ratio*rho / (n*ratio*rho + m) for a candidate rho times worse. The likelihoods are beta-binomial: minutes may
differ by more than chance; their spread tau (sd of the log-ratio of both rates between minutes) is learned from the
blocks before. With a positive allowance this form is exact only in the limit; simulated, its error is far below alpha.
"""

from collections.abc import Sequence
from math import exp, inf, isfinite, lgamma
from typing import NamedTuple

#: Multiples of the margin that are looked for: a candidate this many times worse.
WORSE = (1.5, 2.5, 5.0, 15.0, 50.0)
#: Multiples of the margin that show "not worse".
BETTER = (0.25, 0.45, 0.65, 0.83)
MULTIPLES = WORSE + BETTER
MILD = 5.0  # up to this multiple the mild cap holds
_LAST_MILD = WORSE.index(MILD)
CAUTIOUS_BLOCKS = 2  # the first blocks of a candidate (cold start) weigh little
CAUTIOUS_CAP = 1.0
HEAD_START = 10.0  # the suspicion at the begin, and …
HASTY_CAP = 2.5  # … what the first blocks may add to it
TAU_MIN, TAU_MAX = 0.05, 1.0
PRIOR_WEIGHT = 5.0  # how many typical blocks the prior tau counts for
RESIDUAL_MAX = 30.0  # of one block, squared; more only where it shows a tau below 1
WEALTH_MAX = 1e100  # evidence stays finite
PROOF_MAX = 230.0
FROM_START, FROM_PLAN, FROM_TAIL = 0.5, 0.45, 0.05  # prior: when a fault begins


class Counts(NamedTuple):
    """Bad requests of all: stable's z of m, the candidate's x of n. Shares of buckets make them fractional."""

    z: float
    m: float
    x: float
    n: float

    def plus(self, other: "Counts") -> "Counts":
        """The sum."""
        return Counts(self.z + other.z, self.m + other.m, self.x + other.x, self.n + other.n)


NOTHING = Counts(0.0, 0.0, 0.0, 0.0)


class Margin(NamedTuple):
    """How much worse the candidate may be: p_candidate <= ratio * p_stable + allowance."""

    ratio: float
    allowance: float


class Tuning(NamedTuple):
    """How the evidence is weighed; fixed before a rollout begins."""

    mild_cap: float  # no block weighs more than exp(this) for mild alternatives
    strong_cap: float  # … for alternatives above MILD
    horizon: int  # blocks over which a fault is equally likely to begin
    tau: float = 0.3  # the spread between minutes that is expected before any was seen


class Noise(NamedTuple):
    """What was learned of the spread between minutes: sums of a weighted moment estimate, and the running ratio."""

    surplus: float = 0.0  # sum of w (r² - 1)
    weight: float = 0.0  # sum of w g
    seen: float = 0.0  # the candidate's bad requests
    expected: float = 0.0  # what stable's rate would have given it

    def tau(self, prior: float) -> float:
        """The spread to judge the next block with."""
        square = (PRIOR_WEIGHT / prior**2 + self.surplus) / (PRIOR_WEIGHT / prior**4 + self.weight)
        return float(min(max(square, TAU_MIN**2), TAU_MAX**2) ** 0.5)

    def after(self, counts: Counts, prior: float) -> "Noise":
        """With one more block."""
        z, m, x, n = counts
        seen = self.seen + x
        expected = self.expected + z * n / m
        rated = n * (seen + 0.5) / (expected + 0.5)
        theta = rated / (rated + m)
        spread = theta * (1.0 - theta)
        g = (x + z - 1.0) * spread
        if g <= 0.0:
            return Noise(self.surplus, self.weight, seen, expected)
        residual = min((x - (x + z) * theta) ** 2 / ((x + z) * spread), max(RESIDUAL_MAX, g))
        w = g / (1.0 + g * prior**2) ** 2
        return Noise(self.surplus + w * (residual - 1.0), self.weight + w * g, seen, expected)


class Process(NamedTuple):
    """The evidence of one check in one source, over the whole rollout."""

    blocks: int = 0
    wealth: tuple[float, ...] = (0.0,) * len(WORSE)  # per alternative: the bets placed so far, grown
    proof: tuple[float, ...] = (0.0,) * len(BETTER)  # per alternative: log of the not-worse evidence
    noise: Noise = Noise()
    run: float = 0.0  # how loudly the blocks since `run_start` speak for a fault (log, mildest alternative)
    run_start: int = -1
    rising: tuple[float, ...] = (HEAD_START,) * len(WORSE)  # per alternative: what the blocks say since it was least

    def evidence(self, horizon: int) -> float:
        """E: the mean over the alternatives, with the bets not yet placed."""
        return sum(self.wealth) / len(self.wealth) + unplaced(self.blocks, horizon)

    def suspicion(self) -> float:
        """How loudly the last blocks speak for a fault, whenever it began: the mean over the alternatives.

        Page's test (1954) for each, with a head start (Lucas, Crosier 1982). Unlike E it does not pay for every block at
        which a fault might have begun, and so promises nothing: enough to retreat, not to fail.
        """
        return sum(self.rising) / len(self.rising)

    def not_worse(self) -> float:
        """N: the mean over the alternatives, kept finite."""
        return sum(exp(min(value, PROOF_MAX)) for value in self.proof) / len(self.proof)

    def fault_since(self) -> int | None:
        """The minute since which the blocks speak for a fault (Page 1954); None where they don't."""
        return self.run_start if self.run > 0.0 else None

    def after(self, counts: Counts, margin: Margin, tuning: Tuning, *, minute: int, prove: bool) -> "Process":
        """With one more block. A block in which one of the two had no requests, or whose counts are no numbers, says nothing."""
        if counts.m <= 0.0 or counts.n <= 0.0 or not isfinite(counts.z + counts.m + counts.x + counts.n):
            return self
        gains = log_ratios(counts, margin, self.noise.tau(tuning.tau))
        cautious = self.blocks < CAUTIOUS_BLOCKS
        worse = bounded(gains, tuning, most=CAUTIOUS_CAP if cautious else inf)
        hasty = bounded(gains, tuning, most=HASTY_CAP) if cautious else worse
        bet = placed(self.blocks, tuning.horizon)
        growth = [exp(gain) for gain in worse]
        wealth = [(have + bet) * grown for have, grown in zip(self.wealth, growth, strict=True)]
        if cautious:
            growth = [exp(gain) for gain in hasty]
        rising = [have * grown if have > 1.0 else grown for have, grown in zip(self.rising, growth, strict=True)]
        going = self.run > 0.0
        return Process(
            self.blocks + 1,
            finite(wealth),
            self._proved(gains, tuning.mild_cap) if prove else self.proof,
            self.noise.after(counts, tuning.tau),
            self.run + worse[0] if going else worse[0],
            self.run_start if going else minute,
            finite(rising),
        )

    def _proved(self, gains: Sequence[float], cap: float) -> tuple[float, ...]:
        better = gains[len(WORSE) :]
        return tuple([have + (gain if gain < cap else cap) for have, gain in zip(self.proof, better, strict=True)])

    def unproven(self) -> "Process":
        """With the not-worse evidence begun anew, for faults that come with load."""
        return self._replace(proof=(0.0,) * len(BETTER))


def log_ratios(counts: Counts, margin: Margin, tau: float) -> list[float]:
    """For each multiple of the margin (WORSE, then BETTER): the log-likelihood ratio of one block against the margin.

    Beta-binomial with the same concentration kappa above and below: log B(x + theta1*kappa, y + (1-theta1)*kappa)
    - log B(theta1*kappa, (1-theta1)*kappa), less the same at theta0. Needs m > 0 and n > 0.
    """
    z, m, x, n = counts
    y = z + margin.allowance * m / margin.ratio
    scaled = n * margin.ratio
    theta0 = scaled / (scaled + m)
    kappa = (scaled + m) ** 2 / (scaled * m * tau * tau) - 1.0
    a, b = theta0 * kappa, m / (scaled + m) * kappa
    at_margin = lgamma(x + a) - lgamma(a) + lgamma(y + b) - lgamma(b)
    gains = []
    for rho in MULTIPLES:
        ours = scaled * rho
        each = kappa / (ours + m)
        a, b = ours * each, m * each
        gains.append(lgamma(x + a) - lgamma(a) + lgamma(y + b) - lgamma(b) - at_margin)
    return gains


def bounded(gains: Sequence[float], tuning: Tuning, *, most: float) -> list[float]:
    """What one block may say for each of WORSE, `most` at most, so that no single minute rolls back.

    Alternatives above MILD may say more, but only what the mild ones don't explain already. Cutting off never raises
    an expectation.
    """
    explained = max(0.0, gains[_LAST_MILD] - tuning.mild_cap)
    mild, strong = min(tuning.mild_cap, most), min(tuning.strong_cap, most)
    first = [gain if gain < mild else mild for gain in gains[: _LAST_MILD + 1]]
    rest = [gain - explained for gain in gains[_LAST_MILD + 1 : len(WORSE)]]
    return first + [gain if gain < strong else strong for gain in rest]


def finite(wealth: Sequence[float]) -> tuple[float, ...]:
    """With what is beyond WEALTH_MAX cut off."""
    return tuple(wealth) if max(wealth) < WEALTH_MAX else tuple([min(have, WEALTH_MAX) for have in wealth])


def likelihood(counts: Counts, margin: Margin, tau: float) -> float:
    """How much likelier the counts, as one block, are under a fault than at the margin: the mean over WORSE."""
    if counts.m <= 0.0 or counts.n <= 0.0:
        return 1.0
    gains = log_ratios(counts, margin, tau)[: len(WORSE)]
    return sum(exp(min(gain, PROOF_MAX)) for gain in gains) / len(WORSE)


def placed(block: int, horizon: int) -> float:
    """The prior that a fault begins at this block (0 = the first): change point in a finite horizon, with a thin tail.

    Half for a fault from the start, 0.45 evenly over the planned blocks, the rest falling as 1/block², so that a
    rollout that lasts longer than planned still sees late faults (e-detectors: Shin, Ramdas, Rinaldo 2023).
    """
    if block == 0:
        return FROM_START
    if block <= horizon:
        return FROM_PLAN / horizon
    return FROM_TAIL * horizon / (block * (block - 1.0))


def unplaced(blocks: int, horizon: int) -> float:
    """The prior left after this many blocks: 1 less everything placed."""
    if blocks == 0:
        return 1.0
    if blocks <= horizon + 1:
        return 1.0 - FROM_START - FROM_PLAN * (blocks - 1) / horizon
    return FROM_TAIL * horizon / (blocks - 1.0)


def planned(blocks: int, *, may_retreat: bool, tau: float = 0.3) -> Tuning:
    """The tuning for a rollout of this many blocks: with retreat a mistake is cheap, so a block may say more."""
    if may_retreat:
        return Tuning(mild_cap=3.0, strong_cap=6.0, horizon=max(40, blocks), tau=tau)
    return Tuning(mild_cap=2.0, strong_cap=4.0, horizon=max(60, blocks), tau=tau)
