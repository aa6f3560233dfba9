"""What a release is: its phases, its members, and the facts and decisions of one look at them.

The rule: a member's rollout has its id before it is started, so that it is started once, whoever looks and however often.
What was seen of a rollout last is kept: one that the store has forgotten is never started again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.policy import Policy
from rollout.policy.waves import Target
from rollout.world import Command, CommandResult, EndpointRef, Event, Verb


class ReleasePhase(StrEnum):
    """Where a release stands."""

    RUNNING = "running"  # the rollouts of a wave run
    BETWEEN = "between"  # a wave is done; the time before the next one passes
    PAUSED = "paused"  # a person said so: nothing is started
    STOPPING = "stopping"  # something went wrong: nothing is started any more; what runs has not ended yet
    SUCCEEDED = "succeeded"  # every endpoint was promoted
    STOPPED = "stopped"  # ended before every endpoint was
    ABORTED = "aborted"  # the same, because a person said so

    @property
    def ended(self) -> bool:
        """Nothing changes any more."""
        return self in ENDED


ENDED = frozenset({ReleasePhase.SUCCEEDED, ReleasePhase.STOPPED, ReleasePhase.ABORTED})
_ANY_TIME = frozenset({ReleasePhase.PAUSED, ReleasePhase.STOPPING})

TRANSITIONS: dict[ReleasePhase, frozenset[ReleasePhase]] = {
    ReleasePhase.RUNNING: _ANY_TIME | {ReleasePhase.BETWEEN, ReleasePhase.SUCCEEDED},
    ReleasePhase.BETWEEN: _ANY_TIME | {ReleasePhase.RUNNING},
    ReleasePhase.PAUSED: frozenset({ReleasePhase.RUNNING, ReleasePhase.STOPPING}),
    ReleasePhase.STOPPING: frozenset({ReleasePhase.RUNNING, ReleasePhase.STOPPED, ReleasePhase.ABORTED}),
    ReleasePhase.SUCCEEDED: frozenset(),
    ReleasePhase.STOPPED: frozenset(),
    ReleasePhase.ABORTED: frozenset(),
}

#: Where a member's rollout has all traffic on its candidate; stable may be kept for a while, to take it back.
PROMOTED = frozenset({Phase.GUARDING, Phase.SUCCEEDED})
#: Where it is lost to the release: it went back, or never began.
LOST = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.HALTED, Phase.ABORTED})

#: What is wanted of the rollouts that run: go on, stand still, stand still for good, go back.
Wanted = Literal["go", "pause", "stop", "rollback"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command that the release gave a member's rollout; `accepted` None: not answered yet."""

    id: str
    verb: Verb
    accepted: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Member:
    """One endpoint of a release. `phase` is where its rollout was last seen; None: not started."""

    wave: int  # index
    target: Target
    ref: EndpointRef
    rollout_id: str
    phase: Phase | None = None
    order: Order | None = None  # the last one
    orders: int = 0  # how many there were
    undone: Phase | None = None  # where the undo of its promotion was last seen

    @property
    def started(self) -> bool:
        """Its rollout was begun."""
        return self.phase is not None

    @property
    def undo_id(self) -> str:
        """The id of the rollout that takes its promotion back, if it comes to that."""
        return f"{self.rollout_id}-undo"

    @property
    def promoted(self) -> bool:
        """Its candidate has all traffic."""
        return self.phase in PROMOTED and self.undone not in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}

    @property
    def lost(self) -> bool:
        """Its rollout went back, or never began."""
        return self.phase in LOST

    @property
    def running(self) -> bool:
        """Its rollout may still become either."""
        return self.started and self.phase not in PROMOTED and not self.lost

    @property
    def guarded(self) -> bool:
        """Its candidate has all traffic, and stable may still take it back."""
        return self.phase is Phase.GUARDING

    @property
    def settled(self) -> bool:
        """It has not begun, or nothing of it is the release's to wait for: it ended, or is guarded and left so."""
        if self.undone is not None and not self.undone.ended:
            return False
        going_back = self.order is not None and self.order.verb is Verb.ABORT and self.order.accepted is not False
        return self.phase is None or self.phase.ended or (self.guarded and not going_back)


@dataclass(frozen=True, kw_only=True)
class Release:
    """One policy on its way through its waves, as decided so far."""

    id: str
    name: str
    policy: Policy
    members: tuple[Member, ...]  # in the order of the policy
    phase: ReleasePhase
    phase_since: datetime
    created_at: datetime
    created_by: str
    sentence: str  # the last thing that happened, as told
    wave: int = 0  # index of the one that runs, or ran last
    promoted_at: datetime | None = None  # when the whole of this wave was first seen promoted
    wanted: Wanted = "go"
    why: str = ""  # why it stops, or stands still
    by_person: bool = False  # a person ended it
    told: tuple[str, ...] = ()  # what this phase tells only once and has told
    events: tuple[Event, ...] = ()  # all that happened, oldest first

    @property
    def ended(self) -> bool:
        """Nothing changes any more."""
        return self.phase.ended

    @property
    def waves(self) -> int:
        """How many there are."""
        return self.members[-1].wave + 1

    def in_wave(self, wave: int) -> tuple[Member, ...]:
        """The members of this wave (an index)."""
        return tuple(member for member in self.members if member.wave == wave)


def new_release(*, release_id: str, policy: Policy, refs: Sequence[EndpointRef], by: str, now: datetime) -> Release:
    """A release that was asked for; `refs` are the endpoints of the policy's waves, in order."""
    assert policy.waves is not None  # noqa: S101 - whoever starts has asked
    places = [(wave, target) for wave, targets in enumerate(policy.waves.order) for target in targets]
    members = tuple(
        Member(wave=wave, target=target, ref=ref, rollout_id=f"{release_id}-{number}")
        for number, ((wave, target), ref) in enumerate(zip(places, refs, strict=True), start=1)
    )
    waves = members[-1].wave + 1
    what = f"{len(members)} endpoint{'' if len(members) == 1 else 's'} in {waves} wave{'' if waves == 1 else 's'}"
    sentence = f"{by} asked for a release of {policy.name}: {what}."
    return Release(
        id=release_id,
        name=policy.name,
        policy=policy,
        members=members,
        phase=ReleasePhase.RUNNING,
        phase_since=now,
        created_at=now,
        created_by=by,
        sentence=sentence,
        events=(Event(at=now, kind="release_asked", sentence=sentence),),
    )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the store shows of a member: its rollout, or None where there is none (any more).

    `other` is the endpoint's newest rollout, where that is another one.
    """

    rollout: Rollout | None = None
    other: Rollout | None = None


def is_busy(rollout: Rollout) -> bool:
    """Another rollout of its endpoint cannot begin now; one that only guards gives way."""
    gives_way = rollout.ended or (rollout.phase is Phase.GUARDING and not rollout.fail_stands)
    return rollout.owes or bool(rollout.originals) or not gives_way


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The members as one look sees them, by the id of their rollout; `answers` are those to commands, by their id."""

    seen: Mapping[str, Seen]
    answers: Mapping[str, CommandResult] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Told:
    """An event of a release, and the rollout that it is about (its alert hangs on it)."""

    event: Event
    about: str | None


@dataclass(frozen=True, kw_only=True)
class NewRollout:
    """A rollout to be begun, with the events that tell it."""

    rollout: Rollout
    events: tuple[Event, ...]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one look decides: saved whole, in one transaction. `answer` is for the person who asked."""

    release: Release
    told: tuple[Told, ...] = ()
    starts: tuple[NewRollout, ...] = ()
    commands: tuple[Command, ...] = ()
    accepted: bool | None = None
    answer: str = ""
