"""Who knows whom: the daemon's parts, made from its settings.

The rule: this is the only place where rooms meet. Parts are made in the order in which they need each other, and what
was opened is closed in the reverse order, also when a later part cannot be made.
"""

import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

from rollout.alerts import Courier, recipients
from rollout.analysis.terms import Source
from rollout.azure.cloud import cloud_of
from rollout.azure.connection import Azure, connect
from rollout.clock import WallClock
from rollout.collector import Collector, SourceStatus, WorkspaceSources
from rollout.conductor import Conductor
from rollout.daemon.health import DaemonHealth
from rollout.daemon.jobs import Job, seconds
from rollout.daemon.past import Past
from rollout.daemon.policies import PolicyBook
from rollout.daemon.pools import Pool
from rollout.daemon.site import Site
from rollout.daemon.ticks import RENEW_EVERY, Dispatcher
from rollout.daemon.trials import Trials
from rollout.policy import Policy
from rollout.ports import ReleasingStore
from rollout.prober import AT_ONCE, Prober
from rollout.reconciler import Reconciler
from rollout.store import open_store
from rollout.triggers import EVERY, Watched, Watcher
from rollout.web.service import Service
from rollout.web.views import iso
from rollout.world import EndpointRef, Severity, Snapshot

#: Threads that read Azure: one for each thing that is read (endpoints, deployments, logs, own checks, metrics) of a
#: workspace, within reason, so that none waits for a slow query of another's.
READS, READERS_AT_MOST = 5, 32
HOUSEKEEPERS = 4
#: On the daemon's clock: a slow look at deployments, one rollout at a time; how often old things are forgotten.
ROUND_ROBIN, PRUNE = timedelta(seconds=60), timedelta(hours=1)
#: In seconds: how often changed policies, due alerts and waves that may begin are looked for.
RELOAD, DELIVER, STEER = 5.0, 1.0, 2.0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The running daemon's parts; `closing` lets go of what they hold."""

    store: ReleasingStore
    dispatcher: Dispatcher
    prober: Prober
    jobs: Sequence[Job]
    service: Service
    health: DaemonHealth
    courier: Courier
    closing: ExitStack


def build(site: Site, *, log: structlog.stdlib.BoundLogger, new_id: Callable[[], str]) -> Parts:
    """Open the store, connect to Azure (seconds: its SDK is imported here), make everything. Raises RolloutError."""
    with ExitStack() as undo:
        store = open_store(site.store_url, exclusive=True)
        undo.callback(store.close)
        courier = Courier(store=store, channels=site.channels, clock=site.clock, log=cast(FilteringBoundLogger, log))
        undo.callback(courier.close)
        azure = _connect(site)
        undo.callback(azure.close)
        builder = _Builder(site, store, azure, courier, log)
        return builder.parts(new_id, undo.pop_all())


def _connect(site: Site) -> Azure:
    settings = site.settings
    return connect(
        cloud=cloud_of(settings.cloud, asdict(site.sandbox) if site.sandbox else None),
        credential=settings.credential,
        secret=site.client_secret,
        workspaces=settings.workspaces,
        clock=WallClock(),  # queries are counted per second of the world outside
        chance=random.Random(),  # noqa: S311 - spreads retries
    )


class _Builder:
    """Makes the parts that talk to each other."""

    def __init__(
        self, site: Site, store: ReleasingStore, azure: Azure, courier: Courier, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._site = site
        self._clock = site.clock
        self._store = store
        self._azure = azure
        self._courier = courier
        self._log = log
        self._sources = [self._source(name) for name in site.settings.workspaces]
        self._readers = Pool("read", min(READERS_AT_MOST, READS * len(self._sources)))
        self._housekeepers = Pool("keep", HOUSEKEEPERS)
        self._collector = Collector(
            store=store,
            clock=self._clock,
            sources=self._sources,
            on_change=self._changed,
            lag=site.settings.polling.lag,
        )
        self._send = Job("Sending alerts", courier.deliver, every=DELIVER, pool=self._housekeepers, log=log)
        self._conductor = Conductor(
            store=store,
            clock=self._clock,
            recipients=self._whom,
            wake=self._wake,
            started=self._look_now,
            log=log,
        )
        self._steer = Job("Steering releases", self._conductor.look, every=STEER, pool=self._housekeepers, log=log)
        self._prober = Prober(
            store=store,
            clock=self._clock,
            scoring=azure.scoring,
            on_change=self._changed,
            submit=Pool("probe", 2 * AT_ONCE).submit,
            log=log,
        )
        self._dispatcher = self._make_dispatcher()
        self._policies = PolicyBook(
            site.path(site.settings.policies),
            defaults=site.settings.defaults,
            channels=frozenset(site.settings.channels),
            groups=site.settings.groups,
            clock=self._clock,
            log=log,
        )
        self._polls = {(source, key): job for source, key, job in self._poll_jobs()}
        self._starts = {sources.workspace: self._start_job(sources) for sources in self._sources}

    def parts(self, new_id: Callable[[], str], closing: ExitStack) -> Parts:
        """All of them."""

        def watched() -> Sequence[Watched]:
            return watcher.watched()

        service = Service(
            store=self._store,
            clock=self._clock,
            policies=self._policies,
            world=_World(self._collector, self._sources),
            workspaces=tuple(self._site.settings.workspaces),
            wake=self._dispatcher.wake,
            started=self._look_now,
            new_id=new_id,
            past=Past(store=self._store, clock=self._clock, collector=self._collector, sources=self._sources),
            groups=self._site.settings.groups,
            conductor=self._conductor,
            trials=Trials(store=self._store, clock=self._clock, collector=self._collector, sources=self._sources),
            triggers=watched,
        )
        watcher = Watcher(
            store=self._store,
            clock=self._clock,
            snapshots=self._collector,
            policies=self._policies.loaded,
            models=self._azure.models,
            starting=service,
            recipients=self._whom,
            log=cast(FilteringBoundLogger, self._log),
        )
        return Parts(
            store=self._store,
            dispatcher=self._dispatcher,
            prober=self._prober,
            jobs=[*self._polls.values(), self._trigger_job(watcher), *self._keeping_jobs()],
            service=service,
            health=self._health(),
            courier=self._courier,
            closing=closing,
        )

    def _source(self, name: str) -> WorkspaceSources:
        workspace = self._site.settings.workspaces[name]
        place = (workspace.subscription_id, workspace.region)
        metrics = self._azure.metrics.get(place)
        return WorkspaceSources(
            workspace=name,
            endpoints=self._azure.endpoints[name],
            logs_key=workspace.log_workspace,
            logs=self._azure.logs.get(workspace.log_workspace or ""),
            metrics_key=place if metrics else None,
            metrics=metrics,
        )

    def _make_dispatcher(self) -> Dispatcher:
        reconciler = Reconciler(
            store=self._store,
            clock=self._clock,
            endpoints=self._azure.endpoints,
            snapshots=self._collector,
            recipients=self._whom,
            log=self._log,
            probes=self._prober,
            fleets=self._azure.fleets,
        )
        return Dispatcher(
            store=self._store,
            clock=self._clock,
            tick=reconciler.tick,
            ticked=self._ticked,
            owner=OWNER,
            log=self._log,
        )

    def _whom(self, policy: Policy, severity: Severity) -> tuple[str, ...]:
        return recipients(policy, severity, self._site.channels)

    def _wake(self) -> None:
        self._dispatcher.wake()

    def _ticked(self) -> None:
        """Alerts may have been written down, and a release may go on."""
        self._send.hurry()
        self._steer.hurry()

    def _changed(self, refs: Iterable[EndpointRef]) -> None:
        self._store.wake(refs, now=self._clock.now())
        self._dispatcher.wake()

    def _look_now(self, ref: EndpointRef) -> None:
        """A rollout began: look at its workspace soon, instead of at the next interval; once for all that begin now."""
        self._starts[ref.workspace].hurry()

    def _start_job(self, sources: WorkspaceSources) -> Job:
        """Looks at a workspace, then at its data; run when it is hurried only."""
        keys: list[tuple[str, Hashable]] = [("endpoints", sources.workspace)]
        keys += [(source, sources.key(source)) for source in ("logs", "custom", "metrics")]
        polls = [self._polls[key] for key in keys if key in self._polls]

        def look() -> None:
            for poll in polls:
                poll.run()

        return Job(f"Looking at {sources.workspace} for a start", look, every=0, pool=self._readers, log=self._log)

    # --- jobs

    def _poll_jobs(self) -> Iterable[tuple[str, Any, Job]]:
        collector, polling = self._collector, self._site.settings.polling
        for source in self._sources:
            name = source.workspace
            work = _call(collector.look, name)
            yield "endpoints", name, self._poll(f"Looking at the endpoints of {name}", work, polling.endpoints)
            work = _call(collector.look_round_robin, name)
            yield "deployments", name, self._poll(f"Looking at the deployments of {name}", work, ROUND_ROBIN)
        for key in {source.logs_key for source in self._sources if source.logs}:
            yield (
                "logs",
                key,
                self._poll(f"Reading the logs of {key}", _call(collector.read, "logs", key), polling.logs),
            )
            work = _call(collector.count, key)
            yield "custom", key, self._poll(f"Running the policies' own checks on {key}", work, polling.logs)
        for key in {source.metrics_key for source in self._sources if source.metrics}:
            work = _call(collector.read, "metrics", key)
            yield "metrics", key, self._poll(f"Reading the metrics of {_told(key)}", work, polling.metrics)

    def _poll(self, name: str, work: Callable[[], None], every: timedelta) -> Job:
        return Job(name, work, every=seconds(self._clock, every), pool=self._readers, log=self._log)

    def _trigger_job(self, watcher: Watcher) -> Job:
        """Its looks at Azure have a thread of their own, so that nothing else waits for them."""

        def look() -> None:
            try:
                watcher.look()
            finally:
                self._dispatcher.wake()  # a running rollout may have been told to make room

        every, pool = seconds(self._clock, EVERY), Pool("triggers", 1)
        return Job("Looking for what triggers wait for", look, every=every, pool=pool, log=self._log)

    def _keeping_jobs(self) -> Iterable[Job]:
        work: Mapping[str, tuple[Callable[[], None], float]] = {
            "Renewing leases": (self._dispatcher.renew, RENEW_EVERY),
            "Reading policies": (self._policies.reload, RELOAD),
            "Forgetting what is old": (self._prune, seconds(self._clock, PRUNE)),
        }
        yield from (self._send, self._steer)
        for name, (what, every) in work.items():
            yield Job(name, what, every=every, pool=self._housekeepers, log=self._log)

    def _prune(self) -> None:
        self._store.prune(now=self._clock.now())

    # --- health

    def _health(self) -> DaemonHealth:
        polling = self._site.settings.polling
        intervals = {"endpoints": polling.endpoints, "logs": polling.logs, "metrics": polling.metrics}
        return DaemonHealth(
            store=self._store,
            clock=self._clock,
            loops=[("dispatcher", self._dispatcher.silent_for)],
            sources=self._collector.status,
            intervals=intervals.__getitem__,
            started_at=self._clock.now(),
        )


class _World:
    """What the API asks of the collector."""

    def __init__(self, collector: Collector, sources: Sequence[WorkspaceSources]) -> None:
        self._collector = collector
        self._sources = {source.workspace: source for source in sources}

    def latest(self, ref: EndpointRef) -> Snapshot | None:
        """The last look at an endpoint."""
        return self._collector.latest(ref)

    def lag(self, ref: EndpointRef, *, source: Source = "logs") -> timedelta:
        """How long after its end a minute of this source closes."""
        if source == "probes":
            return timedelta()
        sources, read = self._sources.get(ref.workspace), "metrics" if source == "metrics" else "logs"
        return self._collector.lag(read, sources.key(read) if sources else None)

    def sources(self) -> Sequence[Mapping[str, Any]]:
        """How each source did."""
        return [self._told(status) for status in self._collector.status()]

    def _told(self, status: SourceStatus) -> Mapping[str, Any]:
        waits: datetime | None = status.not_before
        lag = self._collector.lag(status.source, status.key) if status.source in {"logs", "metrics"} else None
        return {
            "source": status.source,
            "key": _told(status.key),
            "last_success": iso(status.last_success),
            "last_error": status.last_error,
            "not_before": iso(waits),
            "lag_seconds": lag.total_seconds() if lag is not None else None,
        }


def _call(function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    def call() -> None:
        function(*arguments)

    return call


def _told(key: object) -> str:
    return " in ".join(map(str, key)) if isinstance(key, tuple) else str(key)


#: One daemon per store: whoever held leases before us is gone.
OWNER = "daemon"
