"""The API as commands meet it: a real web server on loopback over a real store, without Azure.

The rule: nothing here decides: `tick` lets the lifecycle itself answer commands, with facts that the test gives.
"""

import asyncio
import itertools
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from rollout.analysis.profile import Profile
from rollout.clock import WallClock
from rollout.conductor import Conductor
from rollout.daemon.policies import PolicyBook
from rollout.errors import RefusedError
from rollout.lifecycle import Facts, Phase, Rollout, advance
from rollout.policy import CustomCheck
from rollout.ports import Counted
from rollout.store import SqlStore, open_store
from rollout.web.app import create_app
from rollout.web.service import Service
from rollout.web.trying import Trial
from rollout.world import EndpointRef, EndpointState, Snapshot, Split

TOKEN = "a-token-for-tests-only"
POLICY = "endpoint_name: recommender\nsteps: [5%, 25%, 100%]\nbake: 10m\nalerts: [team-ml]\n"
WORKSPACES = ("prod", "test")


@dataclass
class SeenWorld:
    """What was seen of Azure: filled by the test."""

    snapshots: dict[EndpointRef, Snapshot] = field(default_factory=dict)

    def latest(self, ref: EndpointRef) -> Snapshot | None:
        return self.snapshots.get(ref)

    def lag(self, _ref: EndpointRef, *, source: str = "logs") -> timedelta:
        return timedelta(minutes=5)

    def sources(self) -> Sequence[Mapping[str, Any]]:
        return [{"source": "logs", "key": "law", "last_success": None, "last_error": "no rows yet"}]


@dataclass
class SeenPast:
    """What is known of every endpoint's last days: filled by the test."""

    known: Profile | None = None
    stored: Profile | None = None
    asked: list[tuple[EndpointRef, int]] = field(default_factory=list)

    def profile(self, ref: EndpointRef, *, hours: int) -> Profile:
        self.asked.append((ref, hours))
        if self.known is None:
            raise RefusedError(f"The logs show too few requests of {ref.name}.")
        return self.known

    def at_once(self, _ref: EndpointRef) -> Profile | None:
        return self.stored


@dataclass
class SeenTrials:
    """What queries of checks count: filled by the test."""

    counts: dict[str, Sequence[Counted] | str] = field(default_factory=dict)
    asked: list[tuple[EndpointRef, Sequence[CustomCheck], int]] = field(default_factory=list)

    def run(self, ref: EndpointRef, checks: Sequence[CustomCheck], *, hours: int) -> Trial:
        self.asked.append((ref, checks, hours))
        counts = {check.name: self.counts.get(check.name, ()) for check in checks}
        both = frozenset({"blue", "green"})
        return Trial(ref=ref, start=1000, end=1000 + hours * 60, deployments=both, stable="blue", counts=counts)


@dataclass
class ToldHealth:
    """Health as the test says."""

    hangs: list[str] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)

    def alive(self) -> list[str]:
        return self.hangs

    def ready(self) -> list[str]:
        return self.unready


@dataclass(frozen=True, kw_only=True)
class LocalApi:
    """The API that answers at `address`, and what is behind it."""

    address: str
    store: SqlStore
    service: Service
    world: SeenWorld
    health: ToldHealth
    past: SeenPast
    trials: SeenTrials
    policies: PolicyBook
    conductor: Conductor
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """How commands find it."""
        return {"ROLLOUT_API": self.address, "ROLLOUT_TOKEN_FILE": str(self.folder / "token"), "ROLLOUT_USER": "anna"}

    def start(self, text: str = POLICY, *, workspace: str = "prod", by: str = "anna") -> Rollout:
        """A rollout as `rollout start` makes it."""
        policy = self.service.policies.parse(text + f"workspace: {workspace}\n", file="policy.yaml")
        return self.service.start(policy, candidate=None, by=by)

    def show(self, ref: EndpointRef, traffic: Mapping[str, int]) -> None:
        """Azure shows this split from now on."""
        endpoint = EndpointState(
            name=ref.name, resource_id=f"/x/{ref.name}", state="Succeeded", traffic=Split.of(traffic)
        )
        self.world.snapshots[ref] = Snapshot(endpoint=endpoint, deployments=None, requested_at=self.service.now())

    def put(self, rollout_id: str, **changes: Any) -> Rollout:
        """Save a rollout as if ticks had led it there."""
        return self._tick(rollout_id, changes, answer=False)

    def tick(self, rollout_id: str) -> Rollout:
        """One decision of the lifecycle over the pending commands, saved as the reconciler saves it."""
        return self._tick(rollout_id, {}, answer=True)

    def _tick(self, rollout_id: str, changes: Mapping[str, Any], *, answer: bool) -> Rollout:
        now = self.service.now()
        self.store.wake([self.store.load(rollout_id).ref], now=now)
        leases = self.store.claim_due(now=now, owner="test", lease=timedelta(seconds=30))
        (lease,) = [lease for lease in leases if lease.rollout_id == rollout_id]
        rollout = replace(self.store.load(rollout_id), **changes)
        if answer:
            decision = advance(rollout, Facts(commands=tuple(self.store.pending_commands(rollout_id))), now)
            self.store.save(lease, decision.rollout, events=decision.events, results=decision.results)
            rollout = decision.rollout
        else:
            self.store.save(lease, rollout)
        for held in leases:
            self.store.release(held, due_at=now + timedelta(hours=1))
        return rollout


#: A rollout in the middle of its second step.
RUNNING: Mapping[str, Any] = {
    "phase": Phase.PROGRESSING,
    "stable": "blue",
    "candidate": "green",
    "step": 1,
    "share": 25,
}


@contextmanager
def local_api(folder: Path) -> Iterator[LocalApi]:
    """The API, until the block is left."""
    (folder / "token").write_text(TOKEN)
    (folder / "policies").mkdir()
    store = open_store(f"sqlite:///{folder / 'rollout.db'}", exclusive=True)
    clock, world, health, past, trials = WallClock(), SeenWorld(), ToldHealth(), SeenPast(), SeenTrials()
    log = structlog.stdlib.get_logger()
    policies = PolicyBook(folder / "policies", defaults={}, channels=frozenset({"team-ml"}), clock=clock, log=log)
    numbers = itertools.count(1)
    conductor = Conductor(
        store=store,
        clock=clock,
        recipients=lambda policy, severity: tuple(policy.alerts),
        wake=lambda: None,
        started=lambda ref: None,
        log=log,
    )
    service = Service(
        store=store,
        clock=clock,
        policies=policies,
        world=world,
        workspaces=WORKSPACES,
        wake=lambda: None,
        started=lambda ref: None,
        new_id=lambda: f"id-{next(numbers)}",
        past=past,
        trials=trials,
        conductor=conductor,
    )
    app = create_app(service, token=TOKEN, health=health, log=log)
    try:
        with _served(app) as address:
            yield LocalApi(
                address=address,
                store=store,
                service=service,
                world=world,
                health=health,
                past=past,
                trials=trials,
                policies=policies,
                conductor=conductor,
                folder=folder,
            )
    finally:
        store.close()


@contextmanager
def _served(app: Any) -> Iterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
