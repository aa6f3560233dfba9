"""Azure Resource Manager on loopback: the control plane of the one workspace, for the unmodified SDKs.

The rule: this file only translates. Requests become calls of the `Cloud`, its values become JSON, its refusals become
error bodies. What every request passes first is in `gate.py`; models, environments and code are in `arm_assets.py`.
"""

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from rollout.sandbox import bodies, rules
from rollout.sandbox.arm_assets import Assets
from rollout.sandbox.arm_autoscale import AutoscaleFace
from rollout.sandbox.arm_registry import Registries
from rollout.sandbox.arm_surroundings import Surroundings
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.gate import PROVIDER, SUBSCRIPTION, WORKSPACE, Answer, Call, Gate, Handler, Method, page
from rollout.sandbox.metrics import MetricStore
from rollout.sandbox.resources import Endpoint, Operation, Status

ENDPOINTS = WORKSPACE + "/onlineEndpoints"
ENDPOINT = ENDPOINTS + "/{endpoint}"
DEPLOYMENTS = ENDPOINT + "/deployments"
DEPLOYMENT = DEPLOYMENTS + "/{deployment}"
OPERATION = SUBSCRIPTION + PROVIDER + "/locations/{location}"


class Arm:
    """The handlers of the control plane."""

    def __init__(self, *, cloud: Cloud, gate: Gate, metrics: MetricStore) -> None:
        self._cloud = cloud
        self._metrics = metrics
        self._gate = gate
        self._started = cloud.now()

    def routes(self) -> list[web.RouteDef]:
        """All addresses under `/subscriptions/`."""
        table: tuple[tuple[Method, str, Handler], ...] = (
            ("GET", WORKSPACE, self.workspace),
            ("GET", ENDPOINTS, self.list_endpoints),
            ("GET", ENDPOINT, self.get_endpoint),
            ("PUT", ENDPOINT, self.put_endpoint),
            ("PATCH", ENDPOINT, self.patch_endpoint),
            ("DELETE", ENDPOINT, self.delete_endpoint),
            ("POST", ENDPOINT + "/listKeys", self.list_keys),
            ("POST", ENDPOINT + "/token", self.token),
            ("GET", DEPLOYMENTS, self.list_deployments),
            ("GET", DEPLOYMENT, self.get_deployment),
            ("PUT", DEPLOYMENT, self.put_deployment),
            ("DELETE", DEPLOYMENT, self.delete_deployment),
            ("POST", DEPLOYMENT + "/getLogs", self.get_logs),
        )
        polls: tuple[tuple[str, Handler], ...] = (
            (OPERATION + "/mfeOperationsStatus/{operation}", self.status),
            (OPERATION + "/mfeOperationResults/{operation}", self.results),
        )
        return [
            *(self._gate.route(method, path, handler) for method, path, handler in table),
            *(web.get(path, self._gate.guarded(handler, "polls")) for path, handler in polls),
            *Assets(cloud=self._cloud, gate=self._gate).routes(),
            *Registries(cloud=self._cloud, gate=self._gate).routes(),
            *AutoscaleFace(cloud=self._cloud, gate=self._gate).routes(),
            *Surroundings(cloud=self._cloud, gate=self._gate, metrics=self._metrics).routes(),
            web.route("*", SUBSCRIPTION + "/{rest:.*}", self._gate.guarded(_nothing_there, "reads")),
        ]

    # The workspace and its endpoints

    def workspace(self, call: Call) -> Answer:  # noqa: ARG002
        """The workspace."""
        return Answer(body=bodies.workspace_body(self._cloud.identity, created=self._started))

    def list_endpoints(self, call: Call) -> Answer:
        """All endpoints, without their deployments."""
        return page([self._endpoint(each) for each in self._cloud.endpoints()], call)

    def get_endpoint(self, call: Call) -> Answer:
        """One endpoint."""
        return Answer(body=self._endpoint(self._cloud.endpoint(call.path["endpoint"])))

    def put_endpoint(self, call: Call) -> Answer:
        """Begin to create or update an endpoint."""
        name = call.path["endpoint"]
        operation = self._cloud.put_endpoint(name, call.body, actor=call.actor)
        return self._accepted(201, self._endpoint(self._cloud.endpoint(name)), operation, call)

    def patch_endpoint(self, call: Call) -> Answer:
        """Begin to change tags and identity."""
        name = call.path["endpoint"]
        operation = self._cloud.patch_endpoint(name, call.body, actor=call.actor)
        return self._accepted(202, self._endpoint(self._cloud.endpoint(name)), operation, call)

    def delete_endpoint(self, call: Call) -> Answer:
        """Begin to delete an endpoint."""
        operation = self._cloud.delete_endpoint(call.path["endpoint"], actor=call.actor)
        return Answer(status=204) if operation is None else self._accepted(202, None, operation, call)

    def list_keys(self, call: Call) -> Answer:
        """Both keys of an endpoint that opens with keys."""
        endpoint = self._cloud.endpoint(call.path["endpoint"])
        if endpoint.spec.auth_mode != "Key":
            raise rules.invalid(f"Endpoint {endpoint.name} has authMode {endpoint.spec.auth_mode}: it has no keys.")
        return Answer(body={"primaryKey": endpoint.primary_key, "secondaryKey": endpoint.secondary_key})

    def token(self, call: Call) -> Answer:
        """A new token of an endpoint that opens with tokens."""
        return Answer(body=bodies.token_body(self._cloud.issue_token(call.path["endpoint"])))

    # Deployments

    def list_deployments(self, call: Call) -> Answer:
        """The deployments of an endpoint."""
        found = self._cloud.deployments(call.path["endpoint"])
        return page([bodies.deployment_body(self._cloud.identity, each) for each in found], call)

    def get_deployment(self, call: Call) -> Answer:
        """One deployment."""
        found = self._cloud.deployment(call.path["endpoint"], call.path["deployment"])
        return Answer(body=bodies.deployment_body(self._cloud.identity, found))

    def put_deployment(self, call: Call) -> Answer:
        """Begin to create or update a deployment."""
        endpoint, name = call.path["endpoint"], call.path["deployment"]
        operation = self._cloud.put_deployment(endpoint, name, call.body, actor=call.actor)
        body = bodies.deployment_body(self._cloud.identity, self._cloud.deployment(endpoint, name))
        return self._accepted(201, body, operation, call)

    def delete_deployment(self, call: Call) -> Answer:
        """Begin to delete a deployment."""
        endpoint, name = call.path["endpoint"], call.path["deployment"]
        operation = self._cloud.delete_deployment(endpoint, name, actor=call.actor)
        return Answer(status=204) if operation is None else self._accepted(202, None, operation, call)

    def get_logs(self, call: Call) -> Answer:
        """The last lines of a deployment's process. (There is no storage initializer here: it has no lines.)"""
        tail = call.body.get("tail") or 0
        if isinstance(tail, bool) or not isinstance(tail, int):
            raise rules.invalid(f"tail must be a whole number of lines, not {tail!r}.")
        lines = self._cloud.logs(call.path["endpoint"], call.path["deployment"], tail=tail)
        inference = call.body.get("containerType") in (None, "InferenceServer")
        return Answer(body={"content": "\n".join(lines) if inference else ""})

    # Operations

    def status(self, call: Call) -> Answer:
        """How an operation stands."""
        operation = self._operation(call)
        return Answer(body=bodies.operation_body(self._cloud.identity, operation, now=self._cloud.now()))

    def results(self, call: Call) -> Answer:
        """202 while an operation runs, then 204 without a body."""
        operation = self._operation(call)
        if operation.status is Status.FAILED and operation.trouble is not None:
            raise rules.Refusal(400, operation.trouble.code, operation.trouble.message)
        return Answer(status=202 if operation.status is Status.RUNNING else 204)

    def _operation(self, call: Call) -> Operation:
        """The operation of a status address whose signature came back word for word."""
        operation = self._cloud.operation(call.path["operation"].rpartition(":")[2])
        if any(call.query.get(name) != value for name, value in operation.signature.items()):
            message = "The address of the operation is not as it was given: follow it word for word, with its query."
            raise rules.Refusal(403, "AuthorizationFailed", message)
        return operation

    def _accepted(self, status: int, body: object, operation: Operation, call: Call) -> Answer:
        identity = self._cloud.identity
        deployment = operation.deployment is not None
        query = urlencode({"api-version": call.query["api-version"], **operation.signature})
        paths = {
            "Azure-AsyncOperation": bodies.operation_path(identity, operation.id, deployment=deployment),
            "Location": bodies.operation_path(identity, operation.id, deployment=deployment, results=True),
        }
        headers = {name: f"{identity.address}{path}?{query}" for name, path in paths.items()}
        return Answer(status=status, body=body, headers={**headers, "x-ms-async-operation-timeout": "PT30M"})

    def _endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        shown = self._cloud.traffic_shown(endpoint)
        return bodies.endpoint_body(self._cloud.identity, endpoint, shown=shown)


def _nothing_there(call: Call) -> Answer:
    address = call.address.partition("/subscriptions")[2]
    raise rules.not_offered(f"The sandbox does not answer this request: /subscriptions{address}.", status=501)
