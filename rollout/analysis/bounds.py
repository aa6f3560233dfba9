"""Bounds for shares and quantiles, without scipy (which checks them in the tests).

The rule: a bound is one-sided at the confidence asked for; it is finite for every input, n = 0 included.
"""

from math import erfc, exp, lgamma, log, log1p, sqrt

from rollout.analysis.cells import Histogram, quantile, timed

CONFIDENCE = 0.95
Z = 1.6448536269514722  # the normal quantile of CONFIDENCE
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


def highest_share(bad: float, n: float) -> float:
    """The largest share that still explains the count, 95 % one-sided (Wilson 1927)."""
    if n <= 0.0:
        return 1.0
    p = bad / n
    spread = Z * sqrt(p * (1.0 - p) / n + Z * Z / (4.0 * n * n))
    return float(min(1.0, (p + Z * Z / (2.0 * n) + spread) / (1.0 + Z * Z / n)))


def highest_quantile(histogram: Histogram, q: float) -> float | None:
    """The largest q-quantile in ms that still explains the durations, 95 % one-sided; None where too few are known."""
    n = timed(histogram)
    if n == 0:
        return None
    rank = q + Z * sqrt(q * (1.0 - q) / n)
    return quantile(histogram, rank) if rank < 1.0 else None
