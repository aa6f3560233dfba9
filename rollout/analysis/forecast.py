"""The forecast in closed form: what a schedule can see, without playing it.

The rule: an instant answer from expectations, held to the simulation of `lifecycle/forecast.py` within a factor by a test.
A fault is seen once the evidence expected of it, by the alternative that fits it best, reaches the threshold ln(1/α) +
ln(1/w) + ln 5 + ln 2 (five alternatives, half of the prior for a fault from the start), after three blocks at least, two
for a large one. "With 80 %" asks for 0.84 standard deviations more. Spread between minutes makes many bad requests of one
minute count for fewer, and no minute says more than its cap.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt

from rollout.analysis.cells import Histogram, quantile, slower, timed
from rollout.analysis.checks import Check
from rollout.analysis.criteria import Criteria
from rollout.analysis.evidence import CAUTIOUS_BLOCKS, CAUTIOUS_CAP, FROM_START, MILD, WORSE, Margin, Tuning
from rollout.analysis.profile import Profile

METRICS_LAG = 3  # minutes after which a minute of the metrics closes
LEAST_BLOCKS, LEAST_FOR_LARGE = 3, 2
Z_80 = 0.8416212335729143  # the normal quantile of 80 %
MOST_POINTS, MOST_GROWTH = 0.5, 4.0  # beyond this nothing is looked for
_LEAST = 1e-4
_HALVINGS = 14


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What may be wrong with a candidate."""

    name: str
    points: float = 0.0  # added to its rate of errors …
    times: float = 1.0  # … which is multiplied first
    slower: float = 1.0  # factor on all its durations

    def errors(self, rate: float) -> float:
        """The rate of errors that it makes of a healthy one."""
        return min(1.0, rate * self.times + self.points)


HEALTHY = Fault(name="healthy")
FAULTS = (
    Fault(name="errors ×2", times=2.0),
    Fault(name="errors +1 pp", points=0.01),
    Fault(name="errors +5 pp", points=0.05),
    Fault(name="p95 ×1.3", slower=1.3),
    Fault(name="p95 ×2", slower=2.0),
    Fault(name="crash", points=1.0),
)


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Minutes under one split, with what each deployment is asked in one of them."""

    minutes: float
    baseline: float
    candidate: float

    def told(self) -> "Exposure":
        """The minutes in which both are asked something, and what they are then asked."""
        share = some(self.baseline) * some(self.candidate)
        return Exposure(
            minutes=self.minutes * share,
            baseline=self.baseline / max(some(self.baseline), 1e-12),
            candidate=self.candidate / max(some(self.candidate), 1e-12),
        )


def some(expected: float) -> float:
    """The chance of at least one request where so many are expected."""
    return 1.0 - exp(-expected)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One check of one source, with the shares of requests that are bad: stable's and the candidate's."""

    margin: Margin
    tuning: Tuning
    threshold: float  # the log of the evidence that ends the rollout, seen from this check alone
    tau: float
    baseline: float
    candidate: float

    def block(self, baseline: float, candidate: float) -> tuple[float, float]:
        """Mean and variance of what one block says, for this many requests of stable and of the candidate."""
        x = candidate * self.candidate
        y = baseline * (self.baseline + self.margin.allowance / self.margin.ratio)
        scaled = candidate * self.margin.ratio
        if not x or not y:
            return 0.0, 0.0
        at_margin, found = scaled / (scaled + baseline), x / (x + y)
        if found <= at_margin:
            return 0.0, 0.0
        kappa = 1.0 / (at_margin * (1.0 - at_margin) * self.tau**2) - 1.0
        n = (x + y) * (kappa + 1.0) / (kappa + max(1.0, x + y))
        said = [_said(n, found, at_margin, scaled * rho / (scaled * rho + baseline)) for rho in WORSE]
        mean, variance = max(said)
        part = min(1.0, self.cap / mean) if mean > 0.0 else 1.0
        return mean * part, variance * part * part

    @property
    def cap(self) -> float:
        """What one block may say at most of a fault of this size."""
        return self.tuning.mild_cap if self.multiple <= MILD else self.tuning.strong_cap

    @property
    def multiple(self) -> float:
        """The fault as a multiple of the margin."""
        return self.candidate / (self.margin.ratio * self.baseline + self.margin.allowance)

    def sees(self, exposures: Sequence[Exposure], *, z: float = Z_80) -> bool:
        """The evidence reaches the threshold by the end of these minutes; z = 0: on average."""
        mean = variance = blocks = 0.0
        for exposure in map(Exposure.told, exposures):
            each, spread = self.block(exposure.baseline, exposure.candidate)
            mean, variance = mean + each * exposure.minutes, variance + spread * exposure.minutes
            mean -= max(0.0, min(exposure.minutes, CAUTIOUS_BLOCKS - blocks)) * max(0.0, each - CAUTIOUS_CAP)
            blocks += exposure.minutes
        least = LEAST_FOR_LARGE if self.multiple > WORSE[-1] else LEAST_BLOCKS
        return blocks >= least and mean - z * sqrt(max(0.0, variance)) >= self.threshold

    def minutes(self, exposures: Sequence[Exposure]) -> float | None:
        """After how many minutes it is seen on average; None where it is not."""
        gone = 0.0
        for at, exposure in enumerate(exposures):
            if self.sees(exposures[: at + 1], z=0.0):
                return gone + self._within(exposures[:at], exposure)
            gone += exposure.minutes
        return None

    def _within(self, before: Sequence[Exposure], last: Exposure) -> float:
        """How much of the last exposure it takes."""

        def enough(minutes: float) -> bool:
            return self.sees([*before, replace(last, minutes=minutes)], z=0.0)

        return _least(enough, last.minutes)


def _said(n: float, found: float, at_margin: float, assumed: float) -> tuple[float, float]:
    """Mean and variance of what n bad requests say for one alternative, where a part `found` of them is the candidate's."""
    up, down = log(assumed / at_margin), log((1.0 - assumed) / (1.0 - at_margin))
    return n * (found * up + (1.0 - found) * down), n * found * (1.0 - found) * (up - down) ** 2


def _least(holds: Callable[[float], bool], most: float, *, above: float = 0.0) -> float:
    """The smallest number up to `most` for which it holds, by halving; it holds for `most`."""
    low, high = above, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def comparisons(criteria: Collection[Criteria], profile: Profile, fault: Fault, alpha: float) -> list[Comparison]:
    """Every check of every source that shows this endpoint, under this fault."""
    found = []
    for one in criteria:
        if one.source in profile.sources:
            found += [_comparison(one, check, profile, fault, alpha) for check in one.checks]
    return found


def _comparison(criteria: Criteria, check: Check, profile: Profile, fault: Fault, alpha: float) -> Comparison:
    shares = bad_shares(check, profile, fault)
    weight = criteria.weight * criteria.weights[check.name]
    return Comparison(
        margin=check.margin,
        tuning=criteria.tuning,
        threshold=log(len(WORSE) / (alpha * weight * FROM_START)),
        tau=profile.tau if check.quantile is None else profile.latency_tau,
        baseline=shares[0],
        candidate=shares[1],
    )


def bad_shares(check: Check, profile: Profile, fault: Fault) -> tuple[float, float]:
    """The shares of requests that a check counts as bad: stable's, and the candidate's under this fault."""
    if check.quantile is None:
        if check.name != "error_rate":
            return profile.client_error_rate, profile.client_error_rate
        return profile.error_rate, fault.errors(profile.error_rate)
    bar = quantile(profile.durations, check.quantile) or 1.0
    theirs = check.candidate_bar(bar) / fault.slower
    return slow_share(profile.durations, bar), slow_share(profile.durations, theirs)


def slow_share(histogram: Histogram, bar: float) -> float:
    """The share of durations above the bar (ms)."""
    return slower(histogram, bar) / max(1, timed(histogram)) if bar > 1.0 else 1.0


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The smallest regressions that are seen with 80 %, None where none is: points of errors (0.01 = 1 pp), and
    growth of all durations (0.3 = 30 %). A check that is off sees nothing."""

    errors: float | None
    latency: float | None


def sight(criteria: Collection[Criteria], profile: Profile, exposures: Sequence[Exposure], alpha: float) -> Sight:
    """What is seen by the end of these minutes of a fault that was there from the start."""

    def seen(fault: Fault) -> bool:
        return any(one.sees(exposures) for one in comparisons(criteria, profile, fault, alpha))

    return Sight(
        errors=_smallest(lambda size: seen(Fault(name="errors", points=size)), MOST_POINTS),
        latency=_smallest(lambda size: seen(Fault(name="latency", slower=1.0 + size)), MOST_GROWTH),
    )


def _smallest(seen: Callable[[float], bool], most: float) -> float | None:
    if not seen(most):
        return None
    return exp(_least(lambda size: seen(exp(size)), log(most), above=log(_LEAST)))


def minutes_to_see(
    criteria: Collection[Criteria], profile: Profile, fault: Fault, exposures: Sequence[Exposure], alpha: float
) -> float | None:
    """After how many minutes of traffic a fault is seen on average, without the lag of the data; None where it is not."""
    found = [one.minutes(exposures) for one in comparisons(criteria, profile, fault, alpha)]
    return min((minutes for minutes in found if minutes is not None), default=None)
