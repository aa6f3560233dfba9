"""The peers' rules on the fixed schedule: as documented, and tuned to a share of false rollbacks.

The rule: each rule sees the same minutes as ours and answers with the minute whose data makes it roll back (`NEVER`
where it does not). Their traffic moves by the clock; what their thresholds are compared with comes from their own sources:
Flagger (scheduler.go: failed checks add up and never reset), Argo Rollouts (analysis.go: more than `failureLimit`
failed measurements), CloudWatch alarms (M of N datapoints), Kayenta (score over a growing window).

Tuned: one number, the quantile of a healthy minute's error rate and p95 at which both thresholds lie (Kayenta: of a
healthy look's effects, which then count from there), chosen on design seeds so that 1 % of the healthy rollouts of the
cell are rolled back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rollout.analysis.crowd import Numbers
from rollout.analysis.engine import Array, Mask
from tests.benchmarks.detection import kayenta
from tests.benchmarks.detection.workload import SCHEDULE, Seen

NEVER = 10**6
FALSE = 0.01  # of healthy rollouts, after tuning
DOCUMENTED_ERROR, DOCUMENTED_MS = 0.01, 500.0
KAYENTA_PASS, KAYENTA_MARGINAL = 75.0, 50.0
POINTS = 1e2  # Kayenta's tolerance is absolute: error rates are given in percent

Rule = Callable[[Seen], Numbers]


@dataclass(frozen=True)
class Limits:
    """What a minute of the candidate must keep."""

    error: float
    ms: float


def flagger(limits: Limits, threshold: int = 5) -> Rule:
    """Rolls back at so many failed minutes, however far apart."""

    def rule(seen: Seen) -> Numbers:
        return _first(np.cumsum(_breaches(seen.errors, seen.p99, limits), axis=0) >= threshold)

    return rule


def argo(limits: Limits, *, every: int, limit: int = 3) -> Rule:
    """Rolls back at more than `limit` failed measurements; each looks back over its own interval."""

    def rule(seen: Seen) -> Numbers:
        ends = np.arange(every - 1, SCHEDULE, every)
        errors = _over(seen.bad, every)[ends] / np.maximum(_over(seen.requests, every)[ends], 1.0)
        slow = _over(seen.p95 * seen.requests, every)[ends] / np.maximum(_over(seen.requests, every)[ends], 1.0)
        failed = np.cumsum(_breaches(errors, slow, limits), axis=0) > limit
        return np.where(failed.any(axis=0), ends[np.argmax(failed, axis=0)], NEVER)

    return rule


def cloudwatch(limits: Limits, *, of: int, last: int = 5) -> Rule:
    """Rolls back when `of` of the last five datapoints breach an alarm's threshold; each metric has its own alarm."""

    def rule(seen: Seen) -> Numbers:
        alarms = (seen.errors > limits.error, seen.p95 > limits.ms)
        rings = np.any([_over(alarm.astype(float), last) >= of for alarm in alarms], axis=0)
        return _first(rings)

    return rule


def kayenta_judge(*, every: int, allowed: tuple[float, float] = (1.0, 1.0)) -> Rule:
    """Looks every so many minutes at all minutes so far; rolls back at a marginal score."""

    def rule(seen: Seen) -> Numbers:
        found = np.full(seen.errors.shape[1], NEVER)
        for end, highs, effects in _kayenta_looks(seen, every):
            scored = kayenta.score(highs, effects, allowed)
            low = scored <= (KAYENTA_MARGINAL if end < SCHEDULE else KAYENTA_PASS - 1e-9)
            found = np.where(low & (found == NEVER), end - 1, found)
        return found

    return rule


def _kayenta_looks(seen: Seen, every: int) -> list[tuple[int, list[Mask], list[Array]]]:
    """For each look: where it ends, and for both metrics what is high and by how much."""
    return seen.cached(f"kayenta {every}", lambda: _looked(seen, every))


def _looked(seen: Seen, every: int) -> list[tuple[int, list[Mask], list[Array]]]:
    looks = []
    for end in range(every, SCHEDULE + 1, every):
        pairs = (
            (POINTS * seen.errors, POINTS * seen.stable_errors),
            (seen.p95, seen.stable_p95),
        )
        labels = [kayenta.high(ours[:end].T, theirs[:end].T) for ours, theirs in pairs]
        looks.append((end, [label[0] for label in labels], [label[1] for label in labels]))
    return looks


def oracle(p0: float, p1: float, threshold: float, *, from_start: bool) -> Rule:
    """Knows both rates: Wald's test for a fault from the start (1945), CUSUM else (Page 1954)."""

    def rule(seen: Seen) -> Numbers:
        gains = seen.bad * np.log(p1 / p0) + (seen.requests - seen.bad) * np.log((1.0 - p1) / (1.0 - p0))
        return _first(_summed(gains, from_start=from_start) >= threshold)

    return rule


def _summed(gains: Array, *, from_start: bool) -> Array:
    total = np.cumsum(gains, axis=0)
    if from_start:
        return total
    return total - np.minimum(np.minimum.accumulate(total, axis=0), 0.0)


def _breaches(errors: Array, ms: Array, limits: Limits) -> Mask:
    return np.asarray((errors > limits.error) | (ms > limits.ms))


def _first(hits: Mask) -> Numbers:
    """The first minute that hits."""
    return np.where(hits.any(axis=0), np.argmax(hits, axis=0), NEVER)


def _over(values: Array, last: int) -> Array:
    """Sums over the last minutes."""
    total = np.cumsum(values, axis=0)
    return np.concatenate([total[:last], total[last:] - total[:-last]])


def healthy_limits(seen: Seen, quantile: float) -> Limits:
    """The thresholds that this part of healthy minutes keeps."""
    return Limits(float(np.quantile(seen.errors, quantile)), float(np.quantile(seen.p95, quantile)))


def tuned(seen: Seen, rule: Callable[[float], Rule], low: float, high: float) -> Rule:
    """The rule with its number set so that at most 1 % of these healthy rollouts are rolled back, as close as it goes.

    The larger the number, the fewer.
    """
    for _ in range(18):
        middle = (low + high) / 2
        false = float((rule(middle)(seen) < NEVER).mean())
        low, high = (middle, high) if false > FALSE else (low, middle)
    return rule(high)


def documented() -> dict[str, Rule]:
    """The rules with the numbers of their documentation."""
    limits = Limits(DOCUMENTED_ERROR, DOCUMENTED_MS)
    return {
        "Flagger as documented (99 %, p99 500 ms, 5)": flagger(limits),
        "Argo as documented (95 %, 5 min, 3)": argo(Limits(0.05, np.inf), every=5),
        "CloudWatch 3 of 5 (1 %, p95 500 ms)": cloudwatch(limits, of=3),
        "Kayenta, 10-min looks": kayenta_judge(every=10),
    }


def tuned_rules(healthy: Seen) -> dict[str, Rule]:
    """The rules tuned on these healthy rollouts of one cell."""

    def at(make: Callable[[Limits], Rule]) -> Callable[[float], Rule]:
        return lambda quantile: make(healthy_limits(healthy, quantile))

    return {
        "Flagger tuned": tuned(healthy, at(_flagger_p95), 0.5, 1.0),
        "Argo tuned, 1 min": tuned(healthy, at(lambda limits: argo(limits, every=1)), 0.5, 1.0),
        "CloudWatch tuned, 5 of 5": tuned(healthy, at(lambda limits: cloudwatch(limits, of=5)), 0.1, 1.0),
        "Kayenta tuned, 5-min looks": tuned(healthy, _kayenta_at(healthy), 0.0, 1.0),
    }


def _kayenta_at(healthy: Seen) -> Callable[[float], Rule]:
    """With the effects allowed that this part of the healthy looks keeps, at least its default."""
    looks = _kayenta_looks(healthy, 5)
    effects = [np.concatenate([look[2][metric] for look in looks]) for metric in range(2)]

    def at(quantile: float) -> Rule:
        errors, ms = (max(1.0, float(np.nanquantile(effect, quantile))) for effect in effects)
        return kayenta_judge(every=5, allowed=(errors, ms))

    return at


def _flagger_p95(limits: Limits) -> Rule:
    return lambda seen: flagger(limits)(seen.by_p95())
