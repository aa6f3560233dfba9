"""What is asked of the store; see the package for the rule."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from rollout.analysis.cells import Cell
from rollout.analysis.exhibits import Exhibit
from rollout.analysis.noise import Lessons
from rollout.lifecycle import releases
from rollout.lifecycle.rollout import Rollout
from rollout.world import (
    Alert,
    Command,
    CommandResult,
    EndpointRef,
    Event,
    Freeze,
)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to tick one rollout until it runs out; `fence` grows with every owner."""

    rollout_id: str
    owner: str
    fence: int
    until: datetime


@dataclass(frozen=True, kw_only=True)
class StoredCells:
    """What the store knows of one source for one endpoint and the minutes asked for."""

    cells: Mapping[str, Mapping[int, Cell]]  # deployment -> minute -> cell
    unchanged: Mapping[str, Mapping[int, int]]  # deployment -> minute -> unchanged re-reads, counted up to 2
    read_at: datetime | None  # the last successful read of this source for this endpoint
    closed_before: int = 0  # as the last reads said; never moves back
    late: int = 0  # rows of these minutes that came or changed after the minute had closed


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """An alert on its way to one channel."""

    id: int
    alert: Alert
    channel: str
    attempts: int
    state: str = "waiting"  # waiting | delivered | dead
    error: str | None = None
    next_at: datetime | None = None


#: `waiting` to be started; `started`; `passed` over for something newer, or for what a person did; `refused`; `known`
#: before its trigger was.
StartState = Literal["waiting", "started", "passed", "refused", "known"]
NO_SUBJECT: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Start:
    """Something that starts a rollout, once: two with the same key are the same.

    `what` says in words what was seen, `subject` holds what is needed to start it, `why` says why it was not started.
    """

    key: str
    ref: EndpointRef
    policy: str  # its name
    kind: str  # deployment | model | schedule, or "asked": nobody had noted it before
    what: str
    at: datetime
    state: StartState = "waiting"
    why: str = ""
    subject: Mapping[str, str] = field(default_factory=lambda: NO_SUBJECT)
    rollout_id: str | None = None
    settled_at: datetime | None = None


class Store(Protocol):
    """Rollouts, their history, commands, cells and outgoing alerts. Raises ConflictError where another writer won."""

    # rollouts
    def create(
        self, rollout: Rollout, events: Sequence[Event], alerts: Sequence[Alert], *, key: str | None = None
    ) -> str:
        """A new rollout, due now; its id. Raises ConflictError if the endpoint has an active one, naming it.

        An active one that only guards, and owes nothing, ends with this instead.

        The same `key` starts one rollout, ever: where it has, that one's id is returned and nothing is written; where it
        was passed over or refused, ConflictError says why.
        """

    def load(self, rollout_id: str) -> Rollout:
        """Raises RefusedError where there is none."""

    def latest(self, ref: EndpointRef) -> Rollout | None:
        """The active rollout of an endpoint, else its newest."""

    def rollouts(
        self, ref: EndpointRef | None = None, *, active_only: bool = False, limit: int = 100
    ) -> Sequence[Rollout]:
        """Newest first; those of all endpoints where none is named."""

    # freezes
    def freeze(self, freeze: Freeze) -> None:
        """Write a freeze down. The same one again changes nothing."""

    def unfreeze(self, endpoint: EndpointRef | None, *, by: str, now: datetime) -> Sequence[Freeze]:
        """Lift those of this endpoint, or (None) those of everything; what was lifted, oldest first."""

    def freezes(self, *, now: datetime, ref: EndpointRef | None = None) -> Sequence[Freeze]:
        """Those in force, oldest first; with `ref`, those that are about this endpoint."""

    # what starts rollouts
    def note_starts(self, starts: Iterable[Start]) -> Sequence[Start]:
        """Write down those whose keys are new, and return them; what is there already stays as it is."""

    def settle_start(self, key: str, *, state: StartState, why: str, now: datetime, alert: Alert | None = None) -> bool:
        """What waited does so no longer; False where it was settled before.

        `alert` tells the people of a rollout of it, and its event goes to that rollout's history, in the same transaction.
        """

    def find_start(self, key: str) -> Start | None:
        """None where the key is new."""

    def starts(
        self, ref: EndpointRef | None = None, *, state: StartState | None = None, limit: int = 100
    ) -> Sequence[Start]:
        """Newest first."""

    # ticking
    def claim_due(self, *, now: datetime, owner: str, lease: timedelta, limit: int = 50) -> Sequence[Lease]:
        """Take the active rollouts that are due and that nobody holds."""

    def renew(self, lease: Lease, *, until: datetime) -> Lease:
        """Hold it longer. Raises ConflictError if it was lost."""

    def release(self, lease: Lease, *, due_at: datetime) -> None:
        """Give it back; the rollout is due again at `due_at`, or at once if it was woken since it was claimed.

        A lease that was lost has nothing to give back: no error.
        """

    def release_all(self, owner: str) -> None:
        """Hand over on the way out: everything that this owner holds is free at once."""

    def wake(self, refs: Iterable[EndpointRef], *, now: datetime) -> None:
        """The active rollouts of these endpoints are due now: something changed."""

    def save(
        self,
        lease: Lease,
        rollout: Rollout,
        *,
        events: Sequence[Event] = (),
        alerts: Sequence[Alert] = (),
        results: Sequence[CommandResult] = (),
        exhibit: Exhibit | None = None,
    ) -> None:
        """State, history, outbox and answered commands in one durable transaction. Raises ConflictError if the lease was lost.

        `exhibit` is what the judge was shown, where its judgement is a part of what is saved. What a rollout that ends
        here teaches of its endpoint's noise (`lifecycle.lessons_of`) is written down with it, once.
        """

    def noise(self, ref: EndpointRef) -> Lessons:
        """What the last rollouts of this endpoint taught of its noise, by source and check; empty where none did.

        Checks of a policy's own stand under `analysis.noise.own_keys`.
        """

    def history(self, rollout_id: str) -> Sequence[Event]:
        """Oldest first."""

    def exhibits(self, rollout_id: str) -> Sequence[Exhibit]:
        """What the judge was shown, in order; empty where it was forgotten (see `prune`)."""

    # commands
    def submit(self, command: Command) -> None:
        """Write a command down and make its rollout due. Raises RefusedError where there is no such rollout.

        The same command again changes nothing. What no tick will see any more (the rollout has ended) is answered at
        once: refused, too late.
        """

    def pending_commands(self, rollout_id: str) -> Sequence[Command]:
        """Not yet answered, oldest first."""

    def command_result(self, command_id: str) -> CommandResult | None:
        """None while no tick has seen it."""

    # cells
    def put_cells(
        self,
        source: str,
        ref: EndpointRef,
        cells: Mapping[str, Mapping[int, Cell]],
        *,
        window: tuple[int, int],
        closed_before: int,
        read_at: datetime,
    ) -> bool:
        """Replace this endpoint's cells in the window's minutes [start, end) by what was read.

        A minute closes with the first reading that shows it after its time (it lies below `closed_before`): from then on
        nothing in it changes, for no deployment, and what would have changed it is counted as late. A minute of which
        nothing was stored may still come as a whole. True if a cell changed, became steady, or closed.
        """

    def cells(self, source: str, ref: EndpointRef, *, start: int, end: int) -> StoredCells:
        """The cells of the minutes [start, end)."""

    def prune(self, *, now: datetime) -> None:
        """Forget what is past its limits (`store.retention`): cells, what the judge was shown, and whole rollouts."""

    # outbox
    def due_deliveries(self, *, now: datetime, limit: int = 20) -> Sequence[Delivery]:
        """Alerts to send now, oldest first; at most `limit` of each channel, so that none waits behind a dead one."""

    def delivered(self, delivery: Delivery, *, now: datetime) -> None:
        """The channel took it."""

    def delivery_failed(self, delivery: Delivery, *, error: str, next_at: datetime | None) -> None:
        """It did not; None gives up (a dead letter)."""

    def deliveries(
        self, rollout_id: str | None = None, *, state: str | None = None, limit: int = 100
    ) -> Sequence[Delivery]:
        """What became of the alerts, newest first."""

    def close(self) -> None:
        """Release files and connections."""


class KeptRelease(NamedTuple):
    """A release as saved; `version` counts its writes."""

    release: releases.Release
    version: int


class Releases(Protocol):
    """Releases over several endpoints. Raises ConflictError where another writer won: look again."""

    def create_release(self, decision: releases.Decision, alerts: Sequence[Alert], *, key: str | None = None) -> None:
        """A new release with the rollouts that begin it, in one transaction.

        Raises ConflictError if there is an active one of this name, one of the endpoints has an active rollout, or the
        `key` has begun one before.
        """

    def begun_by(self, key: str) -> KeptRelease | None:
        """The release that this key has begun."""

    def save_release(self, decision: releases.Decision, alerts: Sequence[Alert], *, version: int) -> None:
        """State, rollouts that begin, commands and alerts in one durable transaction, over this version only."""

    def load_release(self, release_id: str) -> KeptRelease:
        """Raises RefusedError where there is none."""

    def latest_release(self, name: str) -> KeptRelease | None:
        """The active release of this name, else its newest."""

    def releases(self, *, active_only: bool = False, limit: int = 100) -> Sequence[KeptRelease]:
        """Newest first."""


class ReleasingStore(Store, Releases, Protocol):
    """A store of rollouts and of releases."""
