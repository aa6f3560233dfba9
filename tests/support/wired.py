"""Azure in process, one layer lower than `LocalAzure`: a double of `WorkspaceResources` over the sandbox's model.

The rule: the real adapters of `rollout.azure` run on top of it, so that their reads before a write, their refusals and
their translation of errors are what is tested. What goes wrong with a request is scripted in `next_writes` and
`next_reads` of the `LocalAzure` below.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import yaml
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

from rollout.errors import ConflictError, RefusedError
from rollout.policy import Manifest
from rollout.ports import Ended
from rollout.sandbox import bodies
from rollout.sandbox.faults import ArmFault
from rollout.sandbox.resources import Operation, Status
from rollout.sandbox.rules import Refusal
from rollout.sandbox.seed import deployment_body
from tests.support.local_azure import NAME, OURS, Killed, LocalAzure
from tests.support.recorded import RecordedCloud

LATE = timedelta(seconds=25)
AS_WRITTEN = "creation:nothing to do"
SETTING = "microsoft.insights/autoscalesettings"


class _Response:
    """An answer of Azure's that says no, as the adapters read it."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.headers = dict(headers)
        self.reason = str(body["error"]["code"])
        self.content_type = "application/json"
        self._text = json.dumps(body)

    def text(self, encoding: str | None = None) -> str:
        """The body."""
        return self._text


def _said_no(refusal: Refusal) -> HttpResponseError:
    details = [{"code": code, "message": message} for code, message in refusal.details]
    body = {"error": {"code": refusal.code, "message": refusal.message, "details": details}}
    return HttpResponseError(
        message=refusal.message,
        response=_Response(refusal.status, body, refusal.headers),  # type: ignore[arg-type]
    )


#: What Azure answers without having done anything.
ANSWERS: Mapping[str, Callable[[], Exception]] = {
    "throttled": lambda: _said_no(Refusal(429, "TooManyRequests", "Try again later.", headers={"Retry-After": "7"})),
    "refused": lambda: _said_no(Refusal(403, "AuthorizationFailed", "You may not do that.")),
    "conflict": lambda: _said_no(Refusal(409, "Conflict", "Another operation is already in progress.")),
    "unanswered": lambda: ServiceRequestError("nobody answers"),
    "late": lambda: ServiceRequestError("nobody answers"),
}


@dataclass
class WiredAzure(LocalAzure):
    """The model, whose requests may be late."""

    kind_of_cloud: Callable[..., RecordedCloud] = RecordedCloud
    on_their_way: list[tuple[datetime, Callable[[], object]]] = field(default_factory=list)

    def deliver_late(self) -> None:
        """Requests that nobody answered reach Azure now, if their time has come; a refusal is the end of them."""
        due = [send for at, send in self.on_their_way if at <= self.clock.now()]
        self.on_their_way = [(at, send) for at, send in self.on_their_way if at > self.clock.now()]
        for send in due:
            with suppress(Refusal):
                send()

    @property
    def recorded(self) -> RecordedCloud:
        """The model, with its record."""
        assert isinstance(self.cloud, RecordedCloud)
        return self.cloud


@dataclass
class WiredResources:
    """See `rollout.azure.arm.WorkspaceResources`: the same requests, answered by the model."""

    azure: WiredAzure

    def endpoints(self) -> Iterator[Any]:
        """Every endpoint."""
        self._read()
        for each in self.azure.cloud.endpoints():
            yield self._endpoint(each.name)

    def endpoint(self, name: str) -> Any:
        """One endpoint."""
        self._read()
        return self._answer(lambda: self._endpoint(name))

    def deployments(self, name: str) -> Iterator[Any]:
        """The deployments of an endpoint."""
        self._read()
        identity = self.azure.cloud.identity
        yield from self._answer(
            lambda: [_json(bodies.deployment_body(identity, each)) for each in self.azure.cloud.deployments(name)]
        )

    def deployment(self, endpoint: str, name: str) -> Any:
        """One deployment."""
        self._read()
        cloud = self.azure.cloud
        return self._answer(lambda: _json(bodies.deployment_body(cloud.identity, cloud.deployment(endpoint, name))))

    def put_endpoint(self, name: str, body: Mapping[str, Any], *, before: Callable[[], None]) -> str | None:
        """Begin to write an endpoint."""
        return self._write(lambda: self.azure.cloud.put_endpoint(name, _json(body), actor=OURS), before=before)

    def put_deployment(self, endpoint: str, name: str, body: Mapping[str, Any]) -> str | None:
        """Begin to write a deployment."""
        return self._write(lambda: self.azure.cloud.put_deployment(endpoint, name, _json(body), actor=OURS))

    def delete_deployment(self, endpoint: str, name: str) -> str | None:
        """Begin to delete a deployment."""
        return self._write(lambda: self.azure.cloud.delete_deployment(endpoint, name, actor=OURS))

    def autoscale_settings(self) -> Iterator[Any]:
        """Those of the resource group."""
        self._read()
        group = self.azure.cloud.identity.resource_group_id
        for each in self.azure.cloud.autoscale.all():
            yield {**each.body, "id": f"{group}/providers/{SETTING}/{each.name}", "name": each.name, "type": SETTING}

    def put_autoscale(self, setting: str, body: Mapping[str, Any]) -> None:
        """Write a setting."""
        self._write(lambda: self._set(setting, _json(body)))

    def delete_autoscale(self, setting: str) -> None:
        """Take a setting off."""
        self._write(lambda: self._set(setting, None))

    def operation(self, address: str) -> Any:
        """How an operation stands."""
        self._read()
        cloud = self.azure.cloud
        return self._answer(
            lambda: bodies.operation_body(cloud.identity, cloud.operation(address), now=self.azure.clock.now())
        )

    def close(self) -> None:
        """Nothing is open."""

    # --- how a request goes

    def _read(self) -> None:
        self.azure.calls.append("read")
        self.azure.clock.move(self.azure.latency)
        error = self.azure.next_reads.popleft() if self.azure.next_reads else None
        if error is not None:
            raise error

    def _write(self, send: Callable[[], Operation | None], *, before: Callable[[], None] = lambda: None) -> str | None:
        fate = self.azure.next_writes.popleft() if self.azure.next_writes else "taken"
        if fate == "killed before":
            raise Killed
        before()
        self.azure.clock.move(self.azure.latency)
        if fate == "late":
            self.azure.on_their_way.append((self.azure.clock.now() + LATE, send))
        if fate in ANSWERS:
            raise ANSWERS[fate]()
        if fate == "fails":
            self.azure.cloud.faults.add(ArmFault(kind="fail_operation", since=self.azure.clock.now(), count=1))
        operation = self._answer(send)
        if fate == "killed after":
            raise Killed
        if fate == "answer lost":
            raise ServiceResponseError("the answer never came")
        return operation.id if operation else None

    def _answer(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Refusal as refusal:
            raise _said_no(refusal) from refusal

    def _endpoint(self, name: str) -> Any:
        cloud = self.azure.cloud
        found = cloud.endpoint(name)
        return _json(bodies.endpoint_body(cloud.identity, found, shown=cloud.traffic_shown(found)))

    def _set(self, setting: str, body: Mapping[str, Any] | None) -> None:
        self.azure.recorded.write_setting(NAME, setting.rpartition("/")[2], body, actor=OURS)


@dataclass
class WiredCreations:
    """Candidates from files that name a registered model, without azure-ai-ml's loaders: put, and watched.

    A deployment that is as its file says is left alone, as `rollout.azure.creating` does.
    """

    azure: WiredAzure
    resources: WiredResources
    begun: set[str] = field(default_factory=lambda: {AS_WRITTEN})

    def begin(self, endpoint: str, manifest: Manifest) -> str:
        """Begin to make the deployment what its file says."""
        address = self._begin(endpoint, manifest)
        self.begun.add(address)
        return address

    def _begin(self, endpoint: str, manifest: Manifest) -> str:
        values = {"environment": "azureml:env:1", "instance_type": "Standard_DS3_v2", **yaml.safe_load(manifest.text)}
        body = deployment_body(values, self.azure.cloud.identity)
        old = self.azure.recorded.find(endpoint, manifest.name)
        if self.azure.traffic.get(manifest.name):
            raise RefusedError(f"{manifest.name} has traffic.")
        if old is not None and old.state.busy:
            raise ConflictError(f"{manifest.name} is {old.state}.")
        if old is not None and old.state == "Succeeded" and old.spec.model == body["properties"]["model"]:
            return AS_WRITTEN
        if old is not None:
            body["sku"]["capacity"] = old.spec.instances  # a deployment that was only scaled is as its file says
        try:
            return self.resources.put_deployment(endpoint, manifest.name, body) or ""
        except HttpResponseError as error:
            raise (ConflictError if error.status_code == 409 else RefusedError)(str(error.message)) from error

    def ended(self, address: str) -> Ended | None:
        """How it ended; None while it runs."""
        if address not in self.begun:
            return Ended(why=None, known=False)
        if address == AS_WRITTEN:
            return Ended(why=None)
        found = self.azure.cloud.operation(address)
        if found.status is Status.RUNNING:
            return None
        return Ended(why=found.trouble.message if found.trouble else None)

    def doing(self, address: str) -> str | None:
        """Nothing that could be told."""
        return None


def _json(value: Mapping[str, Any]) -> Any:
    """As it comes over the wire."""
    return json.loads(json.dumps(value))
