"""Bounds for shares and quantiles, without scipy (which checks them in the tests).

The rule: a bound is one-sided at the confidence asked for; it is finite for every input, n = 0 included.
"""

from math import erfc, exp, lgamma, log, log1p, sqrt

from rollout.analysis.cells import Histogram, Ranked
from rollout.analysis.evidence import Counts

CONFIDENCE = 0.95
Z = 1.6448536269514722  # the normal quantile of CONFIDENCE
Z_BOTH = 1.959963984540054  # … for an interval with two ends
_TINY = 1e-300
_ITERATIONS = 500
_PRECISION = 1e-14
_LARGE = 1e4  # the fraction needs about the root of this many terms


def beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22, Lentz's method)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if min(a, b) > _LARGE:
        return _paulson(a, b, x)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_share(b, a, 1.0 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    return min(1.0, front * _fraction(a, b, x))


def _paulson(a: float, b: float, x: float) -> float:
    """The normal approximation for large a and b (Abramowitz, Stegun 26.5.22)."""
    u, v = (b * x) ** (1.0 / 3.0), (a * (1.0 - x)) ** (1.0 / 3.0)
    y = 3.0 * (u * (1.0 - 1.0 / (9.0 * b)) - v * (1.0 - 1.0 / (9.0 * a))) / sqrt(u * u / b + v * v / a)
    return 0.5 * erfc(-y / sqrt(2.0))


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for i in range(1, _ITERATIONS):
        even = i * (b - i) * x / ((a + 2 * i - 1.0) * (a + 2 * i))
        d, c = 1.0 / _away(1.0 + even * d), _away(1.0 + even / c)
        value *= d * c
        odd = -(a + i) * (a + b + i) * x / ((a + 2 * i) * (a + 2 * i + 1.0))
        d, c = 1.0 / _away(1.0 + odd * d), _away(1.0 + odd / c)
        value *= d * c
        if abs(d * c - 1.0) < _PRECISION:
            break
    return value


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def surely_above(bad: float, n: float, limit: float) -> bool:
    """The share of bad requests is above the limit with 95 % confidence (Clopper, Pearson 1934: P(X >= bad) <= 5 %)."""
    if n <= 0.0 or bad <= limit * n:
        return False
    return beta_share(bad, n - bad + 1.0, limit) <= 1.0 - CONFIDENCE


def highest_increase(counts: Counts) -> float:
    """The largest increase of the bad share, stable's to the candidate's, that still explains the counts, at least 0.

    95 % one-sided, from the bounds of both shares (Newcombe 1998, method 10).
    """
    z, m, x, n = counts
    theirs, ours = z / m, x / n
    lowest = 1.0 - highest_share(m - z, m)
    return max(0.0, ours - theirs + sqrt((highest_share(x, n) - ours) ** 2 + (theirs - lowest) ** 2))


def highest_share(bad: float, n: float) -> float:
    """The largest share that still explains the count, 95 % one-sided (Wilson 1927)."""
    if n <= 0.0:
        return 1.0
    p = bad / n
    spread = Z * sqrt(p * (1.0 - p) / n + Z * Z / (4.0 * n * n))
    return float(min(1.0, (p + Z * Z / (2.0 * n) + spread) / (1.0 + Z * Z / n)))


def share_interval(bad: float, n: float) -> tuple[float, float] | None:
    """The shares that explain the count, 95 % from both sides (Wilson 1927); None where n is 0."""
    if n <= 0.0:
        return None
    p, z = bad / n, Z_BOTH
    middle, spread = p + z * z / (2.0 * n), z * sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n))
    below = 1.0 + z * z / n
    return min(p, max(0.0, (middle - spread) / below)), max(p, min(1.0, (middle + spread) / below))


def quantile_interval(histogram: Histogram, q: float) -> tuple[float, float] | None:
    """The q-quantiles in ms that explain the durations, 95 % from both sides; None where too few are known."""
    ranked = Ranked(histogram)
    low, high = _rank(ranked, q, -Z_BOTH), _rank(ranked, q, Z_BOTH)
    return (low, high) if low is not None and high is not None else None


def highest_growth(baseline: Ranked, candidate: Ranked, q: float) -> float | None:
    """The largest relative increase of the q-quantile that still explains the durations, at least 0; like the above.

    None where too few durations are known to bound it.
    """
    theirs, ours = baseline.quantile(q), candidate.quantile(q)
    lowest, highest = _rank(baseline, q, -Z), _rank(candidate, q, Z)
    if not (theirs and ours and lowest and highest):
        return None
    return max(0.0, exp(log(ours / theirs) + sqrt(log(highest / ours) ** 2 + log(theirs / lowest) ** 2)) - 1.0)


def _rank(ranked: Ranked, q: float, z: float) -> float | None:
    """The bound of a quantile: the quantile at a rank z standard errors away."""
    rank = q + z * sqrt(q * (1.0 - q) / max(1, ranked.total))
    return ranked.quantile(rank) if 0.0 < rank < 1.0 else None
