"""What every request to Azure Resource Manager passes before its handler, and the form of what handlers take and give.

The rule: authentication, scope, throttling and injected faults are met here, once; refusals become error bodies here.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode
from uuid import uuid4

from aiohttp import web

from rollout.sandbox import bodies, rules
from rollout.sandbox.activity import Event
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import ArmFault, ArmTarget
from rollout.sandbox.resources import Actor, State
from rollout.sandbox.throttle import Buckets, kind_of
from rollout.sandbox.tokens import Tokens

SUBSCRIPTION = "/subscriptions/{subscription}"
PROVIDER = "/providers/Microsoft.MachineLearningServices"
WORKSPACE = SUBSCRIPTION + "/{_:(?i:resourceGroups)}/{group}" + PROVIDER + "/workspaces/{workspace}"
PAGE = 100  # items in one answer of a list
WITHHELD_SECONDS = 300  # real time after which even a withheld answer's connection is closed
GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


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
        self._check_role(request, actor)
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
        if request.method in ("PUT", "PATCH", "DELETE"):
            action = action_of(request.method, request.path)
            self._cloud.activity.append(Event(at=self._cloud.now(), actor=actor, action=action, resource=request.path))
        if fault is not None:
            await _withhold(request)
        text = None if answer.status == 204 else json.dumps(answer.body)
        return web.Response(status=answer.status, text=text, headers=answer.headers, content_type="application/json")

    def _check_scope(self, request: web.Request) -> None:
        """Subscription, resource group and workspace must be ours, and an api-version must be given."""
        identity, path = self._cloud.identity, request.match_info
        if "subscription" not in path:
            return  # where a registry is: asked of no subscription
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

    def _check_role(self, request: web.Request, actor: Actor) -> None:
        """Who is only a Reader may send nothing but reads; some actions nobody may."""
        action = action_of(request.method, request.path)
        if not self._cloud.access.allows(actor.id, action, now=self._cloud.now()):
            raise rules.forbidden(actor.id, action=action, scope=request.path)

    def route(self, method: Method, path: str, handler: Handler) -> web.RouteDef:
        """A route to the handler; faults of reads befall GET and POST, those of writes the others."""
        return web.route(method, path, self.guarded(handler, "reads" if method in ("GET", "POST") else "writes"))

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


def page(items: list[dict[str, Any]], call: Call) -> Answer:
    """One page of a list, with the address of the next."""
    given = call.query.get("$skip", "0")
    start = int(given) if given.isdecimal() else 0
    body: dict[str, Any] = {"value": items[start : start + PAGE]}
    if start + PAGE < len(items):
        body["nextLink"] = f"{call.address}?{urlencode({**call.query, '$skip': start + PAGE})}"
    return Answer(body=body)


def refusing(sentence: str) -> Handler:
    def refuse(call: Call) -> Answer:  # noqa: ARG001
        raise rules.not_offered(sentence, status=501)

    return refuse


def action_of(method: str, path: str) -> str:
    """The action of a request, as Azure's roles name it: `…/onlineEndpoints/write`, `…/onlineEndpoints/listKeys/action`."""
    provider, _, rest = path.rpartition("/providers/")[2].partition("/")
    parts = rest.split("/")
    if method == "POST":  # the last part is what is done
        return "/".join([provider, *parts[:-1:2], parts[-1], "action"])
    verb = {"GET": "read", "HEAD": "read", "DELETE": "delete"}.get(method, "write")
    return "/".join([provider, *parts[::2], verb])


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
