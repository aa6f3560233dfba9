"""The sandbox's model of the cloud with a record of every write that it took: what promises about writes are held against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from rollout.sandbox.cloud import Cloud
from rollout.sandbox.resources import Actor, Deployment, Operation, Traffic
from rollout.sandbox.rules import Refusal

Kind = Literal["endpoint", "deployment", "autoscale"]
Limits = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Size:
    """How large a deployment is, and within what Azure Monitor scales it; `limits` None: it has no setting."""

    instances: int
    limits: Limits | None = None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A write that the cloud took. `body` None: a deletion.

    `name` is the deployment that is written, or that an autoscale setting targets; the endpoint's own name otherwise.
    `traffic`, `mirror`, `deployment` and `sizes` (by deployment) are what was in effect before.
    """

    at: datetime
    actor: Actor
    kind: Kind
    name: str
    body: Mapping[str, Any] | None
    traffic: Traffic
    mirror: Traffic
    deployment: Deployment | None = None
    sizes: Mapping[str, Size] = field(default_factory=dict)

    @property
    def split(self) -> Traffic:
        """The split that is asked for, without zeros."""
        return _shares((self.body or {}).get("properties", {}).get("traffic"))

    @property
    def mirrored(self) -> Traffic:
        """The mirror traffic that is asked for, without zeros."""
        return _shares((self.body or {}).get("properties", {}).get("mirrorTraffic"))

    def __str__(self) -> str:
        what = "DELETE" if self.body is None else "PUT"
        told = f" {dict(self.split)}" if self.kind == "endpoint" else ""
        return f"{self.at:%H:%M:%S} {self.actor.id}: {what} {self.kind} {self.name}{told}"


class RecordedCloud(Cloud):
    """Tells `on_write` of each write as soon as it was taken."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.accepted: list[Accepted] = []
        self.on_write: Callable[[Accepted], None] = lambda _write: None

    def put_endpoint(self, name: str, body: Mapping[str, Any], *, actor: Actor) -> Operation:
        """As the cloud does, and recorded."""
        before = self._before(name)
        operation = super().put_endpoint(name, body, actor=actor)
        self._record(actor, "endpoint", name, body, before)
        return operation

    def put_deployment(self, endpoint: str, name: str, body: Mapping[str, Any], *, actor: Actor) -> Operation:
        """As the cloud does, and recorded."""
        before, old = self._before(endpoint), self.find(endpoint, name)
        operation = super().put_deployment(endpoint, name, body, actor=actor)
        self._record(actor, "deployment", name, body, before, old)
        return operation

    def delete_deployment(self, endpoint: str, name: str, *, actor: Actor) -> Operation | None:
        """As the cloud does, and recorded."""
        before, old = self._before(endpoint), self.find(endpoint, name)
        operation = super().delete_deployment(endpoint, name, actor=actor)
        if operation is not None:
            self._record(actor, "deployment", name, None, before, old)
        return operation

    def write_setting(self, endpoint: str, name: str, body: Mapping[str, Any] | None, *, actor: Actor) -> None:
        """Write an autoscale setting of one of this endpoint's deployments, or take it off: recorded."""
        before = self._before(endpoint)
        if body is None:
            gone = next((each for each in self.autoscale.all() if each.name.casefold() == name.casefold()), None)
            if self.autoscale.delete(name) and gone is not None:
                self._record(actor, "autoscale", gone.target.rpartition("/")[2], None, before)
            return
        there = self.deployments(endpoint)
        managed = {self.identity.deployment_id(endpoint, each.name).casefold(): True for each in there}
        setting, _ = self.autoscale.put(name, body, managed=managed)
        self._record(actor, "autoscale", setting.target.rpartition("/")[2], body, before)

    def find(self, endpoint: str, name: str) -> Deployment | None:
        """A deployment as it is; None where there is none."""
        try:
            return self.deployment(endpoint, name)
        except Refusal:
            return None

    def sizes(self, endpoint: str) -> Mapping[str, Size]:
        """The deployments' sizes, as they are in effect."""
        settings = {each.target.rpartition("/")[2].casefold(): _limits(each.body) for each in self.autoscale.all()}
        return {
            each.name.casefold(): Size(instances=each.spec.instances, limits=settings.get(each.name.casefold()))
            for each in self.deployments(endpoint)
        }

    def _before(self, endpoint: str) -> tuple[Traffic, Traffic, Mapping[str, Size]]:
        try:
            spec = self.endpoint(endpoint).spec
        except Refusal:
            return {}, {}, {}
        return _shares(spec.traffic), _shares(spec.mirror), self.sizes(endpoint)

    def _record(
        self,
        actor: Actor,
        kind: Kind,
        name: str,
        body: Mapping[str, Any] | None,
        before: tuple[Traffic, Traffic, Mapping[str, Size]],
        old: Deployment | None = None,
    ) -> None:
        traffic, mirror, sizes = before
        write = Accepted(
            at=self.now(),
            actor=actor,
            kind=kind,
            name=name.casefold(),
            body=body,
            traffic=traffic,
            mirror=mirror,
            deployment=old,
            sizes=sizes,
        )
        self.accepted.append(write)
        self.on_write(write)


def _limits(body: Mapping[str, Any]) -> Limits:
    """By profile: its name, minimum, default and maximum."""
    found = []
    for profile in body["properties"]["profiles"]:
        low, usual, high = (int(profile["capacity"][key]) for key in ("minimum", "default", "maximum"))
        found.append((str(profile["name"]), low, usual, high))
    return tuple(found)


def _shares(traffic: Traffic | None) -> Traffic:
    return {name.casefold(): share for name, share in (traffic or {}).items() if share}
