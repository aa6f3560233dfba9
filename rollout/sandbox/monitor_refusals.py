"""What Azure Monitor answers when it does not answer well: refusals, throttling, and what was injected.

The rule: status, headers and body are those of recorded or documented answers.
"""

from typing import Any

from aiohttp import web

from rollout.sandbox.faults import MonitorFault
from rollout.sandbox.kql_errors import QueryError
from rollout.sandbox.metric_catalog import MetricsError
from rollout.sandbox.monitor_bodies import ArgumentError, error_json, halved, metrics_error_json, query_error_json
from rollout.sandbox.query_limits import ThrottledError
from rollout.sandbox.rules import Refusal

GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_HEADERS = {"Via": "1.1 draft-oms-sandbox", "X-Content-Type-Options": "nosniff"}

#: What a log query may be refused with.
LOGS_ERRORS = (Refusal, ArgumentError, QueryError, ThrottledError, TimeoutError, LookupError)
#: What a metrics request may be refused with.
METRICS_ERRORS = (Refusal, ArgumentError, MetricsError)


def logs_response(body: dict[str, Any], status: int = 200, *, age: float | None = None) -> web.Response:
    """An answer of Log Analytics; `age` (seconds) of one that was kept."""
    headers = _HEADERS if age is None else {**_HEADERS, "Age": str(int(age))}
    return web.json_response(body, status=status, headers=headers)


def metrics_response(body: dict[str, Any], status: int = 200) -> web.Response:
    """An answer of the metrics batch."""
    return web.json_response(body, status=status)


def logs_refusal(error: Exception) -> web.Response:
    """The answer to a log query that was refused with one of `LOGS_ERRORS`."""
    match error:
        case ThrottledError():
            response = throttled(float(error.retry_after))
        case Refusal():
            body = error_json("AuthorizationRequiredError", "Valid authentication was not provided")
            response = logs_response(body, error.status)
        case ArgumentError():
            response = logs_response(error_json("BadArgumentError", str(error)), 400)
        case QueryError():
            response = logs_response(query_error_json(error), 400)
        case TimeoutError():
            response = timed_out()
        case _:
            response = logs_response(error_json("PathNotFoundError", "The requested path does not exist"), 404)
    return response


def metrics_refusal(error: Exception) -> web.Response:
    """The answer to a metrics request that was refused with one of `METRICS_ERRORS`."""
    match error:
        case MetricsError():
            return metrics_response(metrics_error_json(error), error.status)
        case Refusal():
            return metrics_response({"error": {"code": error.code, "message": error.message}}, error.status)
        case _:
            return metrics_response({"error": {"code": "BadRequest", "message": str(error)}}, 400)


def throttled(retry_after: float | None, *, metrics: bool = False) -> web.Response:
    """429; `retry_after` None: it does not say when to come back."""
    response = (
        metrics_response({"error": {"code": "TooManyRequests", "message": "Too many requests"}}, 429)
        if metrics
        else logs_response(error_json("ThrottledError", "Your request has been throttled"), 429)
    )
    if retry_after is not None:
        response.headers["Retry-After"] = f"{retry_after:g}"
    return response


def timed_out() -> web.Response:
    """504: the query took longer than the caller permitted."""
    inner = {"code": "GatewayTimeout", "message": "Unable to unzip response"}
    return logs_response(error_json("GatewayTimeout", "Gateway timeout", inner), 504)


def no_subscription_role(subscription: str) -> MetricsError:
    """The batch wants Monitoring Reader on the whole subscription, else 401 (not 403)."""
    return MetricsError(
        "The client does not have authorization to perform action 'microsoft.insights/metrics/read' over scope "
        f"'/subscriptions/{subscription}': Monitoring Reader is needed on the subscription.",
        status=401,
        code="AuthorizationFailed",
    )


def injected(fault: MonitorFault | None, *, metrics: bool = False) -> web.Response | None:
    """The answer of a fault that needs no look at the request; None of one that spoils a good answer."""
    response: web.Response | None = None
    match fault.kind if fault is not None else None:
        case "throttle" if fault is not None:
            response = throttled(fault.retry_after, metrics=metrics)
        case "overload":
            said = {"code": "Throttled", "message": "The metrics backend is currently throttling requests"}
            response = metrics_response({"error": said}, 529)
        case "error" if fault is not None and fault.status == 502:
            response = web.Response(status=502, text=GATEWAY_PAGE, content_type="text/html")
        case "error" if fault is not None and fault.status == 401 and metrics:
            response = metrics_refusal(no_subscription_role("(injected)"))
        case "error" if fault is not None:
            body = error_json("InternalServerError", "Internal server error (injected)")
            response = logs_response(body, fault.status)
        case "timeout":
            response = timed_out()
        case "empty":
            response = web.Response(status=204)
    return response


def spoil_metrics(body: dict[str, Any]) -> None:
    """Take half of the series away, and say that something went wrong."""
    for resource in body["values"]:
        for metric in resource["value"]:
            metric["timeseries"] = halved(metric["timeseries"])
            metric["errorCode"] = "InternalError"
            metric["errorMessage"] = "Part of the data could not be read. (injected)"


async def broken_off(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Half of the body, then the connection closes."""
    data = whole.body if isinstance(whole.body, bytes) else b"{}"
    response = web.StreamResponse(status=whole.status, headers={"Content-Type": "application/json; charset=utf-8"})
    response.content_length = len(data)
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
