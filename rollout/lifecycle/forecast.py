"""The forecast: what a policy will detect, expose and take on an endpoint, by playing it many times.

The rule: it is the rehearsal (`rehearsal.py`) on traffic drawn from the endpoint's profile, so every number is what the
judge, expecting the noise that past rollouts showed, and the lifecycle would do; pure, and the same generator gives the
same forecast. All rollouts, the healthy and those of each fault, are played side by side in the same arrays. Fixed for
the draw: requests are Poisson, errors and slow answers of each deployment and minute wander by the profile's spreads;
100 % without a holdback compares with a stable of as much traffic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rollout.analysis.criteria import criteria_of, weighed
from rollout.analysis.crowd import Minute, Numbers
from rollout.analysis.engine import Array
from rollout.analysis.forecast import FAULTS, HEALTHY, METRICS_LAG, Fault, bad_shares, slow_share
from rollout.analysis.profile import Profile
from rollout.analysis.terms import Source
from rollout.lifecycle.rehearsal import Delay, Ended, Outcomes, rehearse
from rollout.lifecycle.timeline import MINUTE
from rollout.policy import Policy

CHUNK = 500  # rollouts played at once: arrays that stay in the cache
EFFORT = 300_000  # rollouts × minutes that a forecast may take
LEAST, MOST = 60, 400  # rollouts of each fault; of the healthy there are twice as many


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """What becomes of a candidate that is as good as stable: parts of all (0 to 1)."""

    rolled_back: float
    retreated: float  # at least once
    paused: float
    promoted: float
    early: float | None  # minutes to 100 % with early promotion, mean of those promoted


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What becomes of a candidate with a fault."""

    fault: Fault
    allowed: bool  # no more than the policy lets pass: not to be detected
    detected: float  # rolled back, a part of all
    paused: float
    harm: float  # bad requests beyond a healthy candidate's, mean …
    harm_95: float  # … and the 95th percentile
    minutes: float | None  # to the roll back, median of those detected


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What was seen in so many played rollouts."""

    healthy: Healthy
    faults: tuple[Damage, ...]
    rollouts: int


def forecast(policy: Policy, profile: Profile, rng: np.random.Generator, *, effort: int = EFFORT) -> Forecast:
    """Play the policy: `effort` bounds rollouts × minutes."""
    faults = (HEALTHY, HEALTHY, *FAULTS)
    each = rollouts_within(policy, effort, kinds=len(faults))
    kinds = np.tile(np.arange(len(faults)), each)
    outcomes = simulate(policy, profile, faults, kinds, rng)
    healthy = outcomes_of(outcomes, kinds < 2)
    early = healthy
    if not policy.expert.early:
        eager = policy.model_copy(update={"expert": policy.expert.model_copy(update={"early": True})})
        early = simulate(eager, profile, (HEALTHY,), np.zeros(each, dtype=np.int64), rng)
    return Forecast(
        healthy=_healthy(healthy, early),
        faults=tuple(
            _damage(fault, outcomes_of(outcomes, kinds == at + 2), allowed=within(policy, profile, fault))
            for at, fault in enumerate(FAULTS)
        ),
        rollouts=len(kinds),
    )


def rollouts_within(policy: Policy, effort: int, *, kinds: int) -> int:
    """How many rollouts of each kind are played."""
    minutes = 1.5 * sum(step.bake / MINUTE for step in policy.steps) + 30.0
    return int(min(max(effort / minutes / kinds, LEAST), MOST))


def outcomes_of(outcomes: Outcomes, which: np.ndarray) -> Outcomes:
    """A part of them."""
    return Outcomes(**{name: part[which] for name, part in vars(outcomes).items()})


def _healthy(outcomes: Outcomes, early: Outcomes) -> Healthy:
    promoted = early.minutes[early.ended == Ended.PROMOTED]
    return Healthy(
        rolled_back=outcomes.part(Ended.ROLLED_BACK),
        retreated=float((outcomes.retreats > 0).mean()),
        paused=outcomes.part(Ended.PAUSED),
        promoted=outcomes.part(Ended.PROMOTED),
        early=float(promoted.mean()) if len(promoted) else None,
    )


def within(policy: Policy, profile: Profile, fault: Fault) -> bool:
    """The fault stays within every check's margin."""
    for check in weighed(policy):
        baseline, candidate = bad_shares(check, profile, fault)
        if candidate > check.margin.ratio * baseline + check.margin.allowance:
            return False
    return True


def _damage(fault: Fault, outcomes: Outcomes, *, allowed: bool) -> Damage:
    minutes = outcomes.minutes[outcomes.ended == Ended.ROLLED_BACK]
    return Damage(
        fault=fault,
        allowed=allowed,
        detected=outcomes.part(Ended.ROLLED_BACK),
        paused=outcomes.part(Ended.PAUSED),
        harm=float(outcomes.harm.mean()),
        harm_95=float(np.quantile(outcomes.harm, 0.95)),
        minutes=float(np.median(minutes)) if len(minutes) else None,
    )


def simulate(
    policy: Policy, profile: Profile, faults: Sequence[Fault], kinds: Numbers, rng: np.random.Generator
) -> Outcomes:
    """Play one rollout for each of `kinds`, indices into `faults`."""
    parts, taus = [], priors(policy, profile)
    for begun in range(0, len(kinds), CHUNK):
        part = kinds[begun : begun + CHUNK]
        world = Drawn(policy, profile, faults, part, rng)
        phase = rng.random(len(part))
        parts.append(rehearse(policy, world, delays(policy, profile), rollouts=len(part), phase=phase, taus=taus))
    return Outcomes(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def priors(policy: Policy, profile: Profile) -> dict[Source, Array]:
    """The noise that a judgement here begins with, by source and check (see `Judgement.taus`)."""
    return {
        source: np.array([[criteria.tunings[check.name].tau] for check in criteria.checks])
        for source, criteria in criteria_of(policy, profile.expected).items()
    }


def delays(policy: Policy, profile: Profile) -> dict[Source, Delay]:
    """How late each source shows a minute: the logs when it closes, which is the most careful answer."""
    found: dict[Source, Delay] = {}
    if "logs" in policy.expert.evidence:
        found["logs"] = Delay(steady=profile.lag, closed=profile.lag)
    if "metrics" in policy.expert.evidence and ("metrics" in profile.sources or not found):
        found["metrics"] = Delay(steady=METRICS_LAG - 1, closed=METRICS_LAG)
    return found


class Drawn:
    """An endpoint's traffic, drawn minute by minute: the `World` of the rehearsal.

    Every request is an error, refused, or good and in one of the bands between the latency checks' bars: each of these
    is a Poisson count of its own, which is the same as dividing a Poisson count.
    """

    def __init__(
        self, policy: Policy, profile: Profile, faults: Sequence[Fault], kinds: Numbers, rng: np.random.Generator
    ) -> None:
        checks = weighed(policy)
        self.profile, self.kinds, self.rng = profile, kinds, rng
        self.per_minute = profile.rate(0)
        shares = np.array([[bad_shares(check, profile, fault) for fault in faults] for check in checks])
        self.usual = shares[:, 0, 0]
        self.errors = np.array([fault.errors(profile.error_rate) for fault in faults])
        slow = [row for row, check in enumerate(checks) if check.quantile is not None]
        self.slow_rows = sorted(slow, key=lambda row: checks[row].quantile or 0.0)
        self.slow = shares[self.slow_rows]  # band, fault, deployment
        self.rows = [(row, check.name) for row, check in enumerate(checks) if check.quantile is None]
        bar = profile.p95
        self.harmful = np.array([slow_share(profile.durations, bar / fault.slower) for fault in faults])
        self.harmful -= slow_share(profile.durations, bar)

    def minute(
        self, minute: int, rollouts: Numbers, *, share: Array, step: Numbers, since: Numbers
    ) -> tuple[Minute, Array]:
        """See `World`."""
        del step, since
        kinds, rate = self.kinds[rollouts], self.profile.rate(minute)
        asked = rate * np.stack([np.where(share < 1.0, 1.0 - share, 1.0), share])  # stable, candidate
        noise = self._noise(len(rollouts))
        healthy = np.minimum(1.0, self.profile.error_rate * noise[0])
        wrong = np.minimum(1.0, self.errors[kinds] + healthy[1] - self.profile.error_rate)
        wrong = np.maximum(wrong, healthy[1])
        errors = np.stack([healthy[0], wrong])
        counts = self._counts(asked, errors, self._slow(kinds, noise[1]))
        harm = asked[1] * (wrong - healthy[1] + (1.0 - wrong) * self.harmful[kinds])
        return counts, harm

    def _noise(self, rollouts: int) -> Array:
        """Factors of mean 1 on errors and on slow answers, for each deployment."""
        spreads = np.array([self.profile.tau, self.profile.latency_tau]) / np.sqrt(2.0)
        drawn = self.rng.standard_normal((2, 2, rollouts)) * spreads[:, None, None]
        return np.asarray(np.exp(drawn - 0.5 * spreads[:, None, None] ** 2))

    def _slow(self, kinds: Numbers, noise: Array) -> Array:
        """The share of good answers above each bar: band, deployment, rollout."""
        shares = np.stack([self.slow[:, np.zeros_like(kinds), 0], self.slow[:, kinds, 1]], axis=1)
        return np.asarray(shares * noise / (1.0 - shares + shares * noise))

    def _counts(self, asked: Array, errors: Array, slow: Array) -> Minute:
        good = 1.0 - errors
        client = np.minimum(good, self.profile.client_error_rate)
        above = np.concatenate([np.ones((1, *asked.shape)), slow, np.zeros((1, *asked.shape))])
        bands = (good - client) * (above[:-1] - above[1:])
        drawn = self.rng.poisson(asked * np.concatenate([errors[None], client[None], np.maximum(bands, 0.0)]))
        total, answered = drawn.sum(axis=0), drawn[2:].sum(axis=0)
        rows = len(self.rows) + len(self.slow_rows)
        bad, of = np.zeros((rows, *asked.shape)), np.zeros((rows, *asked.shape))
        for row, name in self.rows:
            bad[row], of[row] = drawn[0 if name == "error_rate" else 1], total
        for band, row in enumerate(self.slow_rows):
            bad[row], of[row] = drawn[3 + band :].sum(axis=0), answered
        flat = total.astype(float)
        return Minute(baseline=flat[0], candidate=flat[1], z=bad[:, 0], m=of[:, 0], x=bad[:, 1], n=of[:, 1])
