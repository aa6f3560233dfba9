"""The collector: one shared look at the world, for all rollouts.

The rule: what Azure bills and throttles is asked once for everybody: endpoints per ML workspace, logs per Log Analytics
workspace, metrics per subscription and region. Cells are replaced, never added, so a read that is repeated changes nothing;
a source that fails is remembered with its sentence and blinds nobody else.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from threading import Lock

from rollout.analysis.checks import sources_of
from rollout.analysis.terms import Source
from rollout.collector.counting import Counting, Wanted
from rollout.collector.own import Cells, without
from rollout.collector.sources import SourceStatus, WorkspaceSources, measures, remembering
from rollout.collector.windows import minute_of, note_recheck, window
from rollout.errors import RefusedError
from rollout.lifecycle import Rollout
from rollout.ports import Clock, Listing, Reading, Store, Telemetry
from rollout.world import EndpointRef, EndpointState, Snapshot

#: A minute closes this long after its end: at first, at least and at most (Azure's rows take 3 to 20 minutes).
FIRST_LAG, LEAST_LAG, MOST_LAG = timedelta(minutes=10), timedelta(minutes=3), timedelta(minutes=20)
#: Metrics settle within three minutes, so their lag is not learned.
METRICS_LAG = timedelta(minutes=3)
#: The lag is learned from the last reads, from this many at least, with this much on top.
LAG_LEAST, LAG_MARGIN = 5, timedelta(seconds=60)

#: Of a check that was blind when the daemon stopped, until it is run.
NOT_RUN = "it has not been run since the daemon started"


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
        self._counting = Counting(store=store, clock=clock)
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
        return sorted({rollout.ref for rollout in self._rollouts(workspace)})

    def _rollouts(self, workspace: str) -> list[Rollout]:
        found = self._store.rollouts(active_only=True, limit=10_000)
        return [rollout for rollout in found if rollout.ref.workspace == workspace]

    # --- cells -----------------------------------------------------------------------------------------------------

    def read(self, source: Source, key: Hashable) -> None:
        """Read the cells of every endpoint with an active rollout that is judged by them. Raises what the port raises."""
        status = self._status_of(source, key)
        now = self._clock.now()
        if status.slowed(now):
            return
        found = self._judged_by(source, key)
        if not found:
            return
        lag = self.lag(source, key)
        start, end = window(self._store, status, [rollout.ref for _, rollout in found], now=now, lag=lag)
        telemetry = self._telemetry(source, key)
        endpoints = sorted({resource_id for resource_id, _ in found})
        measured = {resource_id for resource_id, rollout in found if measures(source, rollout.policy)}
        with remembering(status, self._clock):
            reading = telemetry.read(endpoints, start=start, end=end, measured=measured)
        if reading.arrived is not None:
            status.arrivals.append(reading.arrived)
        note_recheck(status, start, end, now)
        self._put(source, status, found, reading, now)

    def count(self, key: Hashable) -> None:
        """Run the policies' own checks of the rollouts whose logs are under this key. Raises what the first one met."""
        wanted = [
            Wanted(
                ref=rollout.ref,
                resource_id=resource_id,
                checks=rollout.policy.checks.custom,
                deployments=frozenset(self._deployments(rollout.ref)),
                proven=_proven(rollout),
            )
            for resource_id, rollout in self._judged_by("custom", key)
        ]
        if not wanted:
            return
        logs = next(one.logs for one in self._sources.values() if one.logs is not None and one.logs_key == key)
        changed, errors = self._counting.read(key, logs, wanted, lag=self.lag("logs", key))
        if changed:
            self._on_change(changed)
        if errors:
            raise errors[0]

    def _deployments(self, ref: EndpointRef) -> Iterable[str]:
        snapshot = self.latest(ref)
        return snapshot.deployments or () if snapshot else ()

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
        found: Sequence[tuple[str, Rollout]],
        reading: Reading,
        now: datetime,
    ) -> None:
        closed_before = minute_of(now - self.lag(source, status.key))
        changed = [
            rollout.ref
            for resource_id, rollout in found
            if self._store.put_cells(
                source,
                rollout.ref,
                self._live(source, rollout, reading, resource_id),
                window=(reading.start, reading.end),
                closed_before=closed_before,
                read_at=now,
            )
        ]
        if changed:
            self._on_change(changed)

    def _live(self, source: str, rollout: Rollout, reading: Reading, resource_id: str) -> Cells:
        """What was read of an endpoint, without the requests that the prober sent (logs leave them out by themselves)."""
        cells = {name.casefold(): found for name, found in reading.cells.get(resource_id, {}).items()}
        if source != "metrics" or rollout.policy.probes is None:
            return cells
        return without(cells, self._store.cells("probes", rollout.ref, start=reading.start, end=reading.end).cells)

    def _judged_by(self, source: Source, key: Hashable) -> list[tuple[str, Rollout]]:
        """The active rollouts that are judged by this source: the endpoint's resource id, lower case, and the rollout."""
        found: list[tuple[str, Rollout]] = []
        for workspace, sources in self._sources.items():
            for rollout in self._rollouts(workspace) if sources.key(source) == key else ():
                snapshot = self.latest(rollout.ref)
                if snapshot is not None and snapshot.endpoint is not None and source in sources_of(rollout.policy):
                    found.append((snapshot.endpoint.resource_id.lower(), rollout))
        return found

    def _telemetry(self, source: str, key: Hashable) -> Telemetry:
        for sources in self._sources.values():
            telemetry = sources.telemetry(source)
            if sources.key(source) == key and telemetry is not None:
                return telemetry
        raise RefusedError(f"no {source} source is configured under {key!r}")

    # --- how it is doing -------------------------------------------------------------------------------------------

    def status(self) -> Sequence[SourceStatus]:
        """Every source that was asked so far, and the policies' own checks."""
        return (*self._status.values(), *self._counting.status())

    def trouble(self, ref: EndpointRef, *, source: Source = "logs") -> str | None:
        """Why this endpoint, or its data of this source, cannot be read at present, in a sentence; None if it can."""
        sources, now = self._sources.get(ref.workspace), self._clock.now()
        if sources is None:
            return _not_in_settings(ref)
        missing = sources.missing(source)
        if missing:
            return missing
        if _folded(ref) in self._broken:
            return f"endpoint {ref.name} cannot be read: {self._broken[_folded(ref)]}"
        for name, key in (("endpoints", ref.workspace), (source, sources.key(source))):
            status = self._status.get((name, key))
            told = status.trouble(now) if status else None
            if told:
                return told
        return next(iter(self.blind(ref).values()), None) if source == "custom" else None

    def blind(self, ref: EndpointRef) -> Mapping[str, str]:
        """The checks of the policy's own that cannot be read at present, and why."""
        sources = self._sources.get(ref.workspace)
        missing = sources.missing("custom") if sources else None
        rollout = self._store.latest(ref)
        if rollout is None:
            return {}
        if missing is not None:
            return {check.name: missing for check in rollout.policy.checks.custom}
        told = {name: NOT_RUN for name in rollout.blind if not self._counting.asked(ref, name)}
        return told | dict(self._counting.blind(ref))

    def _status_of(self, source: str, key: Hashable) -> SourceStatus:
        with self._lock:
            return self._status.setdefault((source, key), SourceStatus(source=source, key=key))


def _proven(rollout: Rollout) -> frozenset[str]:
    """The own checks that have counted: no traffic moves before all have; not those that have gone blind since."""
    checks = rollout.policy.checks.custom if rollout.started_at else ()
    return frozenset(check.name for check in checks) - {*rollout.blind}


def _not_in_settings(ref: EndpointRef) -> str:
    return f"workspace {ref.workspace} is not in the settings: add it, and restart the daemon"


def _folded(ref: EndpointRef) -> EndpointRef:
    return EndpointRef(workspace=ref.workspace, name=ref.name.casefold())
