"""The engine: `evidence.Process` for many rollouts at once, in arrays, for forecasts and benchmarks.

The rule: it is the same evidence. Every number agrees with `evidence.py` on the same blocks to 1e-9, from 10,000 bad requests
a minute on to 1e-7 (a test holds this): there `evidence.py`'s own differences of lgammas are no longer exact to more. What a
constant means is said there. Arrays have a row for each check and a column for each rollout.
"""

from collections.abc import Sequence
from math import exp

import numpy as np
from numpy.typing import NDArray

from rollout.analysis.evidence import (
    BETTER,
    CAUTIOUS_BLOCKS,
    CAUTIOUS_CAP,
    FROM_PLAN,
    FROM_START,
    FROM_TAIL,
    HASTY_CAP,
    HEAD_START,
    MILD,
    MULTIPLES,
    PRIOR_WEIGHT,
    PROOF_MAX,
    RESIDUAL_MAX,
    TAU_MAX,
    TAU_MIN,
    WEALTH_MAX,
    WORSE,
    Margin,
    Tuning,
)

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: lnΓ(w) = (w - 1/2) ln w - w + ln(2π)/2 + Σ c_k / w^(2k+1) (DLMF 5.11.1): below 1e-11 off for w >= SHIFT.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_SHIFT = 5


class Processes:
    """The evidence of some checks in many rollouts.

    `prior` is the spread expected before any minute was seen (`Tuning.tau`), by check and rollout or what broadcasts so.
    """

    def __init__(self, margins: Sequence[Margin], tuning: Tuning, rollouts: int, *, prior: Array | None = None) -> None:
        shape = (len(margins), rollouts)
        self.prior = np.full(shape, tuning.tau) if prior is None else np.broadcast_to(prior, shape)
        self.ratio = np.array([[margin.ratio] for margin in margins])
        self.allowance = np.array([[margin.allowance] for margin in margins])
        self.tuning = tuning
        self.blocks = np.zeros(shape)
        self.wealth = np.zeros((len(WORSE), *shape))
        self.proof = np.zeros((len(BETTER), *shape))
        self.rising = np.full((len(WORSE), *shape), HEAD_START)
        self.surplus, self.weight = np.zeros(shape), np.zeros(shape)
        self.seen, self.expected = np.zeros(shape), np.zeros(shape)

    def keep(self, rollouts: NDArray[np.intp] | Mask) -> None:
        """Go on with these rollouts only."""
        for name in ("prior", "blocks", "wealth", "proof", "rising", "surplus", "weight", "seen", "expected"):
            setattr(self, name, getattr(self, name)[..., rollouts])

    def tau(self) -> Array:
        """The spread to judge the next block with."""
        square = self.prior**2
        square = (PRIOR_WEIGHT / square + self.surplus) / (PRIOR_WEIGHT / square**2 + self.weight)
        return np.asarray(np.sqrt(np.clip(square, TAU_MIN**2, TAU_MAX**2)))

    def evidence(self) -> Array:
        """E by check and rollout."""
        return np.asarray(self.wealth.mean(axis=0)) + _unplaced(self.blocks, self.tuning.horizon)

    def suspicion(self) -> Array:
        """The suspicion by check and rollout."""
        return np.asarray(self.rising.mean(axis=0))

    def not_worse(self) -> Array:
        """N by check and rollout."""
        return np.asarray(np.exp(np.minimum(self.proof, PROOF_MAX)).mean(axis=0))

    def unproven(self, rollouts: Mask) -> None:
        """Begin the not-worse evidence of these rollouts anew."""
        self.proof[..., rollouts] = 0.0

    def take(self, z: Array, m: Array, x: Array, n: Array, prove: Mask) -> None:
        """Take in one block: on stable z bad of m, on the candidate x of n; `prove` says whose counts for N."""
        told = (m > 0.0) & (n > 0.0) & np.isfinite(z + m + x + n)
        m, n = np.where(told, m, 1.0), np.where(told, n, 1.0)
        gains = log_ratios(z, m, x, n, ratio=self.ratio, allowance=self.allowance, tau=self.tau())
        bet = _placed(self.blocks, self.tuning.horizon)
        cautious = self.blocks < CAUTIOUS_BLOCKS
        growth = hasty = np.exp(_bounded(gains[: len(WORSE)], self.tuning))
        if cautious.any():
            growth = np.where(cautious, np.minimum(growth, exp(CAUTIOUS_CAP)), growth)
            hasty = np.where(cautious, np.minimum(hasty, exp(HASTY_CAP)), hasty)
        np.copyto(self.wealth, np.minimum((self.wealth + bet) * growth, WEALTH_MAX), where=told)
        np.copyto(self.rising, np.minimum(np.maximum(self.rising, 1.0) * hasty, WEALTH_MAX), where=told)
        np.add(self.proof, np.minimum(gains[len(WORSE) :], self.tuning.mild_cap), out=self.proof, where=told & prove)
        self._learn(z, m, x, n, told)
        self.blocks += told

    def _learn(self, z: Array, m: Array, x: Array, n: Array, told: Mask) -> None:
        """The spread between minutes, as `evidence.Noise` learns it."""
        self.seen += np.where(told, x, 0.0)
        self.expected += np.where(told, z * n / m, 0.0)
        rated = n * (self.seen + 0.5) / (self.expected + 0.5)
        theta = rated / (rated + m)
        spread = theta * (1.0 - theta)
        bad = x + z
        g = (bad - 1.0) * spread
        told = told & (g > 0.0)
        over = np.where(told, bad * spread, 1.0)
        residual = np.minimum((x - bad * theta) ** 2 / over, np.maximum(RESIDUAL_MAX, g))
        w = g / (1.0 + g * self.prior**2) ** 2
        self.surplus += np.where(told, w * (residual - 1.0), 0.0)
        self.weight += np.where(told, w * g, 0.0)


def log_ratios(z: Array, m: Array, x: Array, n: Array, *, ratio: Array, allowance: Array, tau: Array) -> Array:
    """`evidence.log_ratios` for arrays: the first axis holds the multiples. Needs m > 0 and n > 0 everywhere."""
    y = z + allowance * m / ratio
    scaled = n * ratio
    kappa = (scaled + m) ** 2 / (scaled * m * tau * tau) - 1.0
    found = [_beta(x, y, scaled * rho, m, kappa) for rho in (1.0, *MULTIPLES)]
    return np.stack(found[1:]) - found[0]


def _beta(x: Array, y: Array, ours: Array, theirs: Array, kappa: Array) -> Array:
    """ln B(x + a, y + b) - ln B(a, b), up to what does not depend on a/b, at a : b = ours : theirs and a + b = kappa."""
    each = kappa / (ours + theirs)
    a, b = ours * each, theirs * each
    above, left = x + a, y + b
    shifted = np.log(_product(a) * _product(b) / (_product(above) * _product(left)))
    return shifted + _stirling(above) - _stirling(a) + _stirling(left) - _stirling(b)


def _product(v: Array) -> Array:
    """v (v + 1) (v + 2) (v + 3) (v + 4): Γ(v + SHIFT) / Γ(v)."""
    ends = v * (v + 4.0)
    return ends * (ends + 3.0) * (v + 2.0)


def _stirling(v: Array) -> Array:
    """lnΓ(v + SHIFT) + v, up to a constant."""
    w = v + _SHIFT
    inverse = 1.0 / w
    square = inverse * inverse
    series = _STIRLING[-1] * square
    for c in reversed(_STIRLING[1:-1]):
        series = (series + c) * square
    return (w - 0.5) * np.log(w) + (series + _STIRLING[0]) * inverse


def likelihood(z: Array, m: Array, x: Array, n: Array, *, ratio: Array, allowance: Array, tau: Array) -> Array:
    """`evidence.likelihood` for arrays."""
    told = (m > 0.0) & (n > 0.0)
    m, n = np.where(told, m, 1.0), np.where(told, n, 1.0)
    gains = log_ratios(z, m, x, n, ratio=ratio, allowance=allowance, tau=tau)[: len(WORSE)]
    return np.where(told, np.exp(np.minimum(gains, PROOF_MAX)).mean(axis=0), 1.0)


def _bounded(gains: Array, tuning: Tuning) -> Array:
    """`evidence.bounded` for arrays, but for the first blocks."""
    last = WORSE.index(MILD)
    explained = np.maximum(0.0, gains[last] - tuning.mild_cap)
    bounded = gains.copy()
    bounded[: last + 1] = np.minimum(gains[: last + 1], tuning.mild_cap)
    bounded[last + 1 :] = np.minimum(gains[last + 1 :] - explained, tuning.strong_cap)
    return bounded


def _placed(blocks: Array, horizon: int) -> Array:
    """`evidence.placed` for arrays."""
    late = np.maximum(blocks, 2.0)
    tail = FROM_TAIL * horizon / (late * (late - 1.0))
    return np.where(blocks == 0, FROM_START, np.where(blocks <= horizon, FROM_PLAN / horizon, tail))


def _unplaced(blocks: Array, horizon: int) -> Array:
    """`evidence.unplaced` for arrays."""
    planned = 1.0 - FROM_START - FROM_PLAN * (blocks - 1.0) / horizon
    tail = FROM_TAIL * horizon / np.maximum(blocks - 1.0, 1.0)
    return np.where(blocks == 0, 1.0, np.where(blocks <= horizon + 1, planned, tail))
