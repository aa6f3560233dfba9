"""The collector: one shared look at the world, for all rollouts.

The rule: what Azure bills and throttles is asked once for everybody: endpoints per ML workspace, logs per Log Analytics
workspace, metrics per subscription and region. Cells are replaced, never added, so a read that is repeated changes nothing;
a source that fails is remembered with its sentence and blinds nobody else.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from rollout.analysis.cells import Cell
from rollout.errors import RefusedError, RolloutError, ThrottledError
from rollout.ports import Clock, Endpoints, Reading, Store, Telemetry
from rollout.world import EndpointRef, EndpointState, Snapshot

#: How long before a rollout's first look cells are wanted: the judge compares with stable's hour before.
HISTORY_MINUTES = 75
#: A minute closes this long after its end: at first, at least and at most (Azure's rows take 3 to 20 minutes).
FIRST_LAG, LEAST_LAG, MOST_LAG = timedelta(minutes=10), timedelta(minutes=3), timedelta(minutes=20)
#: Metrics settle within three minutes, so their lag is not learned.
METRICS_LAG = timedelta(minutes=3)
#: The lag is learned from this many last reads, with this much on top.
LAG_MEMORY, LAG_LEAST, LAG_MARGIN = 30, 5, timedelta(seconds=60)
#: Now and then a wider window is read again, to count what came late.
RECHECK_EVERY, RECHECK_MINUTES = timedelta(minutes=5), 30


@dataclass(frozen=True, kw_only=True)
class WorkspaceSources:
    """Where one workspace of the settings is read from. The keys name what several workspaces may share."""

    workspace: str
    endpoints: Endpoints
    logs_key: Hashable | None = None
    logs: Telemetry | None = None
    metrics_key: Hashable | None = None
    metrics: Telemetry | None = None

    def key(self, source: str) -> Hashable | None:
        """The key of this workspace's logs or metrics."""
        return self.logs_key if source == "logs" else self.metrics_key

    def telemetry(self, source: str) -> Telemetry | None:
        """This workspace's logs or metrics."""
        return self.logs if source == "logs" else self.metrics


@dataclass(kw_only=True)
class SourceStatus:
    """How a source has been doing: for readiness, and to say why there is no data."""

    source: str
    key: Hashable
    last_success: datetime | None = None
    last_error: str | None = None  # of the last read; None if that one worked
    not_before: datetime | None = None  # asked to slow down until then
    rechecked_at: datetime | None = None
    refused: bool = False  # the last error needs a person
    arrivals: deque[timedelta] = field(default_factory=lambda: deque(maxlen=LAG_MEMORY))


class Collector:
    """Keeps snapshots of endpoints in memory and cells in the store; wakes the rollouts that something changed for."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        sources: Sequence[WorkspaceSources],
        on_change: Callable[[Iterable[EndpointRef]], None],
        lag: timedelta | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sources = {source.workspace: source for source in sources}
        self._on_change = on_change
        self._fixed_lag = lag
        self._snapshots: dict[EndpointRef, Snapshot] = {}
        self._status: dict[tuple[str, Hashable], SourceStatus] = {}
        self._turn = 0
        self._lock = Lock()

    # --- endpoints -------------------------------------------------------------------------------------------------

    def look(self, workspace: str) -> None:
        """See all endpoints of a workspace in one call. Raises what the port raises."""
        requested_at = self._clock.now()
        status = self._status_of("endpoints", workspace)
        with _remembering(status, self._clock):
            listing = self._sources[workspace].endpoints.list()
        names = set(listing.endpoints) | {ref.name for ref in self._active(workspace)}
        refs = [EndpointRef(workspace=workspace, name=name) for name in sorted(names - set(listing.broken))]
        changed = [ref for ref in refs if self._saw(ref, listing.endpoints.get(ref.name.casefold()), requested_at)]
        if changed:
            self._on_change(changed)

    def look_round_robin(self, workspace: str) -> None:
        """See the deployments of one endpoint with an active rollout: a different one each time."""
        active = self._active(workspace)
        if not active:
            return
        self._turn += 1
        ref = active[self._turn % len(active)]
        before = self.latest(ref)
        after = self.fresh(ref, deployments=True)
        if before is None or before.deployments != after.deployments:
            self._on_change([ref])

    def latest(self, ref: EndpointRef) -> Snapshot | None:
        """The last look at an endpoint, with the deployments as last seen; None before the first."""
        return self._snapshots.get(_folded(ref))

    def fresh(self, ref: EndpointRef, *, deployments: bool) -> Snapshot:
        """Look now. Raises what the port raises."""
        requested_at = self._clock.now()
        port = self._sources[ref.workspace].endpoints
        endpoint = port.get(ref.name)
        known = self.latest(ref)
        seen = port.deployments(ref.name) if deployments else (known.deployments if known else None)
        snapshot = Snapshot(endpoint=endpoint, deployments=seen, requested_at=requested_at)
        self._keep(ref, snapshot)
        return snapshot

    def _saw(self, ref: EndpointRef, endpoint: EndpointState | None, requested_at: datetime) -> bool:
        known = self.latest(ref)
        snapshot = Snapshot(
            endpoint=endpoint,
            deployments=known.deployments if known else None,
            requested_at=requested_at,
        )
        self._keep(ref, snapshot)
        return known is None or known.endpoint != endpoint

    def _keep(self, ref: EndpointRef, snapshot: Snapshot) -> None:
        """Snapshots only move forward: an answer that was overtaken by a younger one is dropped."""
        with self._lock:
            known = self._snapshots.get(_folded(ref))
            if known is None or known.requested_at <= snapshot.requested_at:
                self._snapshots[_folded(ref)] = snapshot

    def _active(self, workspace: str) -> list[EndpointRef]:
        found = {rollout.ref for rollout in self._store.rollouts(active_only=True, limit=10_000)}
        return sorted(ref for ref in found if ref.workspace == workspace)

    # --- cells -----------------------------------------------------------------------------------------------------

    def read(self, source: str, key: Hashable) -> None:
        """Read the cells of every endpoint with an active rollout that this source knows. Raises what the port raises."""
        status = self._status_of(source, key)
        now = self._clock.now()
        if status.not_before is not None and now < status.not_before:
            return
        ids = self._resource_ids(source, key)
        if not ids:
            return
        start, end = self._window(source, status, list(ids.values()), now)
        telemetry = self._telemetry(source, key)
        with _remembering(status, self._clock):
            reading = telemetry.read(sorted(ids), start=start, end=end)
        if reading.arrived is not None:
            status.arrivals.append(reading.arrived)
        self._put(source, status, ids, reading, now)

    def lag(self, source: str, key: Hashable) -> timedelta:
        """How long after its end a minute of this source closes."""
        if source == "metrics":
            return METRICS_LAG
        if self._fixed_lag is not None:
            return self._fixed_lag
        arrivals = self._status_of(source, key).arrivals
        if len(arrivals) < LAG_LEAST:
            return FIRST_LAG
        return min(max(max(arrivals) + LAG_MARGIN, LEAST_LAG), MOST_LAG)

    def _put(
        self, source: str, status: SourceStatus, ids: Mapping[str, EndpointRef], reading: Reading, now: datetime
    ) -> None:
        closed_before = _minute(now - self.lag(source, status.key))
        nothing: Mapping[str, Mapping[int, Cell]] = {}
        changed = [
            ref
            for resource_id, ref in ids.items()
            if self._store.put_cells(
                source,
                ref,
                reading.cells.get(resource_id.lower(), nothing),
                window=(reading.start, reading.end),
                closed_before=closed_before,
                read_at=now,
            )
        ]
        if changed:
            self._on_change(changed)

    def _window(self, source: str, status: SourceStatus, refs: Sequence[EndpointRef], now: datetime) -> tuple[int, int]:
        """The minutes to read: those still open, more after a gap or at a recheck, and an hour for a new rollout."""
        end = _minute(now) + 1
        open_minutes = int(self.lag(source, status.key) / timedelta(minutes=1)) + 3
        start = end - open_minutes
        if status.rechecked_at is None or now - status.rechecked_at >= RECHECK_EVERY:
            status.rechecked_at = now
            start = min(start, end - RECHECK_MINUTES)
        for ref in refs:
            read_at = self._store.cells(source, ref, start=end, end=end).read_at
            wanted = end - HISTORY_MINUTES if read_at is None else _minute(read_at) - open_minutes
            start = min(start, max(wanted, end - HISTORY_MINUTES))
        return start, end

    def _resource_ids(self, source: str, key: Hashable) -> dict[str, EndpointRef]:
        found: dict[str, EndpointRef] = {}
        for workspace, sources in self._sources.items():
            if sources.key(source) != key:
                continue
            for ref in self._active(workspace):
                snapshot = self.latest(ref)
                if snapshot is not None and snapshot.endpoint is not None:
                    found[snapshot.endpoint.resource_id] = ref
        return found

    def _telemetry(self, source: str, key: Hashable) -> Telemetry:
        for sources in self._sources.values():
            telemetry = sources.telemetry(source)
            if sources.key(source) == key and telemetry is not None:
                return telemetry
        raise RefusedError(f"no {source} source is configured under {key!r}")

    # --- how it is doing -------------------------------------------------------------------------------------------

    def status(self) -> Sequence[SourceStatus]:
        """Every source that was asked so far."""
        return tuple(self._status.values())

    def trouble(self, ref: EndpointRef) -> str | None:
        """Why this endpoint's data cannot be read at present, in a sentence; None if it can."""
        sources = self._sources.get(ref.workspace)
        if sources is None:
            return f"workspace {ref.workspace} is not in the settings"
        if sources.logs is None:
            return (
                f"workspace {ref.workspace} has no log_workspace in the settings, and promotion is decided on its logs"
            )
        for source in ("endpoints", "logs"):
            key = ref.workspace if source == "endpoints" else sources.logs_key
            status = self._status.get((source, key))
            if status is not None and status.refused and status.last_error:
                return status.last_error
        return None

    def _status_of(self, source: str, key: Hashable) -> SourceStatus:
        with self._lock:
            return self._status.setdefault((source, key), SourceStatus(source=source, key=key))


class _remembering:  # noqa: N801  (reads as a verb where it is used)
    """Remember in a source's status how the read inside went; errors go on their way."""

    def __init__(self, status: SourceStatus, clock: Clock) -> None:
        self._status = status
        self._clock = clock

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        status = self._status
        if error is None:
            status.last_success, status.last_error, status.refused = self._clock.now(), None, False
        elif isinstance(error, RolloutError):
            status.last_error, status.refused = error.message, isinstance(error, RefusedError)
            if isinstance(error, ThrottledError) and error.retry_after:
                status.not_before = self._clock.now() + timedelta(seconds=error.retry_after)


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)


def _folded(ref: EndpointRef) -> EndpointRef:
    return EndpointRef(workspace=ref.workspace, name=ref.name.casefold())
