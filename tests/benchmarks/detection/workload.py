"""The workload: endpoints with known faults, drawn from seeded chance, for all rules alike.

A rollout goes through 10/25/50/75/100 % (95 with the holdback), ten minutes each. A *cell* is a rate of requests and a
base rate of errors. Noise is `iid` (nothing but chance) or `noisy`: the log error rate of each deployment wanders by
itself (AR(1), sd 0.25, φ 0.6) and bursts ×4 for about two minutes once in 100; its latency has 3 % of noise; and both
share a drift of errors (sd 0.4), latency (10 %) and traffic (25 %). Durations are log-normal (σ 0.5).

The paths of a rollout depend on the seed alone, so every rule sees the same endpoint; counts are drawn anew for each
minute, from a generator of that minute.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

import numpy as np
from scipy.special import ndtr, ndtri

from rollout.analysis.checks import IGNORED_MS
from rollout.analysis.crowd import Minute, Numbers
from rollout.analysis.engine import Array
from rollout.policy import Policy, Step

SHARES, BAKE = (10, 25, 50, 75, 100), 10
SCHEDULE = BAKE * len(SHARES)  # minutes
MARGIN, ALLOWANCE, RATIO = 0.10, 0.001, 1.2
SIGMA, MEDIAN = 0.5, 150.0  # of the durations; ms
QUANTILES = (0.50, 0.95, 0.99)
BARS = np.exp(SIGMA * ndtri(QUANTILES))  # stable's quantiles, in medians
CANDIDATE_BARS = np.maximum(BARS * (1.0 + MARGIN), BARS + IGNORED_MS / MEDIAN)
CLIENT_ERRORS = 0.01
PATHS = 480  # minutes of noise; later minutes begin again
TAIL = 0.02  # the part of the requests that a fault of the tail slows

Noise = Literal["iid", "noisy"]


@dataclass(frozen=True)
class Cell:
    """An endpoint: requests a second, and the rate of errors of a healthy deployment."""

    rate: float
    error: float

    def __str__(self) -> str:
        return f"{self.rate:g}/s, {100 * self.error:g} %"


CELLS = tuple(Cell(rate, error) for rate in (1, 10, 100, 1000) for error in (0.001, 0.01))


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with the candidate, or with both deployments."""

    error: float = 0.0  # added to its rate of errors
    times: float = 1.0  # … or multiplied
    slower: float = 1.0  # all its durations
    tail: float = 1.0  # its slowest durations
    leak: int = 0  # minutes over which `error` rises from nothing
    mid_step: bool = False  # begins in the middle of one of the first four steps
    cold: int = 0  # lasts only for the first minutes
    shared: tuple[int, int] = (0, 0)  # stable has it too, and only from … to
    diurnal: bool = False  # traffic, errors and latency swing
    at_margin: bool = False  # as bad as the margin allows
    bar: float = BARS[1]  # slower than this is bad


HEALTHY = Fault()
FAULTS = {
    "+0.5pp": Fault(error=0.005),
    "+1pp": Fault(error=0.01),
    "+2pp": Fault(error=0.02),
    "+5pp": Fault(error=0.05),
    "+50pp": Fault(error=0.50),
    "×2": Fault(times=2.0),
    "p95 ×1.1": Fault(slower=1.1),
    "p95 ×1.3": Fault(slower=1.3),
    "p95 ×2": Fault(slower=2.0),
    "p99 ×3": Fault(tail=3.0, bar=BARS[2]),
    "leak to +5pp": Fault(error=0.05, leak=40),
    "mid-step +5pp": Fault(error=0.05, mid_step=True),
}
HARMLESS = {
    "healthy": HEALTHY,
    "shared incident": Fault(error=0.05, shared=(12, 22)),
    "cold start": Fault(error=0.20, slower=2.0, cold=2),
    "diurnal": Fault(diurnal=True),
}
AT_MARGIN = Fault(times=RATIO, error=ALLOWANCE, at_margin=True)


def benchmark_policy(*, early: bool = False, sized: bool = True, retreat: bool = True, **changes: Any) -> Policy:
    """The schedule as a policy, with all five checks."""
    steps = tuple(Step(traffic=share, bake=timedelta(minutes=BAKE)) for share in SHARES)
    latency, errors = {"max_increase": f"{100 * MARGIN:g}%"}, {"max_increase": f"{100 * ALLOWANCE:g}pp"}
    return Policy(
        name="benchmark",
        endpoint_name="benchmark",
        steps=steps,
        first_step="auto" if sized else "as_written",
        checks={
            "error_rate": errors,
            "client_errors": errors,
            "latency_p50": latency,
            "latency_p95": latency,
            "latency_p99": latency,
        },
        min_requests=30,
        when={"suspicion": "retreat" if retreat else "hold"},
        expert={"early": early, "evidence": ("logs",), "ratio": RATIO} | changes,
    )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is true of some rollouts in one minute: requests, rates of errors, factors on durations."""

    baseline: Array
    candidate: Array
    errors: tuple[Array, Array]  # stable's and the candidate's
    healthy_errors: Array  # what the candidate's would be
    slower: tuple[Array, Array]
    healthy_slower: Array
    tail: Array


@dataclass
class Endpoint:
    """Rollouts of one cell, as a world for `rehearse` and as minutes for everyone else."""

    cell: Cell
    noise: Noise
    fault: Fault
    rollouts: int
    seed: tuple[int, ...]
    per_minute: float = field(init=False)
    usual: Array = field(init=False)

    def __post_init__(self) -> None:
        self.per_minute = 60.0 * self.cell.rate
        self.usual = np.array([self.cell.error, CLIENT_ERRORS, *(1.0 - q for q in QUANTILES)])
        rng = np.random.default_rng([*self.seed, 0])
        paths = _quiet if self.noise == "iid" else _noisy
        self.drift, self.errors, self.refused, self.latency = paths(rng, self.rollouts)
        self.begins = rng.integers(0, len(SHARES) - 1, self.rollouts)  # the step in which a fault in mid-step begins
        self.onset = np.full(self.rollouts, np.inf if self.fault.mid_step else 0.0)

    def truth(self, minute: int, ids: Numbers, *, share: Array, step: Numbers, since: Numbers) -> Truth:
        """What is true in a minute of these rollouts."""
        fault, at = self.fault, minute % PATHS
        self._begin(minute, ids, share, step, since)
        swing = np.sin(2 * np.pi * minute / 60) if fault.diurnal else 0.0
        traffic = self.per_minute * self.drift[2, ids, at] * (1.0 + 0.5 * swing)
        base = self.cell.error * self.drift[0, ids, at] * (1.0 + 0.5 * swing)
        slow = self.drift[1, ids, at] * (1.0 + 0.1 * swing)
        active = (minute >= self.onset[ids]) & (not fault.cold or minute < fault.cold)
        grown = np.minimum(1.0, minute / fault.leak) if fault.leak else 1.0
        both = fault.error if fault.shared[0] <= minute < fault.shared[1] else 0.0
        noise = self.errors[:, ids, at]
        stable, healthy = np.minimum(1.0, (base + both) * noise)
        alone = 0.0 if any(fault.shared) else fault.error
        wrong = np.minimum(1.0, healthy * fault.times + alone * grown * (noise[1] if fault.at_margin else 1.0))
        latency = slow * self.latency[:, ids, at]
        return Truth(
            baseline=traffic * (1.0 - share),
            candidate=traffic * share,
            errors=(stable, np.where(active, wrong, healthy)),
            healthy_errors=healthy,
            slower=(latency[0], np.where(active, latency[1] * fault.slower, latency[1])),
            healthy_slower=latency[1],
            tail=np.where(active, fault.tail, 1.0),
        )

    def _begin(self, minute: int, ids: Numbers, share: Array, step: Numbers, since: Numbers) -> None:
        """A fault in mid-step begins when half of its step's minutes have passed at the step's own share."""
        if self.fault.mid_step:
            own = share >= 0.99 * np.array(SHARES)[self.begins[ids]] / 100
            now = own & (step == self.begins[ids]) & (minute - since >= BAKE // 2) & (since >= 0)
            self.onset[ids] = np.where(now & ~np.isfinite(self.onset[ids]), minute, self.onset[ids])

    def minute(
        self, minute: int, rollouts: Numbers, *, share: Array, step: Numbers, since: Numbers
    ) -> tuple[Minute, Array]:
        """See `World`."""
        truth = self.truth(minute, rollouts, share=share, step=step, since=since)
        rng = np.random.default_rng([*self.seed, 1 + minute])
        client = CLIENT_ERRORS * self.refused[:, rollouts, minute % PATHS]
        stable = _arm(rng, truth.baseline, truth.errors[0], client[0], slow_shares(truth.slower[0], 1.0, BARS))
        ours = slow_shares(truth.slower[1], truth.tail, CANDIDATE_BARS)
        candidate = _arm(rng, truth.candidate, truth.errors[1], client[1], ours)
        cells = Minute(
            baseline=stable[1][0], candidate=candidate[1][0], z=stable[0], m=stable[1], x=candidate[0], n=candidate[1]
        )
        return cells, self.harm(truth)

    def schedule(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The fixed schedule: each minute with the share, step and its begin for every rollout."""
        for minute in range(SCHEDULE):
            step = np.full(self.rollouts, minute // BAKE)
            share = np.full(self.rollouts, min(SHARES[minute // BAKE], 95) / 100)
            yield minute, {"share": share, "step": step, "since": step * BAKE}

    def seen(self) -> "Seen":
        """All minutes of the fixed schedule, for the rules that look at rates and quantiles."""
        ids, columns = np.arange(self.rollouts), []
        for minute, place in self.schedule():
            cells, harm = self.minute(minute, ids, **place)
            truth = self.truth(minute, ids, **place)
            rng = np.random.default_rng([*self.seed, 1 + minute, 1])
            quantiles = [
                quantile_of(rng, q, cells.n[2] if arm else cells.m[2], truth.slower[arm], truth.tail if arm else 1.0)
                for arm, q in ((1, 0.95), (1, 0.99), (0, 0.95))
            ]
            stable_errors = cells.z[0] / np.maximum(cells.m[0], 1.0)
            columns.append((cells.x[0], cells.n[0], *quantiles, stable_errors, harm))
        return Seen(*(np.array(column) for column in zip(*columns, strict=True)), onset=self.onset)

    def harm(self, truth: Truth) -> Array:
        """Expected bad requests of the candidate beyond those of a healthy one: errors, and slow answers of slow faults."""
        errors = truth.errors[1] - truth.healthy_errors
        if self.fault.slower == self.fault.tail == 1.0 or self.fault.cold:
            return truth.candidate * errors
        slow = _slower(self.fault.bar, truth.slower[1], truth.tail) - _slower(self.fault.bar, truth.healthy_slower, 1.0)
        return truth.candidate * (errors + (1.0 - truth.errors[1]) * slow)


@dataclass
class Seen:
    """The fixed schedule as dashboards show it: a row for each minute, a column for each rollout."""

    bad: Array  # the candidate's
    requests: Array
    p95: Array  # ms
    p99: Array
    stable_p95: Array
    stable_errors: Array
    harm: Array
    onset: Array  # the minute in which the fault begins
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> Array:
        """The candidate's rate of errors; no request, no error."""
        return self.bad / np.maximum(self.requests, 1.0)

    def by_p95(self) -> "Seen":
        """With p95 where p99 was."""
        return replace(self, p99=self.p95)

    def cached(self, name: str, find: Callable[[], Any]) -> Any:
        """What was found once is not looked for again."""
        if name not in self.known:
            self.known[name] = find()
        return self.known[name]


def joined(parts: Sequence[Seen]) -> Seen:
    """Side by side."""
    names = [name for name in vars(parts[0]) if name != "known"]
    return Seen(**{name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names})


def quantile_of(rng: np.random.Generator, q: float, n: Array, factor: Array, tail: Array | float) -> Array:
    """The q-quantile in ms that n durations show: an order statistic, drawn from its own (beta) law."""
    least = np.maximum(n, 1.0)
    rank = np.ceil(q * least)
    at = rng.beta(rank, least - rank + 1.0)
    plain = MEDIAN * factor * np.exp(SIGMA * ndtri(at))
    return np.where(n > 0, np.where(at > 1.0 - TAIL, plain * tail, plain), 0.0)


def _slower(bar: float | Array, factor: Array, tail: Array | float) -> Array:
    """The share of durations above the bar (in medians) when all are `factor` times, and the slowest `tail` times, longer."""
    plain = ndtr(-np.log(bar / factor) / SIGMA)
    moved = ndtr(-np.log(bar / factor / tail) / SIGMA)
    return np.asarray(np.maximum(plain - TAIL, 0.0) + np.minimum(moved, TAIL))


def slow_shares(factor: Array, tail: Array | float, bars: Array) -> list[Array]:
    """The shares of durations above each bar."""
    return [_slower(bar, factor, tail) for bar in bars]


def _arm(
    rng: np.random.Generator, expected: Array, error: Array, client: Array, slow: list[Array]
) -> tuple[Array, Array]:
    """Bad requests and requests by check: errors, client errors, and slower than each bar."""
    n = rng.poisson(expected)
    bad = rng.binomial(n, error)
    refused = rng.binomial(n - bad, np.minimum(1.0, client))
    good = left = n - bad - refused
    counts, above = [bad, refused], np.ones_like(error)
    for share in slow:
        left = rng.binomial(left, np.minimum(1.0, share / above))
        above = np.maximum(share, 1e-300)
        counts.append(left)
    return np.array(counts, dtype=float), np.array([n, n, good, good, good], dtype=float)


def _quiet(rng: np.random.Generator, rollouts: int) -> tuple[Array, Array, Array, Array]:
    ones = np.ones((3, rollouts, PATHS))
    return ones, ones[:2], ones[:2], ones[:2]


def _noisy(rng: np.random.Generator, rollouts: int) -> tuple[Array, Array, Array, Array]:
    """Factors: drift of errors, latency and traffic; errors, client errors and latency of both deployments."""
    drift = np.exp(_wander(rng, (4, rollouts), 0.95) * np.array([0.4, 0.1, 0.25, 0.4])[:, None, None])
    errors = np.exp(0.25 * _wander(rng, (2, rollouts), 0.6)) * np.where(_bursts(rng, (2, rollouts)), 4.0, 1.0)
    refused = drift[3] * np.exp(0.25 * _wander(rng, (2, rollouts), 0.6))
    latency = np.exp(0.03 * rng.standard_normal((2, rollouts, PATHS)))
    return drift[:3], errors, refused, latency


def _wander(rng: np.random.Generator, shape: tuple[int, ...], phi: float) -> Array:
    """AR(1) of unit variance along the minutes."""
    path = rng.standard_normal((*shape, PATHS))
    fresh = np.sqrt(1.0 - phi * phi)
    for minute in range(1, PATHS):
        path[..., minute] = phi * path[..., minute - 1] + fresh * path[..., minute]
    return path


def _bursts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Whether a burst is on: one begins about every 100 minutes and lasts two on average (geometric)."""
    begins, goes_on = rng.random((*shape, PATHS)) < 1 / 98, rng.random((*shape, PATHS)) < 0.5
    on = begins.copy()
    for minute in range(1, PATHS):
        on[..., minute] |= on[..., minute - 1] & goes_on[..., minute]
    return on


def chunks(rollouts: int, size: int = 500) -> list[int]:
    """Sizes of the parts in which rollouts are played: arrays that stay in the cache."""
    return [min(size, rollouts - begun) for begun in range(0, rollouts, size)]
