"""A collector of one workspace on a real store, over the sandbox's model of Azure."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rollout.analysis.cells import Cell
from rollout.collector import Collector, WorkspaceSources
from rollout.lifecycle import new_rollout
from rollout.store import SqlStore, open_store
from rollout.world import EndpointRef
from tests.support.lives import REF, policy
from tests.support.local_azure import LocalAzure, LocalLogs


class Scene:
    """A collector of one workspace, with an active rollout, and what it woke."""

    def __init__(self, folder: Path, *, lag: timedelta | None = None, **policy: Any) -> None:
        self.azure = LocalAzure()
        self.azure.begin()
        self.logs = LocalLogs(self.azure)
        self.metrics = LocalLogs(self.azure, lag=1)
        self.store: SqlStore = open_store(f"sqlite:///{folder / 'rollout.db'}", exclusive=True)
        self.woken: list[EndpointRef] = []
        self.collector = self.make(lag=lag)
        self.begin(REF, **policy)

    def make(self, *, lag: timedelta | None = None, **changes: object) -> Collector:
        """A collector of the workspace; `changes` are fields of its sources."""
        given = {"logs_key": "la", "logs": self.logs, "metrics_key": "west", "metrics": self.metrics} | changes
        source = WorkspaceSources(workspace="prod", endpoints=self.azure, **given)  # type: ignore[arg-type]
        return Collector(
            store=self.store, clock=self.azure.clock, sources=[source], on_change=self.woken.extend, lag=lag
        )

    def begin(self, ref: EndpointRef, **changes: Any) -> None:
        """A rollout of this endpoint; `changes` are fields of its policy."""
        rollout, events = new_rollout(
            rollout_id=f"r-{ref.workspace}-{ref.name}",
            ref=ref,
            policy=policy(**changes),
            candidate=None,
            by="ana",
            now=self.now,
        )
        self.store.create(rollout, events, ())

    @property
    def now(self) -> datetime:
        """The time, on the clock that tests move."""
        return self.azure.clock.now()

    @property
    def minute(self) -> int:
        """The running minute."""
        return int(self.now.timestamp() // 60)

    def history(self, minutes: int = 120) -> None:
        """So many minutes of traffic lie behind us."""
        for minute in range(self.minute - minutes, self.minute):
            self.logs.note(minute)
            self.metrics.note(minute)

    def stored(self, source: str = "logs", *, minutes: int = 200) -> dict[int, Cell]:
        """What the store has of stable."""
        return dict(
            self.store.cells(source, REF, start=self.minute - minutes, end=self.minute + 1).cells.get("blue", {})
        )
