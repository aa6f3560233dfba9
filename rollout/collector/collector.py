"""The collector: one shared look at the world, for all rollouts.

The rule: what Azure bills and throttles is asked once for everybody: endpoints per ML workspace, logs per Log Analytics
workspace, metrics per subscription and region. Cells are replaced, never added, so a read that is repeated changes nothing;
a source that fails is remembered with its sentence and blinds nobody else.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime, timedelta
from threading import Lock

from rollout.collector.sources import SourceStatus, WorkspaceSources, remembering
from rollout.errors import RefusedError
from rollout.ports import Clock, Listing, Reading, Store, Telemetry
from rollout.world import EndpointRef, EndpointState, Snapshot

#: How long before a rollout's first look cells are wanted: the judge compares with stable's hour before.
HISTORY_MINUTES = 75
#: A minute closes this long after its end: at first, at least and at most (Azure's rows take 3 to 20 minutes).
FIRST_LAG, LEAST_LAG, MOST_LAG = timedelta(minutes=10), timedelta(minutes=3), timedelta(minutes=20)
#: Metrics settle within three minutes, so their lag is not learned.
METRICS_LAG = timedelta(minutes=3)
#: The lag is learned from the last reads, from this many at least, with this much on top.
LAG_LEAST, LAG_MARGIN = 5, timedelta(seconds=60)
#: Now and then a wider window is read again, to count what came late.
RECHECK_EVERY, RECHECK_MINUTES = timedelta(minutes=5), 30


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
        self._broken: dict[EndpointRef, str] = {}
        self._status: dict[tuple[str, Hashable], SourceStatus] = {}
        self._turn = 0
        self._lock = Lock()

    # --- endpoints -------------------------------------------------------------------------------------------------

    def look(self, workspace: str) -> None:
        """See all endpoints of a workspace in one call. Raises what the port raises."""
        status, requested_at = self._status_of("endpoints", workspace), self._clock.now()
        if status.slowed(requested_at):
            return
        with remembering(status, self._clock):
            listing = self._sources[workspace].endpoints.list()
        self._note_broken(workspace, listing)
        active = self._active(workspace)
        refs = {
            EndpointRef(workspace=workspace, name=name.casefold()): state for name, state in listing.endpoints.items()
        }
        moved = {ref for ref, state in refs.items() if self._saw(ref, state, requested_at)}
        changed = [ref for ref in active if _folded(ref) in moved]
        if changed:
            self._on_change(changed)
        self._look_for_missing([ref for ref in active if _folded(ref) not in refs and _folded(ref) not in self._broken])

    def _note_broken(self, workspace: str, listing: Listing) -> None:
        found = {EndpointRef(workspace=workspace, name=name.casefold()): why for name, why in listing.broken.items()}
        with self._lock:
            kept = {ref: why for ref, why in self._broken.items() if ref.workspace != workspace}
            self._broken = kept | found

    def _look_for_missing(self, refs: Sequence[EndpointRef]) -> None:
        """Lists lag and have pages: what a list does not show is asked for by name before it counts as gone."""
        for ref in refs:
            requested_at = self._clock.now()
            endpoint = self._sources[ref.workspace].endpoints.get(ref.name)
            if self._saw(ref, endpoint, requested_at):
                self._on_change([ref])

    def look_round_robin(self, workspace: str) -> None:
        """See the deployments of one endpoint with an active rollout: a different one each time."""
        active = self._active(workspace)
        if not active or self._status_of("endpoints", workspace).slowed(self._clock.now()):
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
        """Look now. Raises what the port raises, and RefusedError for a workspace that the settings do not name."""
        if ref.workspace not in self._sources:
            raise RefusedError(_not_in_settings(ref))
        requested_at = self._clock.now()
        port = self._sources[ref.workspace].endpoints
        endpoint = port.get(ref.name)
        known = self.latest(ref)
        seen = known.deployments if known else None
        if deployments and endpoint is not None:
            seen = port.deployments(ref.name)
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
        if status.slowed(now):
            return
        found = self._resource_ids(source, key)
        if not found:
            return
        start, end = self._window(source, status, [ref for _, ref in found], now)
        telemetry = self._telemetry(source, key)
        with remembering(status, self._clock):
            reading = telemetry.read(sorted({resource_id for resource_id, _ in found}), start=start, end=end)
        if reading.arrived is not None:
            status.arrivals.append(reading.arrived)
        if start <= end - RECHECK_MINUTES:
            status.rechecked_at = now
        self._put(source, status, found, reading, now)

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
        self,
        source: str,
        status: SourceStatus,
        found: Sequence[tuple[str, EndpointRef]],
        reading: Reading,
        now: datetime,
    ) -> None:
        closed_before = _minute(now - self.lag(source, status.key))
        changed = [
            ref
            for resource_id, ref in found
            if self._store.put_cells(
                source,
                ref,
                {name.casefold(): cells for name, cells in reading.cells.get(resource_id, {}).items()},
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
            start = min(start, end - RECHECK_MINUTES)
        for ref in refs:
            read_at = self._store.cells(source, ref, start=end, end=end).read_at
            wanted = end - HISTORY_MINUTES if read_at is None else _minute(read_at) - open_minutes
            start = min(start, max(wanted, end - HISTORY_MINUTES))
        return start, end

    def _resource_ids(self, source: str, key: Hashable) -> list[tuple[str, EndpointRef]]:
        """The endpoints with an active rollout that this source knows: resource id, lower case, and reference."""
        found: list[tuple[str, EndpointRef]] = []
        for workspace, sources in self._sources.items():
            for ref in self._active(workspace) if sources.key(source) == key else ():
                snapshot = self.latest(ref)
                if snapshot is not None and snapshot.endpoint is not None:
                    found.append((snapshot.endpoint.resource_id.lower(), ref))
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
        sources, now = self._sources.get(ref.workspace), self._clock.now()
        if sources is None:
            return _not_in_settings(ref)
        if sources.logs is None:
            return (
                f"workspace {ref.workspace} has no log_workspace in the settings, and promotion is decided on its logs"
            )
        if _folded(ref) in self._broken:
            return f"endpoint {ref.name} cannot be read: {self._broken[_folded(ref)]}"
        for source, key in (("endpoints", ref.workspace), ("logs", sources.logs_key)):
            status = self._status.get((source, key))
            told = status.trouble(now) if status else None
            if told:
                return told
        return None

    def _status_of(self, source: str, key: Hashable) -> SourceStatus:
        with self._lock:
            return self._status.setdefault((source, key), SourceStatus(source=source, key=key))


def _not_in_settings(ref: EndpointRef) -> str:
    return f"workspace {ref.workspace} is not in the settings: add it, and restart the daemon"


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)


def _folded(ref: EndpointRef) -> EndpointRef:
    return EndpointRef(workspace=ref.workspace, name=ref.name.casefold())
