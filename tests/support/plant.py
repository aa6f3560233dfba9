"""A whole daemon over one endpoint: ticks, triggers and commands on the real adapters, under a clock that moves when told.

Like `Site`, and beyond it: any number of rollouts, what starts them, what is written beside the split. A process that is
killed is followed by the next one on the same store.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from rollout.azure.endpoints import AzureEndpoints
from rollout.azure.fleet import AzureFleet
from rollout.collector import Collector, WorkspaceSources
from rollout.conductor import Conductor
from rollout.daemon.policies import PolicyBook
from rollout.errors import RolloutError
from rollout.lifecycle import Rollout
from rollout.policy import Policy
from rollout.ports import Lease
from rollout.reconciler import Judge, Reconciler
from rollout.sandbox import bodies
from rollout.store import SqlStore, open_store
from rollout.triggers import Watcher
from rollout.web.service import NewCommand, Service
from rollout.world import Command, EndpointRef, Freeze, Verb
from tests.support.api import SeenWorld
from tests.support.lives import REF
from tests.support.local_azure import BOB, NAME, Killed, LocalLogs
from tests.support.recorded import RecordedCloud
from tests.support.site import everybody
from tests.support.wired import WiredAzure, WiredCreations, WiredResources

LEASE = timedelta(seconds=60)
POLL, READ, LOOK = 15, 60, 60  # seconds
GROUPS = {"leads": ["lea"]}


@dataclass
class Plant:
    """The parts of a daemon, and what a person can do with it."""

    folder: Path
    judge: Judge
    log: Any = field(default_factory=structlog.get_logger)
    azure: WiredAzure = field(default_factory=lambda: WiredAzure(kind_of_cloud=RecordedCloud))
    policies: list[Policy] = field(default_factory=list)
    ticking: str | None = None  # the rollout whose tick runs
    tick_began: datetime | None = None
    ticked: bool = False
    after_tick: Callable[[], None] = lambda: None
    seconds: int = 0

    def __post_init__(self) -> None:
        self.logs = LocalLogs(self.azure)
        self.ids = itertools.count(1)
        self.chance = random.Random(7)
        self.open()

    # --- processes

    def open(self) -> None:
        """A daemon starts."""
        self.store: SqlStore = open_store(f"sqlite:///{self.folder / 'rollout.db'}", exclusive=True)
        clock, resources = self.azure.clock, WiredResources(self.azure)
        endpoints = AzureEndpoints(resources, workspace=REF.workspace)  # type: ignore[arg-type]
        creations: Any = WiredCreations(self.azure, resources)
        fleet = AzureFleet(resources, creations=creations, workspace=REF.workspace)  # type: ignore[arg-type]
        self.collector = Collector(
            store=self.store,
            clock=clock,
            sources=[WorkspaceSources(workspace=REF.workspace, endpoints=endpoints, logs_key="la", logs=self.logs)],
            on_change=lambda refs: self.store.wake(list(refs), now=clock.now()),
            lag=timedelta(minutes=5),
        )
        self.reconciler = Reconciler(
            store=self.store,
            clock=clock,
            endpoints={REF.workspace: endpoints},
            snapshots=self.collector,
            recipients=everybody,
            log=self.log,
            judge=self.judge,
            fleets={REF.workspace: fleet},
        )
        self._open_doors()

    def _open_doors(self) -> None:
        """What people and triggers come in by."""
        clock = self.azure.clock
        conductor = Conductor(
            store=self.store,
            clock=clock,
            recipients=everybody,
            wake=lambda: None,
            started=lambda _ref: None,
            log=self.log,
        )
        self.service = Service(
            store=self.store,
            clock=clock,
            policies=PolicyBook(None, defaults={}, channels=frozenset(), clock=clock, log=self.log),
            world=SeenWorld(),
            workspaces=(REF.workspace,),
            wake=lambda: None,
            started=lambda _ref: None,
            new_id=lambda: f"n{next(self.ids)}",
            groups=GROUPS,
            conductor=conductor,
        )
        self.watcher = Watcher(
            store=self.store,
            clock=clock,
            snapshots=self.collector,
            policies=lambda: self.policies,
            models={},
            starting=self.service,
            recipients=everybody,
            log=self.log,
        )

    def restart(self) -> None:
        """The daemon was killed; another one starts on the same store."""
        self.store.close()
        self.open()

    def close(self) -> None:
        """The end."""
        self.store.close()

    # --- time

    def begin(self, *policies: Policy) -> None:
        """The endpoint with an hour of traffic, and policies whose triggers have looked once."""
        self.azure.begin()
        minute = int(self.azure.clock.now().timestamp() // 60)
        for before in range(minute - 70, minute):
            self.logs.note(before)
        self.policies[:] = policies
        self.look()

    def run(self, *, seconds: int, step: int) -> None:
        """Time passes step by step, and the daemon's timers with it; whoever is killed starts again."""
        for _ in range(max(1, seconds // step)):
            before = self.azure.clock.now()
            self.azure.clock.move(step)
            self.azure.deliver_late()
            if self.azure.clock.now().minute != before.minute:
                self.logs.pass_minute()
            try:
                self._timers(step)
            except Killed:
                self.restart()
            self.seconds += step
            if self.ticked:
                self.ticked = False
                self.after_tick()

    def _timers(self, step: int) -> None:
        if self._came_round(POLL, step):
            self._try(lambda: self.collector.look(REF.workspace))
        if self._came_round(READ, step):
            self._try(lambda: self.collector.read("logs", "la"))
        if self._came_round(LOOK, step):
            self.look()
        for lease in self.store.claim_due(now=self.azure.clock.now(), owner="d1", lease=LEASE):
            self._tick(lease)

    def look(self) -> None:
        """The triggers look; a failure is for the next time."""
        self._try(self.watcher.look)

    def _tick(self, lease: Lease) -> None:
        """One tick, as the dispatcher does it: an error of ours gives the lease back for later."""
        self.ticked = True
        self.ticking, self.tick_began = lease.rollout_id, self.azure.clock.now()
        try:
            self.reconciler.tick(lease)
        except RolloutError:
            self.store.release(lease, due_at=self.azure.clock.now() + timedelta(seconds=5))
        finally:
            self.ticking = None

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except RolloutError:
            return

    def _came_round(self, every: int, step: int) -> bool:
        return (self.seconds + step) // every > self.seconds // every

    # --- people

    def start(self, policy: Policy, *, by: str, key: str | None = None) -> Rollout:
        """A person asks for a rollout. Raises RolloutError."""
        return self.service.start(policy, by=by, key=key)

    def ask(self, rollout: Rollout, verb: str, *, by: str, **words: Any) -> Command:
        """A person's command. Raises RolloutError."""
        return self.service.submit(rollout, NewCommand(verb=Verb(verb), by=by, origin="cli@desk", **words))

    def freeze(self, *, everything: bool = False, lasts: timedelta | None = None) -> Freeze:
        """A person freezes."""
        now = self.azure.clock.now()
        found = Freeze(
            id=f"f{next(self.ids)}",
            endpoint=None if everything else REF,
            reason="peak",
            by="ana",
            at=now,
            until=now + lasts if lasts else None,
        )
        self.store.freeze(found)
        self._wake(REF)
        return found

    def unfreeze(self, *, everything: bool = False) -> Sequence[Freeze]:
        """A person lifts a freeze; what was lifted."""
        lifted = self.store.unfreeze(None if everything else REF, by="ana", now=self.azure.clock.now())
        self._wake(REF)
        return lifted

    def _wake(self, ref: EndpointRef) -> None:
        self.store.wake([ref], now=self.azure.clock.now())

    def scale(self, deployment: str, instances: int) -> None:
        """A person, or Azure Monitor, scales a deployment; at rest again. Raises Refusal."""
        cloud = self.azure.cloud
        body = bodies.deployment_body(cloud.identity, cloud.deployment(NAME, deployment))
        body["sku"] = {**body["sku"], "capacity": instances}
        cloud.put_deployment(NAME, deployment, body, actor=BOB)
        cloud.hurry()

    def autoscale(self, deployment: str, limits: tuple[int, int] | None) -> None:
        """A person has a deployment scaled between these numbers, or takes that off. Raises Refusal."""
        cloud = self.azure.recorded
        target = cloud.identity.deployment_id(NAME, deployment)
        there = [each.name for each in cloud.autoscale.all() if each.target.casefold() == target.casefold()]
        body = None
        if limits is not None:
            low, high = limits
            capacity = {"minimum": str(low), "default": str(low), "maximum": str(high)}
            profiles = [{"name": "usual", "capacity": capacity, "rules": []}]
            properties = {"enabled": True, "targetResourceUri": target, "profiles": profiles}
            body = {"location": cloud.identity.region, "properties": properties}
        cloud.write_setting(NAME, there[0] if there else f"{deployment}-scale", body, actor=BOB)

    def mirror(self, **shares: int) -> None:
        """A person mirrors traffic, or ({}) does not any more. Raises Refusal."""
        cloud = self.azure.cloud
        found = cloud.endpoint(NAME)
        body = bodies.endpoint_body(cloud.identity, found, shown=cloud.traffic_shown(found))
        body["properties"]["mirrorTraffic"] = shares
        cloud.put_endpoint(NAME, body, actor=BOB)

    # --- what tests ask

    def rollouts(self) -> Sequence[Rollout]:
        """All of them, oldest first."""
        return [*reversed(self.store.rollouts(REF, limit=500))]

    def active(self) -> Rollout | None:
        """The one that runs, or that has ended and owes something."""
        return next(iter(self.store.rollouts(REF, active_only=True)), None)
