"""The crowd: what `fold.py` remembers and `decision.py` decides, for many rollouts at once, in arrays.

The rule: the same verdicts as `verdict.judge` would give, minute by minute, in a world that shows every minute, keeps to
the split asked for and has known bars. What is not here: a policy's `max` and harm budget, sources that fall silent,
unequal splits, probes that fail in a row.
Arrays have a column for each rollout, and a row for each check where there is one.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from rollout.analysis import decision, findings, guards
from rollout.analysis.bounds import surely_above
from rollout.analysis.criteria import Criteria
from rollout.analysis.engine import Array, Mask, Processes, likelihood
from rollout.analysis.fold import RECENT_BLOCKS

Numbers = NDArray[np.int64]


class Ruled(IntEnum):
    """What was ruled for a rollout; see `Reason`."""

    BAKE = 0
    PASS = 1
    REQUESTS = 2
    DOUBT = 3
    NO_TRAFFIC = 4
    SHARED_INCIDENT = 5
    SUSPICION = 6
    STAY = 7
    RECOVERED = 8
    FAIL = 9


@dataclass(frozen=True, kw_only=True)
class Minute:
    """One minute of each rollout: requests of both deployments, and the counts of each check (see `Counts`)."""

    baseline: Array
    candidate: Array
    z: Array
    m: Array
    x: Array
    n: Array

    def of(self, checks: Sequence[int]) -> "Minute":
        """With these checks only."""
        rows = list(checks)
        return Minute(
            baseline=self.baseline,
            candidate=self.candidate,
            z=self.z[rows],
            m=self.m[rows],
            x=self.x[rows],
            n=self.n[rows],
        )

    def kept(self, rollouts: Mask) -> "Minute":
        """With these rollouts only."""
        return Minute(**{name: part[..., rollouts] for name, part in vars(self).items()})


@dataclass(kw_only=True)
class Places:
    """Where the rollouts stand, in the judge's terms (see `Stage`)."""

    step: Numbers
    share: Numbers  # percent
    since: Numbers  # minute
    bake: Numbers  # closed blocks wanted
    retreated: Numbers  # minute of the retreat, or -1
    sized: Mask  # the first minutes, at a share sized down
    resumed_at: Array

    def kept(self, rollouts: Mask) -> "Places":
        """With these rollouts only."""
        return Places(**{name: part[rollouts] for name, part in vars(self).items()})


class Watch:
    """What one source has shown of many rollouts; minutes are taken in once, in order, when they are steady.

    `usual` is stable's share of bad requests for each check in the hour before. What a minute adds to the bake and to
    the proof counts only once it is closed, `behind` minutes later. `prior` is the noise to expect (see `Processes`).
    """

    def __init__(
        self, criteria: Criteria, usual: Array, *, behind: int, rollouts: int, prior: Array | None = None
    ) -> None:
        checks = criteria.checks
        if prior is None:
            prior = np.array([[criteria.tunings[check.name].tau] for check in checks])
        self.criteria, self.usual, self.behind = criteria, usual, behind
        self.errors = np.array([check.quantile is None for check in checks])
        self.processes = Processes([check.margin for check in checks], criteria.tuning, rollouts, prior=prior)
        self.parts = np.array([criteria.weights[check.name] for check in checks])
        self.blocks = np.zeros(rollouts)
        self.half_bad = np.zeros((len(checks), rollouts))
        self.recent = np.zeros((RECENT_BLOCKS, 4, len(checks), rollouts))  # z, m, x, n of the last blocks
        self.step = np.zeros((4, len(checks), rollouts))  # z, m, x, n of this step's steady minutes
        self.quiet_minutes, self.quiet_requests = np.zeros(rollouts), np.zeros(rollouts)
        self.prove_from = np.full(rollouts, -1)
        self.step_blocks, self.step_candidate = np.zeros(rollouts), np.zeros(rollouts)
        self.seen_blocks = np.zeros(rollouts)  # of this step
        self.open: deque[tuple[int, Minute]] = deque()  # steady, not closed
        self.proofs: deque[Array] = deque([self.processes.not_worse()], maxlen=behind + 1)

    def keep(self, rollouts: Mask) -> None:
        """Go on with these rollouts only."""
        self.processes.keep(rollouts)
        for name in (
            "blocks",
            "half_bad",
            "recent",
            "step",
            "seen_blocks",
            "quiet_minutes",
            "quiet_requests",
            "prove_from",
        ):
            setattr(self, name, getattr(self, name)[..., rollouts])
        self.step_blocks, self.step_candidate = self.step_blocks[rollouts], self.step_candidate[rollouts]
        self.open = deque((at, minute.kept(rollouts)) for at, minute in self.open)
        self.proofs = deque((proof[..., rollouts] for proof in self.proofs), maxlen=self.behind + 1)

    def enter(self, rollouts: Mask, *, anew: Mask, since: Numbers) -> None:
        """Begin the step's counts anew; where `anew`, the proof too."""
        for counts in (
            self.step_blocks,
            self.step_candidate,
            self.seen_blocks,
            self.quiet_minutes,
            self.quiet_requests,
        ):
            counts[rollouts] = 0.0
        self.step[..., rollouts] = 0.0
        self.prove_from[anew] = since[anew]
        self.processes.unproven(anew)
        for proof in self.proofs:
            proof[..., anew] = 1.0

    def take(self, at: int, minute: Minute, places: Places) -> None:
        """Take in one steady minute, and close the one that is due."""
        n, m = minute.candidate, minute.baseline
        block = (m > 0.0) & (n > 0.0)
        here = at >= places.since
        self.blocks += block
        self.seen_blocks += block & here
        self.quiet_minutes = np.where(n > 0.0, 0.0, self.quiet_minutes + (here & (m > 0.0)))
        self.quiet_requests = np.where(n > 0.0, 0.0, self.quiet_requests + m * here)
        self.guard(minute)
        self.processes.take(minute.z, minute.m, minute.x, minute.n, at >= self.prove_from)
        latest = np.stack([minute.z, minute.m, minute.x, minute.n])[None]
        told = block & (minute.m > 0.0) & (minute.n > 0.0)
        self.recent = np.where(told, np.concatenate([self.recent[1:], latest]), self.recent)
        self.step += np.where(told & here, latest[0], 0.0)
        self.proofs.append(self.processes.not_worse())
        self.open.append((at, minute))
        if len(self.open) > self.behind:
            self._close(*self.open.popleft(), places)

    def guard(self, minute: Minute) -> None:
        """Count the blocks in a row in which half of the candidate's requests were bad: see `guards.hard_guard`."""
        half_bad = self.errors[:, None] & (minute.n >= 20.0) & (minute.x >= 0.5 * minute.n)
        half_bad &= minute.z < 0.25 * minute.m
        block = (minute.baseline > 0.0) & (minute.candidate > 0.0)
        self.half_bad = np.where(block, (self.half_bad + 1.0) * half_bad, self.half_bad)

    def _close(self, at: int, minute: Minute, places: Places) -> None:
        here = at >= places.since
        self.step_blocks += here & (minute.baseline > 0.0) & (minute.candidate > 0.0)
        self.step_candidate += np.where(here, minute.candidate, 0.0)

    def says(self, rollouts: Mask) -> dict[str, Array]:
        """What the minutes under this split alone say for a fault by check, as one block; NaN where they are too few."""
        known, tau = self.processes, self.processes.tau()[..., rollouts]
        found = likelihood(*self.step[..., rollouts], ratio=known.ratio, allowance=known.allowance, tau=tau)
        told = np.where(self.seen_blocks[rollouts] >= decision.OWN_BLOCKS, found, np.nan)
        return {check.name: told[row] for row, check in enumerate(self.criteria.checks)}

    def blamed(self, rollouts: Mask) -> dict[str, Mask]:
        """Which checks carry the evidence."""
        parts = self.parts[:, None] * self.processes.evidence()[:, rollouts]
        loud = parts >= findings.LOUD * parts.max(axis=0)
        return {check.name: loud[row] for row, check in enumerate(self.criteria.checks)}

    def suspicion(self) -> Array:
        """The loudest check's."""
        return np.asarray(self.processes.suspicion().max(axis=0))

    def evidence(self) -> Array:
        """What this source adds to the combined evidence of each rollout."""
        return np.asarray(self.criteria.weight * (self.parts @ self.processes.evidence()))

    def proven(self) -> Mask:
        """Every check is shown to be not worse, by closed minutes."""
        return np.asarray((self.proofs[0] >= 1.0 / decision.BETA).all(axis=0))

    def hard(self) -> Mask:
        """The hard guard trips."""
        return np.asarray((self.half_bad >= guards.HARD_BLOCKS).any(axis=0))

    def no_traffic(self, places: Places) -> Mask:
        """See `guards.no_traffic`."""
        expected = self.quiet_requests * places.share / np.maximum(100 - places.share, 1)
        routed = (self.quiet_minutes >= guards.SILENT_MINUTES) & (expected >= guards.ROUTED_REQUESTS)
        return np.asarray((self.quiet_minutes > 0) & (routed | (self.quiet_minutes >= guards.QUIET_MINUTES)))

    def shared_incident(self) -> Mask:
        """See `guards.shared_incident`: a quick look at the rates, then the exact bound where they are high."""
        found = np.zeros(len(self.blocks), dtype=bool)
        z, m, x, n = self.recent.sum(axis=0)
        limit = np.minimum(guards.WORSE_FACTOR * self.usual + guards.WORSE_POINTS, (1.0 + self.usual) / 2.0)[:, None]
        for c, r in np.argwhere((z > limit * m) & (x > limit * n)):
            if not found[r]:
                most = float(limit[c, 0])
                found[r] = all(surely_above(float(bad[c, r]), float(of[c, r]), most) for bad, of in ((z, m), (x, n)))
        return found


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What decides beside the evidence: see `Policy`."""

    threshold: float
    retreats: bool
    early: bool
    min_requests: int


def rule(watches: Sequence[Watch], deciding: Watch, places: Places, terms: Terms, *, at: int, shown: int) -> Numbers:
    """What `decision.decide` rules for each rollout, in the minute `at`, all minutes below `shown` being known.

    Renews `places.resumed_at`.
    """
    evidence = np.max([watch.evidence() for watch in watches], axis=0)
    suspicion = np.max([watch.suspicion() for watch in watches], axis=0)
    retreated = places.retreated >= 0
    fails = np.any([watch.hard() | _loud(watch, watches, places, terms, at=at) for watch in watches], axis=0)
    shared = deciding.shared_incident()
    calm = (suspicion < decision.OVER) & (evidence < decision.RESUME)
    away = _retreated(evidence, places, terms, calm=calm, at=at, shown=shown)
    away = np.where(shared, Ruled.SHARED_INCIDENT, away)
    here = _unfinished(evidence, deciding, places, terms)
    here = np.where(shared, Ruled.SHARED_INCIDENT, here)
    here = np.where(deciding.no_traffic(places), Ruled.NO_TRAFFIC, here)
    least = np.maximum(decision.SUSPICION, decision.RENEWED * places.resumed_at)
    suspects = (suspicion >= least) | (evidence >= terms.threshold)
    here = np.where(suspects & terms.retreats, Ruled.SUSPICION, here)
    ruled = np.where(fails, Ruled.FAIL, np.where(retreated, away, here))
    _remember(places, ruled, suspicion, calm)
    return ruled


def _loud(watch: Watch, watches: Sequence[Watch], places: Places, terms: Terms, *, at: int) -> Mask:
    """This source's evidence fails the rollout: see `decision._may_fail`."""
    evidence = watch.evidence()
    loud = evidence >= terms.threshold
    if not terms.retreats:
        return np.asarray(loud)
    stayed = np.where(places.retreated >= 0, at - places.retreated, 0)
    may = (evidence >= decision.OVERWHELMING) | (stayed >= decision.RETREAT_MOST)
    ask = loud & ~may & (stayed >= decision.RETREAT_LEAST)
    if ask.any():
        may[ask] = _persists(watch, watches, ask)
    return np.asarray(loud & may)


def _persists(watch: Watch, watches: Sequence[Watch], rollouts: Mask) -> Mask:
    """See `decision._persists`."""
    same = guards.LIVE if watch.criteria.source in guards.LIVE else {watch.criteria.source}
    heard = [other.says(rollouts) for other in watches if other.criteria.source in same]
    found = np.zeros(int(rollouts.sum()), dtype=bool)
    for name, blamed in watch.blamed(rollouts).items():
        least = np.fmin.reduce([says[name] for says in heard if name in says])  # the least that is known
        found |= blamed & (least >= decision.PERSISTS)
    return found


def _retreated(evidence: Array, places: Places, terms: Terms, *, calm: Mask, at: int, shown: int) -> Numbers:
    settled = (shown - places.retreated > decision.RETREAT_SETTLE) & calm
    long = (at - places.retreated >= decision.RETREAT_MOST) & (evidence < terms.threshold)
    return np.where(settled | long, Ruled.RECOVERED, Ruled.STAY)


def _unfinished(evidence: Array, deciding: Watch, places: Places, terms: Terms) -> Numbers:
    enough = places.sized | (deciding.step_candidate >= terms.min_requests)
    early = deciding.proven() & (deciding.step_blocks >= decision.EARLY_BLOCKS) & (evidence < decision.UNDISPUTED)
    baking = np.where(early & enough & terms.early, Ruled.PASS, Ruled.BAKE)
    over = np.where(~enough, Ruled.REQUESTS, np.where(evidence >= decision.DOUBT, Ruled.DOUBT, Ruled.PASS))
    return np.where(deciding.step_blocks < places.bake, baking, over)


def _remember(places: Places, ruled: Numbers, suspicion: Array, calm: Mask) -> None:
    """The suspicion at which a retreat ended for its length alone: see `Judgement.resumed_at`."""
    kept = np.where(calm & (ruled != Ruled.SUSPICION), 0.0, places.resumed_at)
    kept = np.where(places.retreated >= 0, 0.0, kept)
    kept = np.where((ruled == Ruled.RECOVERED) & ~calm, suspicion, kept)
    places.resumed_at = np.where(ruled == Ruled.FAIL, 0.0, kept)
