"""Kayenta's judge (NetflixACAJudge-v1.0), as far as two metrics need it: Mann-Whitney, label, score.

The rule: `mann_whitney` is its algorithm step by step, R's `wilcox.test` with a shift interval whose ends a Brent solver
finds to an absolute 1e-4; its own test vectors hold it. `intervals` is the same for many rollouts at once: the ends are
order statistics of the pairwise differences, where the solver would come to rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from rollout.analysis.engine import Array, Mask

TOLERANCE = 1e-4
EPSILON = 2.220446049250313e-16
ITERATIONS = 1000
CONFIDENCE = 0.98
WIDE = 0.25  # the interval must lie beyond this part of the estimate


@dataclass(frozen=True)
class Shift:
    """The interval of the shift from control to experiment, and its estimate."""

    low: float
    high: float
    estimate: float


def mann_whitney(experiment: Sequence[float], control: Sequence[float], confidence: float = 0.95) -> Shift:
    """The shift interval (normal approximation, corrected for ties and continuity)."""
    x, y = np.asarray(experiment, float), np.asarray(control, float)
    quantile = float(norm.ppf((1.0 - confidence) / 2.0))
    low, high, estimate = (_root(x, y, q) for q in (-quantile, quantile, 0.0))
    return Shift(low, high, estimate)


def wilcoxon_diff(mu: float, quantile: float, x: Array, y: Array) -> float:
    """How far the standardised rank sum of x, shifted by mu, is from the quantile."""
    ranks = rankdata(np.concatenate([x - mu, y]))
    nx, ny = len(x), len(y)
    distance = ranks[:nx].sum() - nx * (nx + 1) / 2 - nx * ny / 2
    ties = np.unique(ranks, return_counts=True)[1].astype(float)
    spread = sqrt(nx * ny / 12 * (nx + ny + 1 - (ties**3 - ties).sum() / ((nx + ny) * (nx + ny - 1))))
    return float((distance - np.sign(distance) * 0.5) / spread - quantile)


def _root(x: Array, y: Array, quantile: float) -> float:
    low, high = float(x.min() - y.max()), float(x.max() - y.min())
    at_low, at_high = wilcoxon_diff(low, quantile, x, y), wilcoxon_diff(high, quantile, x, y)
    if at_low <= 0.0:
        return low
    if at_high >= 0.0:
        return high
    return brent(low, high, at_low, at_high, lambda mu: wilcoxon_diff(mu, quantile, x, y))


def brent(low: float, high: float, at_low: float, at_high: float, f: Callable[[float], float]) -> float:
    """The root of f between low and high, as R's `zeroin` finds it (Brent 1973)."""
    a, b, fa, fb = low, high, at_low, at_high
    c, fc = a, fa
    for _ in range(ITERATIONS):
        before = b - a
        if abs(fc) < abs(fb):
            a, b, c, fa, fb, fc = b, c, b, fb, fc, fb
        tolerance = 2 * EPSILON * abs(b) + TOLERANCE / 2
        step = (c - b) / 2
        if abs(step) <= tolerance or fb == 0.0:
            return b
        if abs(before) >= tolerance and abs(fa) > abs(fb):
            step = _interpolated((a, b, c), (fa, fb, fc), step, before=before, tolerance=tolerance)
        if abs(step) < tolerance:
            step = tolerance if step > 0 else -tolerance
        a, fa = b, fb
        b += step
        fb = f(b)
        if (fb > 0) == (fc > 0) and fb != 0.0:
            c, fc = a, fa
    return b


def _interpolated(
    at: tuple[float, float, float], f: tuple[float, float, float], step: float, *, before: float, tolerance: float
) -> float:
    """A step by secant or inverse parabola, where it is safe; else the bisection given."""
    (a, b, c), (fa, fb, fc) = at, f
    wide = c - b
    if a == c:
        t1 = fb / fa
        p, q = wide * t1, 1.0 - t1
    else:
        q, t1, t2 = fa / fc, fb / fc, fb / fa
        p = t2 * (wide * q * (q - t1) - (b - a) * (t1 - 1.0))
        q = (q - 1.0) * (t1 - 1.0) * (t2 - 1.0)
    p, q = (p, -q) if p > 0 else (-p, q)
    safe = p < 0.75 * wide * q - abs(tolerance * q) / 2 and p < abs(before * q / 2)
    return p / q if safe else step


def intervals(experiment: Array, control: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array, Array]:
    """Low end, high end and estimate for each row of points."""
    nx, ny = experiment.shape[1], control.shape[1]
    differences = np.sort((experiment[:, :, None] - control[:, None, :]).reshape(len(experiment), -1), axis=1)
    total = nx + ny
    ties = _ties(experiment) + _ties(control)
    spread = np.sqrt(nx * ny / 12 * (total + 1 - ties / (total * (total - 1))))
    reach = float(norm.ppf((1.0 + confidence) / 2.0)) * spread + 0.5
    ends = []
    for wanted in (nx * ny / 2 + reach, nx * ny / 2 - reach, np.full(len(experiment), nx * ny / 2)):
        rank = np.clip(np.ceil(wanted).astype(int), 1, nx * ny)  # so many differences are above the end
        ends.append(np.take_along_axis(differences, (nx * ny - rank)[:, None], axis=1)[:, 0])
    return ends[0], ends[1], ends[2]


def _ties(points: Array) -> Array:
    """The sum of t³ - t over the groups of equal points in each row."""
    same = (points[:, :, None] == points[:, None, :]).sum(axis=2).astype(float)
    return np.asarray((same**2 - 1.0).sum(axis=1))


def high(experiment: Array, control: Array) -> tuple[Mask, Array]:
    """Whether each row is higher than its control, but for the effect size, which comes along (NaN: not known)."""
    low, _, estimate = intervals(experiment, control)
    means = experiment.mean(axis=1), control.mean(axis=1)
    effect = np.where((means[0] > 0) & (means[1] > 0), means[0] / np.where(means[1] > 0, means[1], 1.0), np.nan)
    flat = (np.ptp(experiment, axis=1) == 0) & (np.ptp(control, axis=1) == 0)
    beyond = np.where(flat, means[0] > means[1], low > WIDE * np.abs(estimate))
    return beyond, effect


def score(highs: Sequence[Mask], effects: Sequence[Array], allowed: Sequence[float]) -> NDArray[np.float64]:
    """0 to 100 for each row: metrics in groups of their own, of equal weight; `allowed` is `allowedIncrease`."""
    passed = [
        ~(beyond & (np.isnan(effect) | (effect >= most)))
        for beyond, effect, most in zip(highs, effects, allowed, strict=True)
    ]
    return np.asarray(100.0 * np.mean(passed, axis=0))
