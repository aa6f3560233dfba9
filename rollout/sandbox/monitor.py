"""Azure Monitor on loopback: queries of the log workspace, and the metrics batch.

The rule: both show the rows that have arrived by now, as Azure spells them. What is injected (throttling, partial
answers, time-outs) befalls a request before it is looked at. KQL runs on a thread of its own, so that predictions never
wait for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from aiohttp import web

from rollout.sandbox.background import in_background
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.kql import TABLE, Answer, Engine
from rollout.sandbox.metrics import MetricStore, parse_request
from rollout.sandbox.monitor_bodies import (
    ArgumentError,
    halved,
    parse_query,
    parse_timespan,
    parse_wait,
    partial_error,
    table_json,
)
from rollout.sandbox.monitor_refusals import (
    LOGS_ERRORS,
    METRICS_ERRORS,
    broken_off,
    injected,
    logs_refusal,
    logs_response,
    metrics_refusal,
    metrics_response,
    no_subscription_role,
    spoil_metrics,
)
from rollout.sandbox.query_limits import AnswerCache, Budget
from rollout.sandbox.resources import Identity
from rollout.sandbox.telemetry import TrafficLog
from rollout.sandbox.tokens import LOG_ANALYTICS, METRICS, Tokens

INGEST_EVERY = 1.0  # real seconds, also when nobody asks: what waits stays bounded
LONGEST_WAIT = 600.0  # seconds a query may take; 180 unless the caller says otherwise
DEFAULT_WAIT = 180.0


class Monitor:
    """Both faces, and what they read from."""

    def __init__(
        self,
        *,
        cloud: Cloud,
        log: TrafficLog,
        tokens: Tokens,
        clock: Callable[[], datetime],
        wall: Callable[[], float],
    ) -> None:
        """`wall` gives real seconds since 1970: lifetimes of tokens are real."""
        self.metrics = MetricStore(region=cloud.identity.region)
        self._cloud = cloud
        self._log = log
        self._tokens = tokens
        self._clock = clock
        self._wall = wall
        self._budget = Budget()
        self._cache = AnswerCache()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kql")
        self._engine = Engine(_constants(cloud.identity))

    def routes(self) -> list[web.RouteDef]:
        """Logs and metrics; every other address under `/v1` does not exist."""
        return [
            web.post("/v1/workspaces/{workspace}/query", self.query),
            web.post("/v1/{path:.*}", self.no_such_path),
            web.post("/subscriptions/{subscription}/metrics:getBatch", self.batch),
        ]

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        """For `app.cleanup_ctx`: rows are taken in while the app runs."""
        async with in_background(self._keep_ingesting()):
            yield
        self._engine.interrupt()
        self._thread.shutdown()

    # Logs

    async def query(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/workspaces/{id}/query`."""
        now = self._clock()
        try:
            caller = self._caller(request, LOG_ANALYTICS)
            self._check_workspace(request.match_info["workspace"])
            text, timespan = parse_query(await _json(request))
            async with self._budget.place(caller, now=now):
                return await self._answer_query(request, text, timespan, now=now)
        except LOGS_ERRORS as error:
            return logs_refusal(error)

    async def no_such_path(self, _: web.Request) -> web.Response:
        """404 of Log Analytics."""
        return logs_refusal(LookupError())

    async def _answer_query(
        self, request: web.Request, text: str, timespan: str | None, *, now: datetime
    ) -> web.StreamResponse:
        fault = self._cloud.faults.monitor("logs", now=now)
        refused = injected(fault)
        if refused is not None:
            return refused
        prefer = request.headers.get("Prefer", "")
        if fault is not None:
            body = await self._body(text, timespan, prefer, now=now)
            if fault.kind == "truncated":
                return await broken_off(request, logs_response(body))
            return logs_response(_halved(body))
        key = (text, timespan, prefer)
        kept = self._cache.get(key, now=now)
        if kept is not None and "no-cache" not in request.headers.get("Cache-Control", ""):
            return logs_response(kept.body, age=(now - kept.made).total_seconds())
        body = await self._body(text, timespan, prefer, now=now)
        self._cache.put(key, body, now=now)
        return logs_response(body)

    async def _body(self, text: str, timespan: str | None, prefer: str, *, now: datetime) -> dict[str, Any]:
        """Run the query on its thread, for as long as the caller permits."""
        loop = asyncio.get_running_loop()
        span = parse_timespan(timespan, now=now)
        started = loop.time()
        self._ingest()
        job = self._thread.submit(self._engine.query, text, span=span, now=now)
        try:
            async with asyncio.timeout(parse_wait(prefer, default=DEFAULT_WAIT, longest=LONGEST_WAIT)):
                answer = await asyncio.wrap_future(job)
        except (TimeoutError, asyncio.CancelledError):
            if job.running():  # else it never began, or another's query runs
                self._engine.interrupt()
            raise
        return _query_json(answer, prefer, seconds=loop.time() - started)

    # Metrics

    async def batch(self, request: web.Request) -> web.StreamResponse:
        """`POST /subscriptions/{id}/metrics:getBatch`."""
        now = self._clock()
        try:
            self._caller(request, METRICS)
            self._check_subscription(request.match_info["subscription"])
            fault = self._cloud.faults.monitor("metrics", now=now)
            refused = injected(fault, metrics=True)
            if refused is not None:
                return refused
            asked = parse_request(request.query, now=now)
            self._ingest()
            body = self.metrics.answer(asked, _resources(await _json(request)))
        except METRICS_ERRORS as error:
            return metrics_refusal(error)
        if fault is not None and fault.kind == "partial":
            spoil_metrics(body)
        if fault is not None and fault.kind == "truncated":
            return await broken_off(request, metrics_response(body))
        return metrics_response(body)

    # Rows

    def _ingest(self) -> None:
        """Take in what has arrived: the metrics at once, the logs on the engine's thread, before what it is asked next."""
        now = self._clock()
        self.metrics.append(self._log.metrics.arrived(now))
        rows = self._log.logs.arrived(now)
        if rows:
            self._thread.submit(self._engine.append, rows).add_done_callback(lambda ended: ended.result())

    async def _keep_ingesting(self) -> None:
        while True:
            self._ingest()
            await asyncio.sleep(INGEST_EVERY)

    def _check_workspace(self, given: str) -> None:
        if given.casefold() != self._cloud.identity.log_workspace.casefold():
            raise LookupError(given)

    def _check_subscription(self, given: str) -> None:
        if given.casefold() != self._cloud.identity.subscription_id.casefold():
            raise no_subscription_role(given)

    def _caller(self, request: web.Request, audiences: tuple[str, ...]) -> str:
        audiences = (self._cloud.identity.address, *audiences)
        claims = self._tokens.check(request.headers.get("Authorization"), audiences=audiences, now=self._wall())
        return claims.client_id


def _constants(identity: Identity) -> dict[str, str | float]:
    """Columns that are the same in every row of this workspace."""
    return {
        "TenantId": identity.log_workspace,
        "AzureMLWorkspaceId": identity.workspace_id,
        "AzureMLWorkspaceName": identity.workspace_name,
        "Location": identity.region,
        "OperationName": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action",
        "SourceSystem": "Azure",
        "Type": TABLE,
        "_SubscriptionId": identity.subscription_id,
        "_BilledSize": 1_000.0,
        "_IsBillable": "true",
    }


async def _json(request: web.Request) -> object:
    try:
        return await request.json()
    except ValueError as error:
        raise ArgumentError("Request is invalid: the body is not JSON") from error


def _resources(body: object) -> list[str]:
    resources = body.get("resourceids") if isinstance(body, dict) else None
    if not isinstance(resources, list) or not all(isinstance(item, str) for item in resources):
        raise ArgumentError("Request is invalid: 'resourceids' must be a list of resource ids")
    return resources


def _query_json(answer: Answer, prefer: str, *, seconds: float) -> dict[str, Any]:
    body: dict[str, Any] = {"tables": [table_json(answer)]}
    if "include-statistics=true" in prefer:
        body["statistics"] = {"query": {"executionTime": round(seconds, 7)}}
    if "include-render=true" in prefer:
        body["render"] = {}
    if answer.truncated:
        message = "Query result set has exceeded the internal record count limit 500000 (E_QUERY_RESULT_SET_TOO_LARGE)."
        body["error"] = partial_error(message, code="-2133196797")
    return body


def _halved(body: dict[str, Any]) -> dict[str, Any]:
    """A partial answer: half of the rows, and the error beside them."""
    table = body["tables"][0]
    spoilt = {**table, "rows": halved(table["rows"])}
    return {**body, "tables": [spoilt], "error": partial_error("Part of the shards did not answer. (injected)")}
