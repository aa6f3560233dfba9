"""The scoring front end: takes predictions for every endpoint, splits them by weight, and writes one row for each.

The rule: what a client, the logs and the metrics see of a request is the same request. It is answered as Azure's front
end answers: 401 and 404 before routing, 408 when the model takes too long, 424 when the model did not answer 200 (its
own status in the headers), 429 when too many are pending; and 0 in the row when the client left.
Durations are real milliseconds; the time of a row is the sandbox's clock at its end.
"""

import asyncio
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from aiohttp import web

from rollout.sandbox.background import in_background
from rollout.sandbox.channel import Reply
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import Effect
from rollout.sandbox.mirror import Mirror
from rollout.sandbox.processes import BusyError, ServerGoneError, Supervisor
from rollout.sandbox.resources import Routed
from rollout.sandbox.rules import Refusal
from rollout.sandbox.telemetry import Lateness, TrafficLog, TrafficRow

SERVER = "azureml-frontdoor"
MAX_USER_AGENT = 70  # characters of the row
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_INJECTED = b"An unexpected error occurred in scoring script. Check the logs for more info."


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one request ended. `status` 0: its connection was broken off before the answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    reason: str = ""  # of the row; empty: the status in words
    model_status: int = 0
    model_reason: str = ""
    run_ms: float | None = None
    run_failed: bool = False
    answered_ms: float = 0.0  # until the model's first byte; 0: it never came


class Serving:
    """Router and supervisor of the model processes; lives as long as the app."""

    def __init__(self, *, cloud: Cloud, log: TrafficLog, clock: Callable[[], datetime], chance: random.Random) -> None:
        self.supervisor = Supervisor(cloud=cloud, clock=clock)
        self.mirror = Mirror(self.supervisor)
        self._cloud = cloud
        self._log = log
        self._clock = clock
        self._chance = chance

    def routes(self) -> list[web.RouteDef]:
        """The scoring address of every endpoint."""
        return [web.post("/endpoints/{endpoint}/score", self.score)]

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        """For `app.cleanup_ctx`: model processes run while the app does."""
        async with in_background(self.supervisor.run()):
            yield
            await self.mirror.end()

    async def score(self, request: web.Request) -> web.Response:
        """One prediction."""
        visit = _Visit(request, started=asyncio.get_running_loop().time(), request_id=self._new_id())
        try:
            await visit.read()
            routed = self._cloud.route(
                request.match_info["endpoint"],
                authorization=request.headers.get("Authorization"),
                pinned=request.headers.get("azureml-model-deployment"),
            )
        except Refusal as refusal:
            outcome = Outcome(status=refusal.status, body=refusal.message.encode(), reason=refusal.code)
            self._write_refused(visit, outcome)
            return _response(visit, outcome, deployment="")
        except asyncio.CancelledError:
            self._write_refused(visit, Outcome(status=0, reason="client disconnected"))
            raise
        copy = self._cloud.mirrored(routed.endpoint) if "azureml-model-deployment" not in request.headers else None
        if copy is not None:
            self.mirror.send(copy, visit.body)
        return await self._predict(visit, routed)

    async def _predict(self, visit: "_Visit", routed: Routed) -> web.Response:
        try:
            outcome = await self._outcome(visit, routed)
        except asyncio.CancelledError:
            self._write(visit, routed, Outcome(status=0, reason="client disconnected"))
            raise
        transport = visit.request.transport
        if outcome.status == 0 and transport is not None:
            transport.abort()
        elif transport is None or transport.is_closing():
            outcome = Outcome(status=0, reason="client disconnected", model_status=outcome.model_status)
        self._write(visit, routed, outcome)
        return _response(visit, outcome, deployment=routed.deployment)

    async def _outcome(self, visit: "_Visit", routed: Routed) -> Outcome:
        """Ask the model, let the injected faults have their way, and keep to the deployment's time-out."""
        found = self.supervisor.server(routed.endpoint, routed.deployment, routed.generation)
        deadline = visit.started + routed.request_timeout_ms / 1000
        if found is None:
            return _model_failed(503, "model_not_ready")
        process, started_at = found
        try:
            async with asyncio.timeout_at(deadline):
                reply = await process.score(visit.body, capacity=routed.max_concurrent * routed.instances)
                effect = self._cloud.faults.effect(
                    routed.endpoint,
                    routed.deployment,
                    now=self._clock(),
                    started_at=started_at,
                    duration_ms=visit.elapsed_ms(),
                    chance=self._chance,
                )
                if effect.extra_ms > 0:
                    await asyncio.sleep(effect.extra_ms / 1000)
        except TimeoutError:
            return Outcome(status=408, body=b"upstream request timeout", reason="response_timeout")
        except BusyError:
            return Outcome(status=429, model_reason="too_many_pending_request", reason="too_many_pending_request")
        except ServerGoneError:
            return _model_failed(502, "model_error")
        return _answered(reply, effect, answered_ms=visit.elapsed_ms())

    def _write(self, visit: "_Visit", routed: Routed, outcome: Outcome) -> None:
        row = visit.row(outcome, now=self._clock(), routed=routed)
        self._append(row, logged=routed.logged)

    def _write_refused(self, visit: "_Visit", outcome: Outcome) -> None:
        """A request that was never routed; to an endpoint that is not there it leaves no trace."""
        try:
            found = self._cloud.endpoint(visit.request.match_info["endpoint"])
        except Refusal:
            return
        arm_id = self._cloud.identity.endpoint_id(found.name)
        row = visit.row(outcome, now=self._clock(), endpoint=(found.name, arm_id))
        self._append(row, logged=found.spec.compute is None)

    def _append(self, row: TrafficRow, *, logged: bool) -> None:
        """Count a request; those of Kubernetes endpoints reach neither the logs nor the metrics."""
        if not logged:
            self._log.append(row, late=Lateness(logs=None, metrics=None))
            return
        faults, now, name = self._cloud.faults, row.time_generated, row.endpoint_name
        late = Lateness(
            logs=None if faults.lost("logs", name, now=now) else faults.delayed("logs", name, now=now),
            metrics=None if faults.lost("metrics", name, now=now) else faults.delayed("metrics", name, now=now),
        )
        self._log.append(row, late=late)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))


class _Visit:
    """One request on its way: what the row will tell about it."""

    def __init__(self, request: web.Request, *, started: float, request_id: str) -> None:
        self.request = request
        self.started = started  # seconds of the event loop
        self.request_id = request_id
        self.body = b""
        self.read_ms = 0.0

    async def read(self) -> None:
        """Read the body."""
        self.body = await self.request.read()
        self.read_ms = self.elapsed_ms()

    def elapsed_ms(self) -> float:
        """Real milliseconds since the request began."""
        return (asyncio.get_running_loop().time() - self.started) * 1000

    @property
    def client_id(self) -> str:
        """The caller's own id of the request, if it is well-formed."""
        given = self.request.headers.get("x-ms-client-request-id", "")
        return given if _CLIENT_REQUEST_ID.fullmatch(given) else ""

    def row(
        self, outcome: Outcome, *, now: datetime, routed: Routed | None = None, endpoint: tuple[str, str] = ("", "")
    ) -> TrafficRow:
        """The row of the traffic log. `endpoint`: name and ARM id where the request was not routed."""
        name, arm_id = (routed.endpoint, routed.endpoint_id) if routed else endpoint
        version = self.request.version
        return TrafficRow(
            time_generated=now,
            resource_id=arm_id.lower(),
            endpoint_name=name,
            deployment_name=routed.deployment if routed else "",
            response_code=outcome.status,
            response_code_reason=outcome.reason or _phrase(outcome.status),
            model_status_code=outcome.model_status,
            model_status_reason=outcome.model_reason,
            total_duration_ms=round(self.elapsed_ms()),
            request_duration_ms=round(self.read_ms),
            response_duration_ms=round(outcome.answered_ms),
            request_payload_size=len(self.body),
            response_payload_size=len(outcome.body),
            method=self.request.method,
            path=f"/{self.request.path.rpartition('/')[2]}",
            protocol=f"HTTP/{version.major}.{version.minor}",
            user_agent=self.request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
            auth_type=routed.auth_type if routed else "",
            x_request_id=self.request_id,
            xms_client_request_id=self.client_id,
        )


def _answered(reply: Reply, effect: Effect, *, answered_ms: float) -> Outcome:
    """What the client gets for the model's reply and the faults' effect on it."""
    if effect.drop:
        return Outcome(status=0, reason="connection reset")
    if effect.status == 424 or (effect.status is None and reply.status != HTTPStatus.OK):
        own = effect.status is None
        status = reply.status if own else (effect.model_status or 500)
        body, kind = (reply.body, reply.content_type) if own else (_INJECTED, "text/plain")
        return _model_failed(status, "model_error", body=body, content_type=kind, answered_ms=answered_ms)
    if effect.status is not None:
        return Outcome(status=effect.status, body=_phrase(effect.status).encode())
    return Outcome(
        status=200,
        body=reply.body,
        content_type=reply.content_type,
        model_status=200,
        model_reason="OK",
        run_ms=reply.run_ms,
        run_failed=reply.failed,
        answered_ms=answered_ms,
    )


def _model_failed(
    status: int, reason: str, *, body: bytes = b"", content_type: str = "text/plain", answered_ms: float = 0.0
) -> Outcome:
    """424: the model container answered something else than 200, or nothing."""
    return Outcome(
        status=424,
        body=body,
        content_type=content_type,
        reason="Failed Dependency",
        model_status=status,
        model_reason=reason,
        run_failed=True,
        answered_ms=answered_ms,
    )


def _response(visit: _Visit, outcome: Outcome, *, deployment: str) -> web.Response:
    headers = {"Server": SERVER, "X-Request-ID": visit.request_id, "Content-Type": outcome.content_type}
    if deployment:
        headers["azureml-model-deployment"] = deployment
    if visit.client_id:
        headers["x-ms-client-request-id"] = visit.client_id
    if outcome.status == 200:
        headers["x-ms-run-fn-exec-ms"] = f"{outcome.run_ms or 0.0:.2f}"
        headers["x-ms-run-function-failed"] = str(outcome.run_failed)
    if outcome.status == 424:
        headers["ms-azureml-model-error-statuscode"] = str(outcome.model_status)
    if outcome.model_reason and outcome.status != 200:
        headers["ms-azureml-model-error-reason"] = outcome.model_reason
    return web.Response(status=outcome.status or 499, body=outcome.body, headers=headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
