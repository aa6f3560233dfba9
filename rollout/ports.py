"""The ports: what the reconciler, the collector and the daemon ask of the outer world.

The rule: only values of `rollout.world`, `rollout.lifecycle` and `rollout.analysis` cross a port, and only errors of
`rollout.errors` come back. Every implementation passes the contract suite of its port (`tests/contract`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from rollout.analysis.cells import Cell
from rollout.analysis.exhibits import Exhibit
from rollout.analysis.noise import Lessons
from rollout.analysis.terms import Source
from rollout.lifecycle import releases
from rollout.lifecycle.rollout import Rollout
from rollout.policy import Manifest
from rollout.world import (
    Alert,
    Autoscale,
    Command,
    CommandResult,
    CreateDeployment,
    DeleteDeployment,
    DeploymentState,
    EndpointRef,
    EndpointState,
    Event,
    Freeze,
    Mirror,
    Scale,
    SetAutoscale,
    Snapshot,
    Split,
    Trial,
    Unreadable,
)


class Clock(Protocol):
    """Where `now` comes from (see `rollout.clock`)."""

    def now(self) -> datetime:
        """The time, UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment; never runs backwards."""

    def real_seconds(self, duration: timedelta) -> float:
        """How many seconds a person waits while `duration` passes."""


# --- Azure ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All online endpoints of one workspace; `broken` names those that could not be read, and why."""

    endpoints: Mapping[str, EndpointState]
    broken: Mapping[str, str] = field(default_factory=dict)


class Endpoints(Protocol):
    """The online endpoints of one Azure ML workspace.

    Raises ThrottledError and UnavailableError (time), ConflictError (an operation runs: 409), RefusedError (a person must act).
    """

    def list(self) -> Listing:
        """Every endpoint with its split and state, in one call; no deployments."""

    def get(self, name: str) -> EndpointState | None:
        """One endpoint, read now; None where it does not exist."""

    def deployments(self, name: str) -> Mapping[str, DeploymentState | Unreadable]:
        """The deployments of an endpoint by case-folded name; empty where the endpoint does not exist.

        One whose description cannot be used is there as `Unreadable`: it is not gone.
        """

    def set_traffic(
        self,
        name: str,
        split: Split,
        *,
        pair: frozenset[str],
        replacing: frozenset[Split] | None,
        note: str | None,
        still_ours: Callable[[], bool],
    ) -> None:
        """Begin to give the endpoint this split, on top of a fresh read, and never wait for the operation.

        `pair` names the two deployments of the rollout (case-folded): where the fresh read shows traffic on any other,
        RefusedError is raised, so that a third one is never zeroed. `replacing` holds the splits that may be written
        over: where the fresh read shows another one, a person was faster and ConflictError is raised (None: any split).
        `note` is shown to people in the endpoint's `rollout` tag (None takes the tag off). `still_ours` is asked right
        before the request leaves: False raises ConflictError.
        ConflictError is also Azure's 409; UnavailableError means that nobody knows whether Azure accepted.
        """


class Ended(NamedTuple):
    """An operation of Azure's that is over; `why` it failed, None where it did not.

    `known` False: nobody can tell any more how it went, and it must be asked for again.
    """

    why: str | None
    known: bool = True


class Fleet(Protocol):
    """The deployments of one Azure ML workspace, and what scales them. One method per errand: begun, never waited for.

    Raises what `Endpoints` raises; ConflictError also where the deployment is not at rest, or where `still_ours`, which is
    asked right before the request leaves, says no. What is returned is the address of the operation that was begun, None
    where there is nothing to wait for.
    """

    def scale(self, endpoint: str, errand: Scale, *, still_ours: Callable[[], bool]) -> str | None:
        """Give a deployment so many instances; all else of it stays. `idle`: as `delete`."""

    def set_autoscale(self, endpoint: str, errand: SetAutoscale, *, still_ours: Callable[[], bool]) -> str | None:
        """Write an autoscale setting, or take it off."""

    def delete(self, endpoint: str, errand: DeleteDeployment, *, still_ours: Callable[[], bool]) -> str | None:
        """Delete a deployment; RefusedError where a fresh read shows traffic on it, live or mirrored."""

    def create(
        self, endpoint: str, errand: CreateDeployment, manifest: Manifest, *, still_ours: Callable[[], bool]
    ) -> str | None:
        """Begin to make a deployment what its file says, without traffic, and to upload what the file brings along.

        Nothing is written where it is so already. What is refused on the way is told by `ended`.
        """

    def mirror(self, endpoint: str, errand: Mirror, *, still_ours: Callable[[], bool]) -> str | None:
        """Set the mirror traffic of an endpoint; its live traffic stays. Nothing is written where it is so already.

        RefusedError where a fresh read shows copies sent to another deployment, or live traffic on this one.
        """

    def doing(self, operation: str) -> str | None:
        """What such a creation is doing now, in words; None where nobody can tell."""

    def autoscale(self, endpoint: EndpointState) -> Mapping[str, Autoscale]:
        """The autoscale settings of an endpoint's deployments, by case-folded deployment."""

    def ended(self, operation: str) -> Ended | None:
        """How an operation ended; None while it runs."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one look at a telemetry source showed: endpoint's resource id (lower case) -> deployment -> minute -> cell.

    Minutes are since the epoch. Every minute in [start, end) was asked for: a minute that is not there had no rows.
    `arrived` is the largest delay seen between a request and its row, where the source tells.
    """

    cells: Mapping[str, Mapping[str, Mapping[int, Cell]]]
    start: int
    end: int
    arrived: timedelta | None = None


class Snapshots(Protocol):
    """The shared look at endpoints that the collector keeps up to date."""

    def latest(self, ref: EndpointRef) -> Snapshot | None:
        """The last look at an endpoint, with the deployments as last seen; None before the first."""

    def fresh(self, ref: EndpointRef, *, deployments: bool) -> Snapshot:
        """Look now. Raises UnavailableError, ThrottledError or RefusedError."""

    def trouble(self, ref: EndpointRef, *, source: Source = "logs") -> str | None:
        """Why this endpoint, or its data of this source, cannot be read at present, in a sentence; None if it can."""

    def blind(self, ref: EndpointRef) -> Mapping[str, str]:
        """The checks of the policy's own that cannot be read at present, and why; they blind nothing else."""


class Telemetry(Protocol):
    """A source of cells: one Log Analytics workspace, or platform metrics of one subscription and region.

    Raises UnavailableError (also for a partial answer: partial data is no data), ThrottledError, RefusedError.
    """

    def read(self, endpoints: Sequence[str], *, start: int, end: int, measured: Collection[str] = ()) -> Reading:
        """The cells of these endpoints (resource ids) in the minutes [start, end), in one request where possible.

        The cells of those `measured` hold the source's measures too, which cost more: the logs' sizes of answers, the
        metrics' quantiles of the latency.
        """


@dataclass(frozen=True, kw_only=True)
class CountQuery:
    """The query of a policy's own check (see `rollout.policy.queries`), for one endpoint (resource id)."""

    check: str
    kql: str
    endpoint: str


class Counted(NamedTuple):
    """What such a query counted for one deployment (case-folded) in one minute since the epoch."""

    minute: int
    deployment: str
    n: int
    bad: int


class Logs(Telemetry, Protocol):
    """One Log Analytics workspace: cells of the traffic log, and what queries of a policy's own count."""

    def count(self, query: CountQuery, *, start: int, end: int) -> Sequence[Counted]:
        """What the query counts in the minutes [start, end), in one request; rows of the same place add up.

        Raises RefusedError also where the query does not return what it must, naming check, row, column and value.
        """


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back of one prediction. `status` None: no answer came.

    `cls` is one of `analysis.cells.CLASSES`; `size` counts bytes; `deployment` is the one that served it; `why` says in
    words what is wrong, empty where nothing is.
    """

    status: int | None
    cls: str
    milliseconds: float
    size: int = 0
    deployment: str | None = None
    body: bytes = b""
    why: str = ""


class Scoring(Protocol):
    """Predictions of one Azure ML workspace's endpoints."""

    def send(self, endpoint: EndpointState, body: bytes, *, deployment: str | None, timeout: timedelta) -> Answer:
        """One prediction, to this deployment or (None) to whom the split gives it; never longer than twice `timeout`.

        Raises RefusedError, ThrottledError and UnavailableError where the endpoint's key cannot be had.
        """


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One version of a registered model; `reference` is how a deployment's file names it."""

    name: str
    version: str
    reference: str
    stage: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None


class Models(Protocol):
    """The registered models that one workspace may use."""

    def versions(self, model: str, *, registry: str | None = None) -> Sequence[ModelVersion]:
        """The newest versions of a model that are not archived, newest first; of the workspace, or of a registry.

        Empty where there is no such model. Raises UnavailableError, ThrottledError, RefusedError.
        """


class Probes(Protocol):
    """The pairs of predictions that are sent for rollouts whose policies ask for them."""

    def follow(self, rollout: Rollout, endpoint: EndpointState | None) -> None:
        """This is where the rollout stands now: begin, go on, or stop. Told after each tick; never waits."""

    def failed_pairs(self, rollout_id: str) -> int:
        """Pairs in a row, up to now, in which only the candidate's answer was bad."""

    def trial(self, rollout_id: str) -> Trial | None:
        """How the sample requests were answered before the start; None while that is not known."""

    def trouble(self, rollout_id: str) -> str | None:
        """Why no probes can be sent at present, in a sentence; None if they can."""


# --- The store -----------------------------------------------------------------------------------------------------


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
