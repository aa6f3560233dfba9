"""The rehearsal: many rollouts of one policy played at once against a made-up endpoint.

The rule: traffic moves as `advance` would move it on the same verdicts (a test plays both side by side): a decision's
split takes effect and is confirmed one look later, a retreat cuts the share, its end restores it, holds are bounded by
the policy. Looks are a minute apart. Approvals are given at once, nobody interferes, the policy's `max` is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Protocol

import numpy as np

from rollout.analysis.criteria import criteria_of, weighed
from rollout.analysis.crowd import Minute, Numbers, Places, Ruled, Terms, Watch, rule
from rollout.analysis.engine import Array, Mask
from rollout.analysis.fold import ANEW_FROM
from rollout.analysis.terms import Source
from rollout.lifecycle.moves import RETREAT_PER_MINUTE, SIZED_PER_MINUTE, share_for
from rollout.lifecycle.splits import step_share
from rollout.lifecycle.stage import SIZED_BLOCKS
from rollout.policy import Policy

_MINUTE = timedelta(minutes=1)
_WITHOUT_DATA, _WITHOUT_ANSWER, _UNBOUND = 1, 2, 3
_HOLDS = {
    Ruled.NO_TRAFFIC: _WITHOUT_DATA,
    Ruled.REQUESTS: _WITHOUT_ANSWER,
    Ruled.DOUBT: _WITHOUT_ANSWER,
    Ruled.SHARED_INCIDENT: _UNBOUND,
}


class Ended(IntEnum):
    """How a rollout ended."""

    NOT_YET = 0
    PROMOTED = 1
    ROLLED_BACK = 2
    PAUSED = 3


class World(Protocol):
    """An endpoint under made-up traffic.

    `usual` is stable's share of bad requests by check in the hour before; `per_minute` the endpoint's usual traffic.
    """

    usual: Array
    per_minute: float

    def minute(
        self, minute: int, rollouts: Numbers, *, share: Array, step: Numbers, since: Numbers
    ) -> tuple[Minute, Array]:
        """What these rollouts show in a minute with the candidate at `share` (0 to 1), and the harm done in it.

        Harm is the number of bad requests beyond those of a healthy candidate. `since` is the first whole minute of the
        step, which may be still to come. Rows of the counts are the policy's checks, in their order.
        """


@dataclass(frozen=True, kw_only=True)
class Delay:
    """How late a source shows a minute: whole minutes after its end until it is steady, and until it is closed."""

    steady: int
    closed: int


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """How the rollouts went; minutes run from the first confirmed split until the last one took effect."""

    ended: Numbers
    minutes: Array
    harm: Array  # bad requests served beyond those of a healthy candidate
    retreats: Numbers

    def part(self, ended: Ended) -> float:
        """The share of the rollouts that ended so."""
        return float((self.ended == ended).mean())


@dataclass(kw_only=True)
class _Going:
    """The rollouts that still go on; `phase` is the part of a minute by which their looks come after its begin."""

    ids: Numbers
    phase: Array
    places: Places
    shown: Array  # percent: the split in effect
    confirmed: Mask  # the split that is wanted has taken effect
    resting: Numbers  # the share before the retreat
    leaving: Numbers  # `Ended` of those whose last write is on its way
    held: Numbers  # the minute since which the verdict holds …
    held_for: Numbers  # … and what bounds it

    def kept(self, rollouts: Mask) -> "_Going":
        parts = {name: part[rollouts] for name, part in vars(self).items() if name != "places"}
        return _Going(places=self.places.kept(rollouts), **parts)

    def next_minute(self, minute: int) -> Numbers:
        """The first whole minute after a look in this one."""
        return minute + (self.phase > 0.0)


def rehearse(
    policy: Policy,
    world: World,
    delays: Mapping[Source, Delay],
    *,
    rollouts: int,
    phase: Array | float = 0.0,
    taus: Mapping[Source, Array] | None = None,
) -> Outcomes:
    """Play rollouts to their ends, at most to the policy's deadline; sources that `delays` leaves out show nothing.

    `taus` is the noise to expect by source (see `Judgement.taus`), by check and rollout.
    """
    phases = np.broadcast_to(np.asarray(phase, float), rollouts)
    return _Rehearsal(policy, world, delays, rollouts, taus or {}).play(phases)


class _Rehearsal:
    def __init__(
        self,
        policy: Policy,
        world: World,
        delays: Mapping[Source, Delay],
        rollouts: int,
        taus: Mapping[Source, Array],
    ) -> None:
        self.policy, self.world, self.delays = policy, world, list(delays.values())
        names, criteria = [check.name for check in weighed(policy)], criteria_of(policy)
        self.rows = [[names.index(check.name) for check in criteria[source].checks] for source in delays]
        self.watches = [
            Watch(
                criteria[source],
                world.usual[rows],
                behind=delay.closed - delay.steady,
                rollouts=rollouts,
                prior=taus.get(source),
            )
            for (source, delay), rows in zip(delays.items(), self.rows, strict=True)
        ]
        self.deciding = list(delays).index("logs") if "logs" in delays else 0
        self.terms = Terms(
            threshold=1.0 / policy.expert.alpha,
            retreats=policy.when.suspicion == "retreat",
            early=policy.expert.early,
            min_requests=policy.min_requests,
        )
        self.shares = np.array([step_share(policy, step) for step in range(len(policy.steps))])
        self.bakes = np.array([max(1, round(step.bake / _MINUTE)) for step in policy.steps])
        self.retreat_share = share_for(world.per_minute, RETREAT_PER_MINUTE)
        self.unseen: dict[int, Minute] = {}  # minutes that not every source has shown yet

    def play(self, phase: Array) -> Outcomes:
        going, rollouts = self._begin(phase), len(phase)
        longest = round(self.policy.deadline / _MINUTE)
        out = Outcomes(
            ended=np.full(rollouts, int(Ended.PAUSED)),
            minutes=np.full(rollouts, float(longest)),
            harm=np.zeros(rollouts),
            retreats=np.zeros(rollouts, dtype=np.int64),
        )
        for minute in range(longest):
            self._pass_time(going, minute, out)
            going = self._leave(going, minute, out)
            if not len(going.ids):
                break
            self._look(going, minute)
            retreated = going.places.retreated == going.next_minute(minute)
            out.retreats[going.ids[retreated]] += 1
        return out

    def _begin(self, phase: Array) -> _Going:
        share, sized = int(self.shares[0]), False
        if self.policy.first_step == "auto":
            smaller = share_for(self.world.per_minute, SIZED_PER_MINUTE)
            share, sized = min(share, smaller), smaller < share
        whole = np.zeros(len(phase), dtype=np.int64)
        places = Places(
            step=whole.copy(),
            share=whole + share,
            since=whole.copy(),
            bake=whole + (SIZED_BLOCKS if sized else self.bakes[0]),
            retreated=whole - 1,
            sized=np.full(len(phase), sized),
            resumed_at=np.zeros(len(phase)),
        )
        return _Going(
            ids=np.arange(len(phase)),
            phase=phase,
            places=places,
            shown=np.full(len(phase), float(share)),
            confirmed=np.ones(len(phase), dtype=bool),
            resting=whole.copy(),
            leaving=whole.copy(),
            held=whole.copy(),
            held_for=whole.copy(),
        )

    def _pass_time(self, going: _Going, minute: int, out: Outcomes) -> None:
        """What happens in this minute; the wanted split takes effect at the look within it."""
        places = going.places
        share = going.phase * going.shown + (1.0 - going.phase) * places.share
        going.shown = places.share.astype(float)
        cells, harm = self.world.minute(minute, going.ids, share=share / 100.0, step=places.step, since=places.since)
        out.harm[going.ids] += harm
        self.unseen[minute] = cells

    def _leave(self, going: _Going, minute: int, out: Outcomes) -> _Going:
        """Part with the rollouts whose last write has taken effect."""
        left = going.leaving > 0
        if not left.any():
            return going
        ids, stay = going.ids[left], ~left
        out.ended[ids] = going.leaving[left]
        out.minutes[ids] = minute + going.phase[left] - (going.leaving[left] == Ended.PAUSED)  # a pause writes nothing
        for watch in self.watches:
            watch.keep(stay)
        self.unseen = {at: cells.kept(stay) for at, cells in self.unseen.items()}
        return going.kept(stay)

    def _look(self, going: _Going, minute: int) -> None:
        """Take in what is steady by now, and let the ruling move each rollout."""
        for watch, rows, delay in zip(self.watches, self.rows, self.delays, strict=True):
            at = minute - 1 - delay.steady
            if at in self.unseen:
                watch.take(at, self.unseen[at].of(rows), going.places)
        self.unseen.pop(minute - 1 - max(delay.steady for delay in self.delays), None)
        deciding, delay = self.watches[self.deciding], self.delays[self.deciding]
        ruled = rule(self.watches, deciding, going.places, self.terms, at=minute, shown=minute - delay.steady)
        self._end(going, ruled == Ruled.FAIL, self.policy.when.regression)
        ruled = np.where(going.leaving > 0, -1, ruled)
        ruled = np.where(~going.confirmed & (ruled == Ruled.PASS), Ruled.BAKE, ruled)  # it speaks of another split
        going.confirmed[:] = True
        self._move(going, ruled, minute)
        self._hold(going, ruled, minute)

    def _move(self, going: _Going, ruled: Numbers, minute: int) -> None:
        places = going.places
        cut, over, passed = ruled == Ruled.SUSPICION, ruled == Ruled.RECOVERED, ruled == Ruled.PASS
        before = places.share
        going.resting = np.where(cut, before, going.resting)
        places.retreated = np.where(cut, going.next_minute(minute), np.where(over, -1, places.retreated))
        last = passed & ~places.sized & (places.step == len(self.shares) - 1)
        stepped = passed & ~places.sized & ~last
        places.step = places.step + stepped
        places.sized = places.sized & ~passed
        step = self.shares[places.step]
        share = np.where(cut, np.minimum(before, self.retreat_share), np.where(over, going.resting, before))
        places.share = np.where(last, 100, np.where(passed, step, share))
        places.bake = np.where(passed, self.bakes[places.step], places.bake)
        going.leaving[last] = Ended.PROMOTED
        moved, written = cut | over | passed, places.share != before
        places.since = np.where(moved, going.next_minute(minute) + written, places.since)
        going.confirmed &= ~written
        for watch in self.watches:
            watch.enter(moved, anew=stepped & (step >= ANEW_FROM), since=places.since)

    def _hold(self, going: _Going, ruled: Numbers, minute: int) -> None:
        """Holds are bounded; what is no hold ends one."""
        kind = np.zeros_like(ruled)
        for reason, bound in _HOLDS.items():
            kind[ruled == reason] = bound
        kind = np.where(ruled < 0, going.held_for, kind)
        going.held = np.where(kind != going.held_for, minute, going.held)
        going.held_for = kind
        when, held = self.policy.when, minute - going.held
        for bound, limit, then in (
            (_WITHOUT_DATA, when.no_data.hold, when.no_data.then),
            (_WITHOUT_ANSWER, when.doubt.extend, when.doubt.then),
        ):
            self._end(going, (kind == bound) & (ruled >= 0) & (held >= limit / _MINUTE), then)

    def _end(self, going: _Going, which: Mask, then: str) -> None:
        """Roll these back, or leave them to a person."""
        going.leaving[which] = Ended.ROLLED_BACK if then == "rollback" else Ended.PAUSED
        if then == "rollback":
            going.places.share[which] = 0
