"""A daemon's triggers over the sandbox's model of Azure: a real store, collector and service, and a clock that is moved."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from rollout.collector import Collector, WorkspaceSources
from rollout.conductor import Conductor
from rollout.daemon.policies import PolicyBook
from rollout.lifecycle import Phase, Rollout
from rollout.policy import DeploymentTrigger, Policy, Trigger
from rollout.ports import ModelVersion, Start
from rollout.store import SqlStore, open_store
from rollout.triggers import Watcher
from rollout.web.service import Service
from rollout.world import Pin
from tests.support.api import SeenWorld
from tests.support.local_azure import NAME, LocalAzure
from tests.support.site import everybody
from tests.support.stories import a_policy

AUTO = Trigger(deployment=DeploymentTrigger(tags={"rollout": "auto"}))


@dataclass
class Shelf:
    """The registered models: filled by the test, newest first."""

    found: list[ModelVersion] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def versions(self, model: str, *, registry: str | None = None) -> Sequence[ModelVersion]:
        self.asked.append((model, registry))
        return [found for found in self.found if found.name == model]

    def add(self, version: str, *, stage: str | None = "Production", **tags: str) -> None:
        """A new version, or another stage of one."""
        self.found = [found for found in self.found if found.version != version]
        reference = f"azureml:recommender:{version}"
        self.found.insert(
            0, ModelVersion(name="recommender", version=version, reference=reference, stage=stage, tags=tags)
        )


@dataclass
class Yard:
    """A daemon's triggers over one endpoint, which blue serves and where green waits."""

    folder: Path
    azure: LocalAzure = field(default_factory=LocalAzure)
    policies: list[Policy] = field(default_factory=list)
    shelf: Shelf = field(default_factory=Shelf)

    def __post_init__(self) -> None:
        self.azure.begin()
        self.ids = itertools.count(1)
        self.open()

    def open(self) -> None:
        """A daemon starts."""
        log = structlog.get_logger()
        self.store: SqlStore = open_store(f"sqlite:///{self.folder / 'rollout.db'}", exclusive=True)
        self.collector = Collector(
            store=self.store,
            clock=self.azure.clock,
            sources=[WorkspaceSources(workspace="prod", endpoints=self.azure)],
            on_change=lambda _refs: None,
        )
        conductor = Conductor(
            store=self.store,
            clock=self.azure.clock,
            recipients=everybody,
            wake=lambda: None,
            started=lambda _ref: None,
            log=log,
        )
        self.service = Service(
            store=self.store,
            clock=self.azure.clock,
            policies=PolicyBook(None, defaults={}, channels=frozenset(), clock=self.azure.clock, log=log),
            world=SeenWorld(),
            workspaces=("prod",),
            wake=lambda: None,
            started=lambda _ref: None,
            new_id=lambda: f"r{next(self.ids)}",
            conductor=conductor,
            triggers=lambda: self.watcher.watched(),  # noqa: PLW0108 - made below
        )
        self.watcher = Watcher(
            store=self.store,
            clock=self.azure.clock,
            snapshots=self.collector,
            policies=lambda: self.policies,
            models={"prod": self.shelf},
            starting=self.service,
            recipients=everybody,
            log=log,
        )

    def restart(self) -> None:
        """The daemon is killed, and another one starts."""
        self.store.close()
        self.open()

    def wait_for(self, trigger: Trigger = AUTO, **changes: Any) -> None:
        """A policy with this trigger is read, and looked at for the first time."""
        self.policies[:] = [a_policy(trigger=trigger, **changes)]
        self.watcher.look()

    def look(self, *, minutes: int = 1) -> Sequence[str]:
        """Time passes, and the watcher looks; the rollouts' candidates and phases, newest first."""
        self.azure.clock.move(60 * minutes)
        self.watcher.look()
        return [f"{rollout.candidate} {rollout.phase}" for rollout in self.store.rollouts()]

    def active(self) -> Rollout:
        """The rollout that runs."""
        (found,) = self.store.rollouts(active_only=True)
        return found

    def goes_on(self, phase: Phase, **changes: Any) -> Rollout:
        """The running rollout comes to another phase, its pair found and pinned."""
        found = self.active()
        stable = "blue" if found.candidate != "blue" else "green"
        pins = (self.pin(stable), self.pin(found.candidate or ""))
        return self.ends(phase, stable=stable, pins=pins, **changes)

    def ends(self, phase: Phase, **changes: Any) -> Rollout:
        """The running rollout comes to another phase."""
        found = self.active()
        (lease,) = self.store.claim_due(now=self.azure.clock.now(), owner="me", lease=timedelta(seconds=1))
        self.store.save(lease, replace(found, phase=phase, phase_since=self.azure.clock.now(), **changes))
        self.store.release(lease, due_at=self.azure.clock.now())
        return found

    def pin(self, name: str) -> Pin:
        """What a deployment serves now."""
        return self.azure.deployments(NAME)[name].pin

    def starts(self) -> list[Start]:
        """What was seen, oldest first, but for the first looks."""
        return [start for start in reversed(self.store.starts()) if start.kind != "watch"]

    def told(self) -> list[str]:
        """The same in words."""
        return [f"{start.what}: {start.state}{f', {start.why}' if start.why else ''}" for start in self.starts()]
