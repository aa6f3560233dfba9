"""Runs: rules against rollouts, and what came of it.

The rule: the seed of a run names its purpose (design or evaluation), its cell, noise and fault, so that all rules see
the same endpoints and nothing is tuned on what it is measured on. A decision is taken when the data is there: a minute
is visible `lag` to `lag + 1` minutes after its end (looks are a minute apart, at a phase of their own), and a roll back
takes effect a minute after it was decided.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from rollout.analysis.criteria import criteria_of
from rollout.analysis.crowd import Numbers, Watch
from rollout.analysis.engine import Array
from rollout.analysis.terms import Source
from rollout.lifecycle.moves import SIZED_PER_MINUTE, share_for
from rollout.lifecycle.rehearsal import Delay, Ended, rehearse
from rollout.policy import Policy
from tests.benchmarks.detection.past import Taus, nothing_known
from tests.benchmarks.detection.peers import NEVER, Rule
from tests.benchmarks.detection.probed import Crash, seconds_to_crash
from tests.benchmarks.detection.workload import (
    CELLS,
    SCHEDULE,
    SHARES,
    Cell,
    Endpoint,
    Fault,
    Noise,
    Seen,
    chunks,
    joined,
)

Purpose = Literal["design", "evaluation"]
PURPOSES: dict[Purpose, int] = {"design": 1, "evaluation": 2}
LAG = 2  # minutes: visible after 2 to 3
CHUNK = 500
SOON: Mapping[Source, Delay] = {"logs": Delay(steady=LAG, closed=LAG)}
OURS = "Rollout, thresholds only"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Some rollouts of one kind: what to draw, and from which seeds."""

    cell: Cell
    noise: Noise
    fault: Fault
    count: int
    purpose: Purpose = "evaluation"

    def endpoints(self) -> Iterator[tuple[Endpoint, Array]]:
        """The endpoints in parts, and the phases of their looks."""
        kind = (PURPOSES[self.purpose], CELLS.index(self.cell), int(self.noise == "noisy"), *_words(self.fault))
        for part, size in enumerate(chunks(self.count, CHUNK)):
            seed = (*kind, part)
            yield (
                Endpoint(self.cell, self.noise, self.fault, size, seed),
                np.random.default_rng([*seed, 2**31]).random(size),
            )


def _words(fault: Fault) -> tuple[int, ...]:
    """Numbers that name a fault for the seeds."""
    return tuple(abs(round(1000 * float(np.sum(value)))) for value in vars(fault).values())


@dataclass(kw_only=True)
class Result:
    """What came of some rollouts: a number for each."""

    stopped: Array = field(default_factory=lambda: np.zeros(0))  # 1 where it was rolled back
    minutes: Array = field(default_factory=lambda: np.zeros(0))  # from the fault until that, else until the end
    harm: Array = field(default_factory=lambda: np.zeros(0))  # bad requests served until it took effect
    retreated: Array = field(default_factory=lambda: np.zeros(0))  # 1 where the share was ever cut

    def plus(self, other: "Result") -> "Result":
        """Both."""
        return Result(**{name: np.concatenate([mine, getattr(other, name)]) for name, mine in vars(self).items()})

    @property
    def rate(self) -> float:
        """The part that was rolled back, in percent."""
        return 100.0 * float(self.stopped.mean())

    @property
    def cut(self) -> float:
        """The part whose share was ever cut, in percent."""
        return 100.0 * float(self.retreated.mean())

    def told(self) -> str:
        """Detected % / minutes to it / bad requests served."""
        minutes = self.minutes[self.stopped > 0]
        took = f"{minutes.mean():.1f}" if len(minutes) else "–"
        return f"{self.rate:.0f}/{took}/{self.harm.mean():,.0f}"


def fixed(fires: Numbers, seen: Seen, phase: Array, lag: int = LAG) -> Result:
    """On the fixed schedule: `fires` is the minute whose data makes the rule roll back."""
    at = np.minimum(fires, NEVER) + 1 + lag + phase
    stopped = at <= SCHEDULE
    served = np.where(stopped, np.minimum(at + 1, SCHEDULE), SCHEDULE)
    total = np.concatenate([np.zeros((1, len(phase))), np.cumsum(seen.harm, axis=0)])
    whole = np.floor(served).astype(int)
    columns = np.arange(len(phase))
    part = (served - whole) * seen.harm[np.minimum(whole, SCHEDULE - 1), columns]
    return Result(
        stopped=stopped.astype(float),
        minutes=np.where(stopped, np.maximum(at - seen.onset, 0.0), SCHEDULE),
        harm=total[whole, columns] + part,
        retreated=np.zeros(len(phase)),
    )


def open_loop(policy: Policy, endpoint: Endpoint) -> Numbers:
    """Our thresholds alone: the minute of the fixed schedule at which the evidence fails the rollout."""
    (criteria,) = criteria_of(policy).values()
    watch = Watch(criteria, endpoint.usual, behind=0, rollouts=endpoint.rollouts)
    ids, found = np.arange(endpoint.rollouts), np.full(endpoint.rollouts, NEVER)
    nobody = np.zeros(endpoint.rollouts, dtype=bool)
    for minute, place in endpoint.schedule():
        cells, _ = endpoint.minute(minute, ids, **place)
        watch.processes.take(cells.z, cells.m, cells.x, cells.n, nobody)
        watch.guard(cells)
        fails = (watch.evidence() >= 1.0 / policy.expert.alpha) | watch.hard()
        found = np.where(fails & (found == NEVER), minute, found)
    return found


def closed_loop(
    policy: Policy, runs: Runs, delays: Mapping[Source, Delay] = SOON, *, known: Taus = nothing_known
) -> Result:
    """The product: retreats, resumes, sizes its first step; every write takes effect a look later.

    `known` is what was learned of the endpoint's noise before.
    """
    result, criteria = Result(), criteria_of(policy)
    for endpoint, phase in runs.endpoints():
        taus = {source: known(endpoint, criteria[source]) for source in delays} if known is not nothing_known else None
        out = rehearse(policy, endpoint, delays, rollouts=endpoint.rollouts, phase=phase, taus=taus)
        stopped = out.ended == Ended.ROLLED_BACK
        result = result.plus(
            Result(
                stopped=stopped.astype(float),
                minutes=np.where(stopped, np.maximum(out.minutes - 1 - endpoint.onset, 0.0), out.minutes),
                harm=out.harm,
                retreated=(out.retreats > 0).astype(float),
            )
        )
    return result


def against(rules: Mapping[str, Rule], runs: Runs, policy: Policy, lag: int = LAG) -> dict[str, Result]:
    """All rules on the fixed schedule, ours last."""
    results: dict[str, Result] = {}
    for endpoint, phase in runs.endpoints():
        seen = endpoint.seen()
        fires = {name: rule(seen) for name, rule in rules.items()}
        fires[OURS] = open_loop(policy, endpoint)
        for name, minute in fires.items():
            results[name] = results.get(name, Result()).plus(fixed(minute, seen, phase, lag))
    return results


def crashes(crash: Crash, runs: Runs, later: Result) -> tuple[Array, Result]:
    """Probes beside data that comes later: the seconds until they see the crash, and what came of the rollouts.

    What they don't see in time ends as in `later`, without their evidence from the minutes (which only helps).
    """
    seconds, harm = np.zeros(0), np.zeros(0)
    for endpoint, phase in runs.endpoints():
        rng, ids = np.random.default_rng([*endpoint.seed, 1]), np.arange(len(phase))
        seen = np.array([seconds_to_crash(crash, runs.cell.error, rng) for _ in phase])
        share = np.full(len(phase), min(SHARES[0], share_for(endpoint.per_minute, SIZED_PER_MINUTE)) / 100)
        truth = endpoint.truth(0, ids, share=share, step=0 * ids, since=0 * ids)
        seconds, harm = np.concatenate([seconds, seen]), np.concatenate([harm, endpoint.harm(truth)])
    minutes = seconds / 60
    sooner = minutes < later.minutes
    served = np.where(sooner, harm * (np.where(sooner, minutes, 0.0) + 1.0), later.harm)
    return seconds, replace(later, minutes=np.minimum(minutes, later.minutes), harm=served)


def all_seen(runs: Runs) -> tuple[Seen, Array]:
    """All rollouts of some runs on the fixed schedule, with the phases of their looks."""
    parts = [(endpoint.seen(), phase) for endpoint, phase in runs.endpoints()]
    return joined([seen for seen, _ in parts]), np.concatenate([phase for _, phase in parts])
