"""Checks of a policy's own, tried out: their queries are run once, and nothing is kept.

The rule: that of the collector, within bounds: the same queries, by the same way to the log workspace; one trial at a time.
A query that fails is an answer: the author wants to read why.
"""

import threading
from collections.abc import Sequence
from datetime import datetime

from rollout.collector import Collector, WorkspaceSources
from rollout.collector.counting import known
from rollout.collector.windows import minute_of
from rollout.errors import RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.policy import CustomCheck
from rollout.ports import Clock, Counted, CountQuery, Logs, Store
from rollout.web.trying import Trial
from rollout.world import EndpointRef, Snapshot


class Trials:
    """Runs queries on the endpoints of the settings; safe to call from many threads."""

    def __init__(
        self, *, store: Store, clock: Clock, collector: Collector, sources: Sequence[WorkspaceSources]
    ) -> None:
        self._store = store
        self._clock = clock
        self._collector = collector
        self._sources = {source.workspace: source for source in sources}
        self._busy = threading.Lock()

    def run(self, ref: EndpointRef, checks: Sequence[CustomCheck], *, hours: int) -> Trial:
        """Over the last hours; seconds. Raises UnavailableError, ThrottledError or RefusedError."""
        if not self._busy.acquire(blocking=False):
            raise UnavailableError("Another check is being tried, and each one asks Azure: try again in a moment.")
        try:
            return self._run(ref, checks, hours, self._clock.now())
        finally:
            self._busy.release()

    def _run(self, ref: EndpointRef, checks: Sequence[CustomCheck], hours: int, now: datetime) -> Trial:
        logs = self._logs(ref)
        snapshot = self._collector.fresh(ref, deployments=True)
        if snapshot.endpoint is None:
            raise RefusedError(f"Azure shows no endpoint {ref.name} in workspace {ref.workspace}: check its name.")
        deployments = frozenset(snapshot.deployments or ())
        start, end = minute_of(now) - hours * 60, minute_of(now) + 1
        counts: dict[str, Sequence[Counted] | str] = {}
        for check in checks:
            query = CountQuery(check=check.name, kql=check.query, endpoint=snapshot.endpoint.resource_id)
            try:
                rows = logs.count(query, start=start, end=end)
                known(rows, deployments, check=check.name)
                counts[check.name] = rows
            except ThrottledError:
                raise
            except RolloutError as error:
                counts[check.name] = error.message
        stable = self._stable(ref, snapshot)
        return Trial(ref=ref, start=start, end=end, deployments=deployments, stable=stable, counts=counts)

    def _stable(self, ref: EndpointRef, snapshot: Snapshot) -> str | None:
        """The stable deployment of the rollout that runs, else the one with the most traffic."""
        rollout = self._store.latest(ref)
        if rollout is not None and not rollout.ended and rollout.stable:
            return rollout.stable.casefold()
        shares = snapshot.endpoint.traffic.shares if snapshot.endpoint else ()
        return max(shares, key=lambda share: share[1])[0] if shares else None

    def _logs(self, ref: EndpointRef) -> Logs:
        source = self._sources.get(ref.workspace)
        if source is None or source.logs is None:
            raise RefusedError(
                f"Workspace {ref.workspace} has no log_workspace in the settings: there is nothing to query."
            )
        return source.logs
