"""Azure Resource Manager on loopback: the control plane of the one workspace, for the unmodified SDKs.

The rule: this file only translates. Requests become calls of the `Cloud`, its values become JSON, its refusals become
error bodies. Authentication, throttling and injected faults are met here, once, before every handler.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlencode
from uuid import uuid4

from aiohttp import web

from rollout.sandbox import bodies, rules
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import ArmFault, ArmTarget
from rollout.sandbox.resources import Actor, AssetKind, Endpoint, Operation, State, Status
from rollout.sandbox.throttle import Buckets, kind_of
from rollout.sandbox.tokens import Tokens

SUBSCRIPTION = "/subscriptions/{subscription}"
PROVIDER = "/providers/Microsoft.MachineLearningServices"
WORKSPACE = SUBSCRIPTION + "/{_:(?i:resourceGroups)}/{group}" + PROVIDER + "/workspaces/{workspace}"
ENDPOINTS = WORKSPACE + "/onlineEndpoints"
ENDPOINT = ENDPOINTS + "/{endpoint}"
DEPLOYMENTS = ENDPOINT + "/deployments"
DEPLOYMENT = DEPLOYMENTS + "/{deployment}"
ASSETS = WORKSPACE + "/{kind:" + "|".join(get_args(AssetKind)) + "}"
OPERATION = SUBSCRIPTION + PROVIDER + "/locations/{location}"

PAGE = 100  # items in one answer of a list
WITHHELD_SECONDS = 300  # real time after which even a withheld answer's connection is closed
GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
NO_UPLOADS = "Uploads are not in this version of the sandbox: refer to registered assets as azureml:NAME:VERSION."


@dataclass(frozen=True, kw_only=True)
class Call:
    """One authenticated request: who, what was written in the address, the query and the body."""

    actor: Actor
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    address: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a handler answers."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[[Call], Answer]
Method: TypeAlias = Literal["GET", "PUT", "PATCH", "DELETE", "POST"]


class Gate:
    """What every request passes before its handler: token, scope, buckets, faults; and how refusals are told."""

    def __init__(self, *, cloud: Cloud, tokens: Tokens, buckets: Buckets, wall: Callable[[], float]) -> None:
        """`wall` gives real seconds since 1970: lifetimes of tokens are real."""
        self._cloud = cloud
        self._tokens = tokens
        self._buckets = buckets
        self._wall = wall

    def guarded(self, handler: Handler, target: ArmTarget) -> Callable[[web.Request], Any]:
        """The handler as aiohttp wants it; `target` says which faults befall it."""

        async def answer(request: web.Request) -> web.StreamResponse:
            request_id = str(uuid4())
            try:
                response = await self._answer(request, handler, target)
            except rules.Refusal as refusal:
                now = self._cloud.now()
                body = bodies.error_body(refusal, identity=self._cloud.identity, request_id=request_id, now=now)
                response = web.json_response(body, status=refusal.status, headers=refusal.headers)
            self._mark(request, response, request_id)
            return response

        return answer

    async def _answer(self, request: web.Request, handler: Handler, target: ArmTarget) -> web.Response:
        actor = self._tokens.check_management(request.headers.get("Authorization"), now=self._wall())
        self._check_scope(request)
        wait = self._buckets.take(kind_of(request.method), now=self._cloud.now())
        if wait is not None:
            raise rules.throttled(max(1, round(wait)))
        fault = self._cloud.faults.arm(target, request.match_info.get("endpoint"), now=self._cloud.now())
        if fault is not None and fault.kind != "timeout":
            return self._injected(fault, request)
        call = Call(
            actor=actor,
            path=request.match_info,
            query=request.query,
            body=await _json(request),
            address=f"{self._cloud.identity.address}{request.path}",
        )
        answer = handler(call)
        if fault is not None:
            await _withhold(request)
        text = None if answer.status == 204 else json.dumps(answer.body)
        return web.Response(status=answer.status, text=text, headers=answer.headers, content_type="application/json")

    def _check_scope(self, request: web.Request) -> None:
        """Subscription, resource group and workspace must be ours, and an api-version must be given."""
        identity, path = self._cloud.identity, request.match_info
        if path["subscription"].casefold() != identity.subscription_id.casefold():
            raise rules.Refusal(
                404, "SubscriptionNotFound", f"The subscription '{path['subscription']}' could not be found."
            )
        if path.get("group", identity.resource_group).casefold() != identity.resource_group.casefold():
            raise rules.Refusal(404, "ResourceGroupNotFound", f"Resource group '{path['group']}' could not be found.")
        if path.get("workspace", identity.workspace_name).casefold() != identity.workspace_name.casefold():
            resource = f"Microsoft.MachineLearningServices/workspaces/{path['workspace']}"
            message = f"The Resource '{resource}' under resource group '{path['group']}' was not found."
            raise rules.Refusal(404, "ResourceNotFound", message)
        if "api-version" not in request.query:
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise rules.Refusal(400, "MissingApiVersionParameter", message)

    def _injected(self, fault: ArmFault, request: web.Request) -> web.Response:
        """The answer of a fault that keeps the request from being handled. Raises Refusal."""
        if fault.kind == "throttle":
            raise rules.throttled(fault.retry_after)
        if fault.kind == "conflict":
            endpoint = request.match_info.get("endpoint", "of this workspace")
            deploying = "deployment" in request.match_info  # seen on Azure even right after `Succeeded`
            raise rules.conflict_deployment(endpoint, State.UPDATING) if deploying else rules.conflict(endpoint)
        if fault.status == 502:
            return web.Response(status=502, text=GATEWAY_PAGE, content_type="text/html")
        raise rules.Refusal(fault.status, fault.code, fault.message)

    def _mark(self, request: web.Request, response: web.StreamResponse, request_id: str) -> None:
        kind = kind_of(request.method)
        response.headers[f"x-ms-ratelimit-remaining-subscription-{kind}"] = str(self._buckets.left(kind))
        response.headers["x-ms-request-id"] = request_id
        response.headers["x-ms-correlation-request-id"] = request_id
        response.headers["x-content-type-options"] = "nosniff"


class Arm:
    """The handlers of the control plane."""

    def __init__(self, *, cloud: Cloud, gate: Gate) -> None:
        self._cloud = cloud
        self._gate = gate
        self._started = cloud.now()

    def routes(self) -> list[web.RouteDef]:
        """All addresses under `/subscriptions/`."""
        table: Sequence[tuple[Method, str, Handler]] = (
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
            ("GET", ASSETS, self.list_containers),
            ("GET", ASSETS + "/{name}", self.get_container),
            ("GET", ASSETS + "/{name}/versions", self.list_versions),
            ("GET", ASSETS + "/{name}/versions/{version}", self.get_version),
        )
        routes = [self._route(method, path, handler, _target(method)) for method, path, handler in table]
        routes.append(self._route("GET", OPERATION + "/mfeOperationsStatus/{operation}", self.status, "polls"))
        routes.append(self._route("GET", OPERATION + "/mfeOperationResults/{operation}", self.results, "polls"))
        routes.extend(self._refused_routes())
        return routes

    def _refused_routes(self) -> list[web.RouteDef]:
        """What Azure can and this sandbox can't, each refused with a sentence."""
        everything = SUBSCRIPTION + "/{rest:.*}"
        return [
            self._route("PUT", ASSETS + "/{rest:.*}", _refusing(NO_UPLOADS), "writes"),
            self._route("POST", ASSETS + "/{rest:.*}", _refusing(NO_UPLOADS), "writes"),
            web.route("*", WORKSPACE + "/datastores{rest:.*}", self._gate.guarded(_refusing(NO_UPLOADS), "reads")),
            web.route("*", everything, self._gate.guarded(_nothing_there, "reads")),
        ]

    def _route(self, method: Method, path: str, handler: Handler, target: ArmTarget) -> web.RouteDef:
        return web.route(method, path, self._gate.guarded(handler, target))

    # The workspace and its endpoints

    def workspace(self, call: Call) -> Answer:  # noqa: ARG002
        """The workspace."""
        return Answer(body=bodies.workspace_body(self._cloud.identity, created=self._started))

    def list_endpoints(self, call: Call) -> Answer:
        """All endpoints, without their deployments."""
        return _page([self._endpoint(each) for each in self._cloud.endpoints()], call)

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
        return _page([bodies.deployment_body(self._cloud.identity, each) for each in found], call)

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

    # Assets

    def list_containers(self, call: Call) -> Answer:
        """The registered names of a kind."""
        found = self._cloud.assets.all(_kind(call))
        names = dict.fromkeys(asset.name for asset in found)
        groups = [[asset for asset in found if asset.name == name] for name in names]
        return _page([bodies.container_body(self._cloud.identity, group) for group in groups], call)

    def get_container(self, call: Call) -> Answer:
        """One registered name."""
        found = self._cloud.assets.all(_kind(call), call.path["name"])
        if not found:
            raise rules.not_found(f"{call.path['kind']} {call.path['name']}")
        return Answer(body=bodies.container_body(self._cloud.identity, found))

    def list_versions(self, call: Call) -> Answer:
        """The versions of one name, newest first; `$top` gives the first ones only."""
        found = self._cloud.assets.all(_kind(call), call.path["name"])[::-1]
        top = call.query.get("$top", "")
        found = found[: int(top)] if top.isdecimal() else found
        return _page([bodies.asset_body(self._cloud.identity, asset) for asset in found], call)

    def get_version(self, call: Call) -> Answer:
        """One version of one name."""
        asset = self._cloud.assets.one(_kind(call), call.path["name"], call.path["version"])
        return Answer(body=bodies.asset_body(self._cloud.identity, asset))

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


def _target(method: Method) -> ArmTarget:
    return "reads" if method in ("GET", "POST") else "writes"


def _kind(call: Call) -> AssetKind:
    kind: AssetKind = call.path["kind"]  # type: ignore[assignment]  # the address allows no other
    return kind


def _page(items: list[dict[str, Any]], call: Call) -> Answer:
    """One page of a list, with the address of the next."""
    given = call.query.get("$skip", "0")
    start = int(given) if given.isdecimal() else 0
    body: dict[str, Any] = {"value": items[start : start + PAGE]}
    if start + PAGE < len(items):
        body["nextLink"] = f"{call.address}?{urlencode({**call.query, '$skip': start + PAGE})}"
    return Answer(body=body)


def _refusing(sentence: str) -> Handler:
    def refuse(call: Call) -> Answer:  # noqa: ARG001
        raise rules.not_offered(sentence, status=501)

    return refuse


def _nothing_there(call: Call) -> Answer:
    address = call.address.partition("/subscriptions")[2]
    raise rules.not_offered(f"The sandbox does not answer this request: /subscriptions{address}.", status=501)


async def _json(request: web.Request) -> Mapping[str, Any]:
    if not request.can_read_body:
        return {}
    try:
        body = await request.json()
    except json.JSONDecodeError as error:
        raise rules.invalid(f"The body is not JSON: {error}.") from None
    return body if isinstance(body, dict) else {}


async def _withhold(request: web.Request) -> None:
    """Keep the answer back until the client has given up."""
    for _ in range(WITHHELD_SECONDS * 5):
        if request.transport is None or request.transport.is_closing():
            return
        await asyncio.sleep(0.2)
    if request.transport is not None:
        request.transport.close()
