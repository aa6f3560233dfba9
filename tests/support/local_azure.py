"""Azure in process: the sandbox's pure model of the cloud behind the ports, under a clock that moves when told.

`LocalAzure` is an `Endpoints` port over `rollout.sandbox.cloud.Cloud`: long-running operations, lagging reads, conflicts
and refusals are the model's own. What goes wrong with a request beyond that is scripted: `next_writes` holds what becomes
of the next PUTs. `LocalLogs` is a `Telemetry` port that shows what the endpoint's traffic would have left in the logs.
"""

import random
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rollout.analysis.cells import Cell, bucket
from rollout.errors import ConflictError, RefusedError, ThrottledError, UnavailableError
from rollout.ports import Counted, CountQuery, Listing, Reading
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import ArmFault, Faults
from rollout.sandbox.resources import Actor, Asset, Deployment, Endpoint, Timings
from rollout.sandbox.rules import Refusal
from rollout.sandbox.seed import deployment_body, endpoint_body
from rollout.world import DeploymentState, EndpointState, Pin, Split

OURS, BOB = Actor(id="rollout-identity"), Actor(id="bob@example.com", kind="User")
NAME = "restaurant-recommender"
EPOCH = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


class Killed(Exception):  # noqa: N818  (what happened to our process, not a mistake of it)
    """The process ends here, as SIGKILL would end it: nothing after this line runs."""


@dataclass
class HandClock:
    """A clock that stands still until it is moved."""

    at: datetime = EPOCH
    passed: float = 0.0

    def now(self) -> datetime:
        """The time."""
        return self.at

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self.passed

    def real_seconds(self, duration: timedelta) -> float:
        """A second is a second."""
        return duration.total_seconds()

    def move(self, seconds: float) -> None:
        """Time passes."""
        self.at += timedelta(seconds=seconds)
        self.passed += seconds

    def pause(self, seconds: float) -> None:
        """Our process stands still while the world goes on: its wall clock moves, and so does its monotonic one."""
        self.move(seconds)


@dataclass
class LocalAzure:
    """The endpoints of one workspace. Every request takes `latency` seconds of the clock."""

    clock: HandClock = field(default_factory=HandClock)
    latency: float = 0.2
    seed: int = 1
    next_writes: deque[str] = field(default_factory=deque)
    next_reads: deque[Exception | None] = field(default_factory=deque)
    puts: list[tuple[datetime, Split]] = field(default_factory=list)  # that Azure received
    calls: list[str] = field(default_factory=list)
    notes: list[str | None] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    before_put: Callable[[Split], None] = lambda split: None
    late: list[tuple[datetime, Split]] = field(default_factory=list)  # accepted nowhere yet, and still on their way
    kind_of_cloud: Callable[..., Cloud] = Cloud
    cloud: Cloud = field(init=False)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        timings = Timings(deployment_create=(5.0, 5.0), deployment_update=(5.0, 5.0), deployment_delete=(5.0, 5.0))
        self.cloud = self.kind_of_cloud(
            clock=self.clock.now, chance=chance, faults=Faults(), timings=timings, hosted=False
        )
        for kind, name in (("environments", "env"), ("codes", "code"), ("models", "recommender")):
            for version in ("1", "2", "3"):
                self.cloud.assets.register(Asset(kind=kind, name=name, version=version), now=self.clock.now())  # type: ignore[arg-type]

    # --- the port

    def list(self) -> Listing:
        """Every endpoint."""
        self._read("list")
        found = {endpoint.name: self._state(endpoint) for endpoint in self.cloud.endpoints()}
        return Listing(
            endpoints={name: state for name, state in found.items() if name not in self.broken},
            broken=dict(self.broken),
        )

    def get(self, name: str) -> EndpointState | None:
        """One endpoint."""
        self._read("get")
        return self._find(name)

    def deployments(self, name: str) -> Mapping[str, DeploymentState]:
        """Its deployments."""
        self._read("deployments")
        try:
            return {found.name.casefold(): _deployment(found) for found in self.cloud.deployments(name)}
        except Refusal:
            return {}

    def set_traffic(
        self,
        name: str,
        split: Split,
        *,
        pair: frozenset[str],
        replacing: frozenset[Split] | None,
        note: str | None,
        still_ours: Callable[[], bool],
    ) -> None:
        """Begin to give the endpoint this split: see the port."""
        self.calls.append("set_traffic")
        self.clock.move(self.latency)
        state = self._find(name)
        if state is None:
            raise RefusedError(f"There is no endpoint {name}.")
        if others := state.traffic.others(*pair):
            raise RefusedError(f"{' and '.join(others)} has traffic and is not part of this rollout.")
        if replacing is not None and state.traffic not in replacing:
            raise ConflictError(f"Somebody has just made it {state.traffic}.")
        self.before_put(split)
        fate = self.next_writes.popleft() if self.next_writes else "taken"
        if fate == "killed before":
            raise Killed
        if not still_ours():
            raise ConflictError("Another process has taken the rollout over.")
        self._put(name, split, note, fate)

    def _put(self, name: str, split: Split, note: str | None, fate: str) -> None:
        self.clock.move(self.latency)
        if fate == "throttled":
            raise ThrottledError("Azure asks to be called less often.", retry_after=7.0)
        if fate == "late":
            self.late.append((self.clock.now() + timedelta(seconds=25), split))
        if fate in {"unanswered", "late"}:
            raise UnavailableError("Azure did not answer.")
        if fate == "refused":
            raise RefusedError("Azure said: you may not do that.")
        if fate == "conflict":
            raise ConflictError("409")
        try:
            self._write(name, split, OURS)
        except Refusal as refusal:
            raise (ConflictError if refusal.status == 409 else RefusedError)(str(refusal)) from refusal
        self.puts.append((self.clock.now(), split))
        self.notes.append(note)
        if fate == "killed after":
            raise Killed
        if fate == "answer lost":
            raise UnavailableError("The answer never came.")

    def kill_at_read(self, number: int) -> None:
        """The process is killed at its n-th read from here on."""
        self.next_reads.extend([*[None] * number, Killed()])

    def deliver_late(self) -> None:
        """Requests that nobody answered reach Azure now, if their time has come; a conflict is the end of them."""
        due = [split for at, split in self.late if at <= self.clock.now()]
        self.late = [(at, split) for at, split in self.late if at > self.clock.now()]
        for split in due:
            with suppress(Refusal):
                self._write(NAME, split, OURS)

    # --- what people and Azure do

    def begin(self, **traffic: int) -> None:
        """The endpoint with deployments blue (version 1) and green (version 2), and this traffic; all at rest."""
        identity = self.cloud.identity
        self.cloud.put_endpoint(NAME, endpoint_body({}, identity), actor=BOB)
        self.settle()
        for version, name in enumerate(("blue", "green"), start=1):
            self.deploy(name, version)
        self.by_hand(**(traffic or {"blue": 100}))
        self.settle()

    def deploy(self, name: str, version: int, *, instances: int = 1, **tags: str) -> None:
        """A deployment is created or changed in place, and is ready."""
        values = {
            "model": f"azureml:recommender:{version}",
            "environment": "azureml:env:1",
            "code_configuration": {"code": f"azureml:code:{version}", "scoring_script": "score.py"},
            "instance_type": "Standard_DS3_v2",
            "instance_count": instances,
            "tags": tags,
        }
        self.cloud.put_deployment(NAME, name, deployment_body(values, self.cloud.identity), actor=BOB)
        self.cloud.hurry()

    def ruin(self, name: str) -> bool:
        """An update of a deployment fails: it is in state Failed; False where Azure refuses."""
        fault = ArmFault(kind="fail_operation", since=self.clock.now(), count=1)
        number = self.cloud.faults.add(fault)
        try:
            self.deploy(name, 3)
        except Refusal:
            self.cloud.faults.clear(number)
            return False
        return True

    def delete(self, name: str) -> bool:
        """A deployment is deleted; False where Azure refuses."""
        try:
            self.cloud.delete_deployment(NAME, name, actor=BOB)
        except Refusal:
            return False
        self.cloud.hurry()
        return True

    def by_hand(self, **traffic: int) -> bool:
        """A person changes the traffic, as `az ml` would; False where Azure refuses (an operation runs)."""
        try:
            self._write(NAME, Split.of(traffic), BOB)
        except Refusal:
            return False
        return True

    def settle(self) -> None:
        """Every operation ends, and reads show it."""
        self.cloud.hurry()
        self.clock.move(10)

    @property
    def traffic(self) -> dict[str, int]:
        """The split in effect (reads may lag behind)."""
        return {name: share for name, share in self.cloud.endpoint(NAME).spec.traffic.items() if share}

    @property
    def updating(self) -> bool:
        """An operation runs on the endpoint."""
        return self.cloud.endpoint(NAME).state.busy

    def _write(self, name: str, split: Split, actor: Actor) -> None:
        body = endpoint_body({}, self.cloud.identity)
        body["properties"]["traffic"] = split.as_traffic()
        self.cloud.put_endpoint(name, body, actor=actor)

    def _read(self, call: str) -> None:
        self.calls.append(call)
        self.clock.move(self.latency)
        error = self.next_reads.popleft() if self.next_reads else None
        if error is not None:
            raise error

    def _find(self, name: str) -> EndpointState | None:
        try:
            return self._state(self.cloud.endpoint(name))
        except Refusal:
            return None

    def _state(self, endpoint: Endpoint) -> EndpointState:
        return EndpointState(
            name=endpoint.name,
            resource_id=self.cloud.identity.endpoint_id(endpoint.name),
            state=endpoint.state,
            traffic=Split.of(self.cloud.traffic_shown(endpoint)),
            last_modified_by=endpoint.system.modified_by.id,
            last_modified_at=endpoint.system.modified_at,
        )


def _deployment(found: Deployment) -> DeploymentState:
    spec = found.spec
    pin = Pin(
        model=spec.model,
        environment=spec.environment,
        code=spec.code,
        modified_at=found.system.modified_at.isoformat(),
        instances=spec.instances,
    )
    identity = f"{found.system.created_at.isoformat()}-{spec.model}-{spec.environment}-{spec.code}"
    return DeploymentState(name=found.name, state=found.state, pin=pin, tags=spec.tags, identity=identity)


@dataclass
class LocalLogs:
    """The traffic log of one endpoint: `per_minute` requests, split as the endpoint was, `lag` minutes late.

    `bad` is the share of each deployment's answers that are errors; `silent` hides every row. `own` is what the policy's
    own checks count, or the error that they meet, by name.
    """

    azure: LocalAzure
    per_minute: int = 1200
    lag: int = 4
    bad: dict[str, float] = field(default_factory=dict)
    silent: bool = False
    arrived: timedelta | None = None
    error: Exception | None = None
    asked: list[tuple[Sequence[str], int, int]] = field(default_factory=list)
    minutes: dict[int, dict[str, Cell]] = field(default_factory=dict)
    own: dict[str, Sequence[Counted] | Exception] = field(default_factory=dict)
    counted: list[tuple[CountQuery, int, int]] = field(default_factory=list)
    measured: list[Collection[str]] = field(default_factory=list)

    def pass_minute(self) -> None:
        """The minute that has just ended is in the log."""
        self.note(int(self.azure.clock.now().timestamp() // 60) - 1)

    def note(self, minute: int) -> None:
        """What the endpoint answers now is this minute's traffic."""
        self.minutes[minute] = {
            name: self._cell(name, self.per_minute * share // 100) for name, share in self.azure.traffic.items()
        }

    def _cell(self, name: str, requests: int) -> Cell:
        bad = round(requests * self.bad.get(name, 0.0))
        counts = {"ok": {bucket(80.0): requests - bad}, "5xx": {bucket(80.0): bad}}
        return Cell(histograms={kind: histogram for kind, histogram in counts.items() if sum(histogram.values())})

    def read(self, endpoints: Sequence[str], *, start: int, end: int, measured: Collection[str] = ()) -> Reading:
        """What has arrived by now; there are no measures."""
        self.asked.append((endpoints, start, end))
        self.measured.append(measured)
        if self.error is not None:
            raise self.error
        newest = int(self.azure.clock.now().timestamp() // 60) - self.lag
        shown = range(start, min(end, newest)) if not self.silent else ()
        cells: dict[str, dict[int, Cell]] = {}
        for minute in shown:
            for name, cell in self.minutes.get(minute, {}).items():
                cells.setdefault(name, {})[minute] = cell
        return Reading(cells={endpoints[0]: cells}, start=start, end=end, arrived=self.arrived)

    def count(self, query: CountQuery, *, start: int, end: int) -> Sequence[Counted]:
        """What the query of this check counts."""
        self.counted.append((query, start, end))
        found = self.own.get(query.check, ())
        if isinstance(found, Exception):
            raise found
        return [row for row in found if start <= row.minute < end]
