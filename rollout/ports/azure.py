"""What is asked of Azure, its telemetry and its endpoints; see the package for the rule."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from rollout.analysis.cells import Cell
from rollout.analysis.terms import Source
from rollout.lifecycle.rollout import Rollout
from rollout.policy import Manifest
from rollout.world import (
    Autoscale,
    CreateDeployment,
    DeleteDeployment,
    DeploymentState,
    EndpointRef,
    EndpointState,
    Mirror,
    Scale,
    SetAutoscale,
    Snapshot,
    Split,
    Trial,
    Unreadable,
)


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
