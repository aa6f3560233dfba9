"""The `Fleet` port over the sandbox's pure model of the cloud, beside `LocalAzure`.

Like `LocalAzure`, it takes `latency` seconds of the clock for a request, and `next_errands` holds what becomes of the next
writes: taken, conflict, refused, unanswered, answer lost, killed before, killed after.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rollout.errors import ConflictError, RefusedError, UnavailableError
from rollout.policy import Manifest
from rollout.ports import Ended
from rollout.sandbox import bodies
from rollout.sandbox.resources import Status
from rollout.sandbox.rules import Refusal
from rollout.world import Autoscale, CreateDeployment, DeleteDeployment, EndpointState, Errand, Scale, SetAutoscale
from tests.support.local_azure import NAME, OURS, Killed, LocalAzure


@dataclass
class LocalFleet:
    """The deployments of one workspace."""

    azure: LocalAzure
    next_errands: deque[str] = field(default_factory=deque)
    sent: list[Errand] = field(default_factory=list)  # that Azure took
    unreadable: str | None = None  # why autoscale settings cannot be read

    def scale(self, endpoint: str, errand: Scale, *, still_ours: Callable[[], bool]) -> str | None:
        """Give a deployment so many instances: see the port."""
        if errand.idle:
            self._idle(endpoint, errand.deployment)
        return self._begin(errand, still_ours, lambda: self._scaled(endpoint, errand))

    def set_autoscale(self, endpoint: str, errand: SetAutoscale, *, still_ours: Callable[[], bool]) -> str | None:
        """Write an autoscale setting, or take it off: see the port."""
        return self._begin(errand, still_ours, lambda: self.write_setting(errand.setting, errand.body))

    def delete(self, endpoint: str, errand: DeleteDeployment, *, still_ours: Callable[[], bool]) -> str | None:
        """Delete a deployment: see the port."""
        self._idle(endpoint, errand.deployment)

        def send() -> str | None:
            operation = self.azure.cloud.delete_deployment(endpoint, errand.deployment, actor=OURS)
            return operation.id if operation else None

        return self._begin(errand, still_ours, send)

    def autoscale(self, endpoint: EndpointState) -> Mapping[str, Autoscale]:
        """The autoscale settings of an endpoint's deployments: see the port."""
        self.azure.clock.move(self.azure.latency)
        if self.unreadable:
            raise RefusedError(self.unreadable)
        group = self.azure.cloud.identity.resource_group_id
        below = f"{endpoint.resource_id}/deployments/"
        return {
            each.target.removeprefix(below).casefold(): Autoscale(
                id=f"{group}/providers/microsoft.insights/autoscalesettings/{each.name}",
                body=json.dumps(each.body, sort_keys=True),
            )
            for each in self.azure.cloud.autoscale.all()
        }

    def ended(self, operation: str) -> Ended | None:
        """How an operation ended: see the port."""
        found = self.azure.cloud.operation(operation)
        if found.status is Status.RUNNING:
            return None
        return Ended(why=f"{found.trouble.code}: {found.trouble.message}" if found.trouble else None)

    def doing(self, operation: str) -> str | None:
        """Nothing that anybody could tell."""
        return None

    def create(
        self, endpoint: str, errand: CreateDeployment, manifest: Manifest, *, still_ours: Callable[[], bool]
    ) -> str:
        """Nothing is created here from files."""
        raise RefusedError(f"{errand.deployment} cannot be created here: there are no files.")

    # --- what people do

    def autoscaled(self, deployment: str, minimum: int, maximum: int, *, name: str | None = None) -> None:
        """A person has this deployment scaled by Azure Monitor."""
        identity = self.azure.cloud.identity
        target = identity.deployment_id(NAME, deployment)
        capacity = {"minimum": str(minimum), "default": str(minimum), "maximum": str(maximum)}
        rule = {"metricTrigger": {"metricName": "CpuUtilizationPercentage", "metricResourceUri": target}}
        body = {
            "location": identity.region,
            "properties": {
                "enabled": True,
                "targetResourceUri": target,
                "profiles": [{"name": "usual", "capacity": capacity, "rules": [rule]}],
            },
        }
        self.write_setting(f"/settings/{name or f'{deployment}-scale'}", json.dumps(body))

    def limits(self) -> dict[str, tuple[int, int]]:
        """Minimum and maximum of every setting, by deployment."""
        found = {}
        for each in self.azure.cloud.autoscale.all():
            capacity = each.body["properties"]["profiles"][0]["capacity"]
            found[each.target.rpartition("/")[2]] = (int(capacity["minimum"]), int(capacity["maximum"]))
        return found

    def instances(self) -> dict[str, int]:
        """How many each deployment has."""
        return {each.name: each.spec.instances for each in self.azure.cloud.deployments(NAME)}

    def resize(self, deployment: str, instances: int) -> None:
        """A person, or Azure Monitor, has scaled a deployment; at rest again."""
        self._scaled(NAME, Scale(deployment=deployment, instances=instances))
        self.azure.cloud.hurry()

    # --- the model

    def write_setting(self, setting: str, body: str | None) -> None:
        """What Azure Monitor does with a setting."""
        name = setting.rpartition("/")[2]
        if body is None:
            self.azure.cloud.autoscale.delete(name)
            return
        identity = self.azure.cloud.identity
        managed = {
            identity.deployment_id(NAME, each.name).casefold(): True for each in self.azure.cloud.deployments(NAME)
        }
        self.azure.cloud.autoscale.put(name, json.loads(body), managed=managed)

    def _scaled(self, endpoint: str, errand: Scale) -> str:
        found = self.azure.cloud.deployment(endpoint, errand.deployment)
        body: dict[str, Any] = bodies.deployment_body(self.azure.cloud.identity, found)
        body["sku"] = {**body["sku"], "capacity": errand.instances}
        return self.azure.cloud.put_deployment(endpoint, errand.deployment, body, actor=OURS).id

    def _idle(self, endpoint: str, deployment: str) -> None:
        if self.azure.cloud.endpoint(endpoint).spec.traffic.get(deployment):
            raise RefusedError(f"{deployment} has traffic. Move it away first.")

    def _begin(self, errand: Errand, still_ours: Callable[[], bool], send: Callable[[], Any]) -> str | None:
        self.azure.clock.move(self.azure.latency)
        fate = self.next_errands.popleft() if self.next_errands else "taken"
        if fate == "killed before":
            raise Killed
        if not still_ours() or fate == "conflict":
            raise ConflictError("409")
        if fate == "refused":
            raise RefusedError("Azure said: not enough quota.")
        if fate == "unanswered":
            raise UnavailableError("Azure did not answer.")
        try:
            operation: str | None = send()
        except Refusal as refusal:
            raise (ConflictError if refusal.status == 409 else RefusedError)(str(refusal)) from refusal
        self.sent.append(errand)
        if fate == "killed after":
            raise Killed
        if fate == "answer lost":
            raise UnavailableError("The answer never came.")
        return operation
