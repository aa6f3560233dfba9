"""A site: the real reconciler, collector and store on an Azure in process, and a clock that moves when told.

What a daemon does on its timers (look at endpoints, read logs, tick what is due), `Site.run` does step by step. A process
that is killed is a `Killed` that leaves `tick`; `restart` is the next process on the same store.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from rollout.analysis.verdict import judge
from rollout.collector import Collector, WorkspaceSources
from rollout.errors import RolloutError
from rollout.lifecycle import Rollout, new_rollout
from rollout.policy import Policy
from rollout.ports import Lease
from rollout.reconciler import Judge, Reconciler
from rollout.store import SqlStore, open_store
from rollout.world import Command, EndpointRef, Event, Severity, Verb
from tests.support.lives import REF, policy
from tests.support.local_azure import LocalAzure, LocalLogs
from tests.support.local_fleet import LocalFleet

LEASE = timedelta(seconds=60)
POLL, READ = 15, 60


def everybody(_policy: Policy, severity: Severity) -> tuple[str, ...]:
    """Every severity goes to one channel."""
    return ("team-ml",) if severity else ()


@dataclass
class Site:
    """One endpoint, one rollout, and the parts of a daemon that move it."""

    folder: Path
    azure: LocalAzure = field(default_factory=LocalAzure)
    policy: Policy = field(default_factory=policy)
    judge: Judge = judge
    log: Any = field(default_factory=structlog.get_logger)
    logs: LocalLogs = field(init=False)
    fleet: LocalFleet = field(init=False)
    store: SqlStore = field(init=False)
    collector: Collector = field(init=False)
    reconciler: Reconciler = field(init=False)
    woken: list[EndpointRef] = field(default_factory=list)
    seconds: int = 0
    commands: int = 0

    def __post_init__(self) -> None:
        self.logs = LocalLogs(self.azure)
        self.fleet = LocalFleet(self.azure)
        self.open()

    # --- processes

    def open(self) -> None:
        """A daemon starts."""
        self.store = open_store(f"sqlite:///{self.folder / 'rollout.db'}", exclusive=True)
        source = WorkspaceSources(workspace=REF.workspace, endpoints=self.azure, logs_key="la", logs=self.logs)
        self.collector = Collector(
            store=self.store,
            clock=self.azure.clock,
            sources=[source],
            on_change=self._changed,
            lag=timedelta(minutes=5),
        )
        self.reconciler = Reconciler(
            store=self.store,
            clock=self.azure.clock,
            endpoints={REF.workspace: self.azure},
            snapshots=self.collector,
            recipients=everybody,
            log=self.log,
            judge=self.judge,
            fleets={REF.workspace: self.fleet},
        )

    def restart(self) -> None:
        """The daemon was killed; another one starts on the same store."""
        self.store.close()
        self.open()

    def _changed(self, refs: Iterable[EndpointRef]) -> None:
        refs = list(refs)
        self.woken += refs
        self.store.wake(refs, now=self.azure.clock.now())

    # --- what a daemon does

    def start(self, one: Policy | None = None) -> Rollout:
        """An hour of traffic, then a rollout is asked for."""
        minute = int(self.azure.clock.now().timestamp() // 60)
        for before in range(minute - 70, minute):
            self.logs.note(before)
        rollout, events = new_rollout(
            rollout_id="r1", ref=REF, policy=one or self.policy, candidate=None, by="ana", now=self.azure.clock.now()
        )
        self.store.create(rollout, events, ())
        return rollout

    def ask(self, verb: str, *, reason: str | None = None, **words: Any) -> str:
        """A person's command; its id."""
        self.commands += 1
        asked = Command(
            id=f"c{self.commands}",
            rollout_id="r1",
            verb=Verb(verb),
            at=self.azure.clock.now(),
            by="ana",
            origin="cli@desk",
            reason=reason,
            **words,
        )
        self.store.submit(asked)
        return asked.id

    def claim(self) -> Sequence[Lease]:
        """What is due now."""
        return self.store.claim_due(now=self.azure.clock.now(), owner="d1", lease=LEASE)

    def tick(self) -> bool:
        """Tick what is due, as the dispatcher would: an error of ours gives the lease back for later."""
        leases = self.claim()
        for lease in leases:
            try:
                self.reconciler.tick(lease)
            except RolloutError:
                self.store.release(lease, due_at=self.azure.clock.now() + timedelta(seconds=5))
        return bool(leases)

    def poll(self) -> None:
        """Look at the endpoints; a failure is for the next time."""
        try:
            self.collector.look(REF.workspace)
        except RolloutError:
            return

    def read(self) -> None:
        """Read the logs; a failure is for the next time."""
        try:
            self.collector.read("logs", "la")
        except RolloutError:
            return

    def run(self, *, minutes: int = 0, seconds: int = 0, step: int = 0) -> None:
        """Time passes step by step, and the daemon's timers with it; ends as soon as the rollout has."""
        step = step or (5 if minutes else 1)
        until = self.azure.clock.now() + timedelta(minutes=minutes, seconds=seconds)
        while self.azure.clock.now() < until:
            before = self.azure.clock.now()
            self.azure.clock.move(step)
            self.azure.deliver_late()
            if self.azure.clock.now().minute != before.minute:
                self.logs.pass_minute()
            if self._came_round(POLL, step):
                self.poll()
            if self._came_round(READ, step):
                self.read()
            self.seconds += step
            if self.tick() and self.rollout.ended and not self.rollout.owes:
                return

    def _came_round(self, every: int, step: int) -> bool:
        return (self.seconds + step) // every > self.seconds // every

    # --- what tests ask

    @property
    def rollout(self) -> Rollout:
        """As saved."""
        return self.store.load("r1")

    @property
    def history(self) -> Sequence[Event]:
        """As saved."""
        return self.store.history("r1")

    def told(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.history if event.kind == kind]
