"""The past of an endpoint, for plans: its traffic of the last days, and the noise that its rollouts showed.

The rule: bounded, whatever is asked. One hour-sized window for each hour of the day, spread over the days asked for, from
the store where it has the cells, else from the logs by the same query that rollouts are judged by; one plan at a time.
All or nothing: an hour that cannot be read is no hour without traffic.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil

from rollout.analysis.cells import Cell, merge
from rollout.analysis.noise import rollouts_in, spreads
from rollout.analysis.profile import DAY, HOUR, HOURS, Profile, profile_of
from rollout.analysis.terms import Source
from rollout.collector import Collector, WorkspaceSources
from rollout.collector.collector import MOST_LAG
from rollout.errors import RefusedError, UnavailableError
from rollout.ports import Clock, Store, Telemetry
from rollout.world import EndpointRef

#: Each window lies this many days further back than the one before it, around the days asked for: all weekdays are seen.
STRIDE = 5
#: The store has an hour if it has cells of this many of its minutes, and all of them are closed.
STORED_MINUTES = 45
#: What `rollout start` may know at once: the last hours, if the store has them.
AT_ONCE = 6 * HOUR


class Past:
    """The traffic of the daemon's endpoints; safe to call from many threads."""

    def __init__(
        self, *, store: Store, clock: Clock, collector: Collector, sources: Sequence[WorkspaceSources]
    ) -> None:
        self._store = store
        self._clock = clock
        self._collector = collector
        self._sources = {source.workspace: source for source in sources}
        self._busy = threading.Lock()

    def profile(self, ref: EndpointRef, *, hours: int) -> Profile:
        """From the last hours; seconds. Raises UnavailableError, ThrottledError, or RefusedError (too little traffic)."""
        if not self._busy.acquire(blocking=False):
            raise UnavailableError("Another plan is being made, and each one asks Azure: try again in a moment.")
        try:
            cells, looked = self._read(ref, hours)
        finally:
            self._busy.release()
        found = self._profile(ref, cells, looked, days=hours / HOURS)
        if found is None:
            raise RefusedError(
                f"The logs show too few requests of {ref.name} to plan with ({len(looked)} minutes were read): "
                "say what to expect with --rps, --error-rate and --latency-p95."
            )
        return found

    def at_once(self, ref: EndpointRef) -> Profile | None:
        """From what the store has of the last hours; milliseconds, None where that is too little."""
        now = _minute(self._clock.now())
        stored = self._store.cells("logs", ref, start=now - AT_ONCE, end=now)
        cells = {minute: cell for minute, cell in together(stored.cells).items() if minute < stored.closed_before}
        if not cells:
            return None
        looked = range(min(cells), max(cells) + 1)
        return self._profile(ref, cells, looked, days=len(looked) / DAY) if len(looked) >= STORED_MINUTES else None

    def _profile(
        self, ref: EndpointRef, cells: Mapping[int, Cell], looked: Sequence[int], *, days: float
    ) -> Profile | None:
        sources = self._sources[ref.workspace]
        shown: tuple[Source, ...] = ("logs", "metrics") if sources.metrics is not None else ("logs",)
        lag = self._collector.lag("logs", sources.logs_key)
        found = profile_of(
            cells,
            looked,
            lag=ceil(lag / timedelta(minutes=1)),
            sources=shown,
            begins=_minute(self._clock.now()) % DAY,
            days=days,
        )
        taught = self._store.noise(ref)
        return found and replace(found, expected=spreads(taught), taught=rollouts_in(taught))

    def _read(self, ref: EndpointRef, hours: int) -> tuple[Mapping[int, Cell], Sequence[int]]:
        resource, logs = self._resource(ref), self._logs(ref)
        found: dict[int, Cell] = {}
        looked: list[int] = []
        for window in windows(self._clock.now(), hours):
            found |= self._hour(ref, window, resource, logs)
            looked += window
        return found, [
            minute for minute in looked if minute >= min(found, default=0)
        ]  # before its first row there was no log

    def _hour(self, ref: EndpointRef, window: range, resource: str, logs: Telemetry) -> Mapping[int, Cell]:
        stored = self._store.cells("logs", ref, start=window.start, end=window.stop)
        cells = together(stored.cells)
        if len(cells) >= STORED_MINUTES and stored.closed_before >= window.stop:
            return cells
        reading = logs.read([resource], start=window.start, end=window.stop)
        return together(reading.cells.get(resource, {}))

    def _resource(self, ref: EndpointRef) -> str:
        seen = self._collector.latest(ref) or self._collector.fresh(ref, deployments=False)
        if seen.endpoint is None:
            raise RefusedError(f"Azure shows no endpoint {ref.name} in workspace {ref.workspace}: check its name.")
        return seen.endpoint.resource_id.lower()

    def _logs(self, ref: EndpointRef) -> Telemetry:
        sources = self._sources.get(ref.workspace)
        if sources is None or sources.logs is None:
            raise RefusedError(
                f"Workspace {ref.workspace} has no log_workspace in the settings: say what to expect with --rps."
            )
        return sources.logs


def windows(now: datetime, hours: int) -> list[range]:
    """Minutes to look at: the last whole hours, one of each hour of the day, from days within the last `hours`."""
    end, days = _minute(now - MOST_LAG) // HOUR * HOUR, max(1, hours // HOURS)
    return [
        range(start := end - back * HOUR - (back - 1) * STRIDE % days * DAY, start + HOUR)
        for back in range(1, min(HOURS, hours) + 1)
    ]


def together(cells: Mapping[str, Mapping[int, Cell]]) -> dict[int, Cell]:
    """All deployments' cells, by minute."""
    minutes = {minute for mine in cells.values() for minute in mine}
    return {minute: merge(mine[minute] for mine in cells.values() if minute in mine) for minute in minutes}


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)
