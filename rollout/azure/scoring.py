"""The port `Scoring`: one prediction, sent to a deployment by name or through the endpoint's split.

The rule: our own HTTP, never azure-ai-ml's `invoke()`, which remembers the deployment's name for every later call. An
answer is classified as the traffic log would be, and a connection is never used again, so that one which the front end had
closed meanwhile is not taken for a crash. The key never shows in errors or logs. Durations are real milliseconds, from
the moment the request leaves on an open connection.
"""

import json
import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx

from rollout.azure.cloud import Cloud
from rollout.azure.keys import EndpointKeys, Secret
from rollout.errors import UnavailableError
from rollout.ports import Answer, Clock
from rollout.world import EndpointState

#: How requests of ours are told from everybody else's in the traffic log (which keeps 70 characters).
USER_AGENT = "azureml-rollout-probe"
#: An answer is read up to here, in bytes: a model that sends more is judged by what it sent until then.
MAX_ANSWER = 8 * 1024 * 1024
MAX_CONNECTIONS = 200
_MODEL_STATUS, _MODEL_REASON = "ms-azureml-model-error-statuscode", "ms-azureml-model-error-reason"
_DEPLOYMENT = "azureml-model-deployment"
_UNAUTHORISED = 401
#: With these the front end answers by itself.
_FRONT_END = frozenset({401, 403, 404, 408, 409, 413, 429})
#: What of a failed answer is told: headers of the expected shape, and so many characters of the front end's words.
_STATUS, _WORD, MOST_TOLD = re.compile(r"[1-9]\d\d"), re.compile(r"[a-z_]{1,40}"), 300


def http_client(cloud: Cloud) -> httpx.Client:
    """The client for predictions of one cloud; no request is made yet."""
    context = ssl.create_default_context(cafile=cloud.ca_file)
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0)
    # A sandbox is on this machine: no proxy would find it.
    return httpx.Client(
        verify=context, limits=limits, trust_env=not cloud.is_sandbox, headers={"User-Agent": USER_AGENT}
    )


class AzureScoring:
    """Predictions of one workspace's endpoints (see `rollout.ports.Scoring`); safe to use from many threads."""

    def __init__(self, client: httpx.Client, keys: EndpointKeys, *, clock: Clock) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock

    def send(self, endpoint: EndpointState, body: bytes, *, deployment: str | None, timeout: timedelta) -> Answer:
        """One prediction; an answer that is no good is an answer. Raises what having no key raises."""
        if not endpoint.scoring_uri:
            raise UnavailableError(f"Azure shows no scoring address of endpoint {endpoint.name} yet.")
        secret = self._keys.get(endpoint.name, endpoint.auth_mode)
        answer = self._post(endpoint.scoring_uri, body, deployment, secret, timeout)
        if answer.status == _UNAUTHORISED:
            fresh = self._keys.get(endpoint.name, endpoint.auth_mode, instead_of=secret)
            if fresh is not secret:
                return self._post(endpoint.scoring_uri, body, deployment, fresh, timeout)
        return answer

    def _post(self, uri: str, body: bytes, deployment: str | None, secret: Secret, timeout: timedelta) -> Answer:
        exchange = _Exchange(self._clock, timeout.total_seconds())
        try:
            with self._client.stream(
                "POST",
                uri,
                content=body,
                headers=_headers(deployment, secret),
                timeout=timeout.total_seconds(),
                extensions={"trace": exchange.trace},
            ) as response:
                return exchange.answer(response)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):  # it never left: that says nothing about a deployment
            return exchange.none("5xx", f"no connection within {_seconds(timeout)}")
        except httpx.TimeoutException:
            return exchange.none("timeout", f"no answer within {_seconds(timeout)}")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            return exchange.none("5xx", _broken(error))


class _Exchange:
    """One request on its way, and how long it takes."""

    def __init__(self, clock: Clock, patience: float) -> None:
        self._clock = clock
        self._patience = patience
        self._second = clock.real_seconds(timedelta(seconds=1))
        self._began = clock.monotonic()

    def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """The connection stands and the request leaves: from here on it is the service's time."""
        if event == "http11.send_request_headers.started":
            self._began = self._clock.monotonic()

    def milliseconds(self) -> float:
        """Since the request left."""
        return (self._clock.monotonic() - self._began) * self._second * 1000

    def answer(self, response: httpx.Response) -> Answer:
        """Read it to its end. Raises TimeoutException where it comes too slowly."""
        parts: list[bytes] = []
        for part in response.iter_raw():
            parts.append(part)
            if self.milliseconds() > self._patience * 1000:
                raise httpx.ReadTimeout("the answer came too slowly")
            if sum(map(len, parts)) > MAX_ANSWER:
                break
        body = b"".join(parts)[:MAX_ANSWER]
        model = response.headers.get(_MODEL_STATUS, "")
        return Answer(
            status=response.status_code,
            cls=class_of(response.status_code, model),
            milliseconds=self.milliseconds(),
            size=len(body),
            deployment=response.headers.get(_DEPLOYMENT),
            body=body,
            why=_told(response, body),
        )

    def none(self, cls: str, why: str) -> Answer:
        """No answer came."""
        return Answer(status=None, cls=cls, milliseconds=self.milliseconds(), why=why)


def class_of(status: int, model_status: str = "") -> str:
    """The class of an answer (see `rollout.analysis.cells.CLASSES`); the same rules as for rows of the traffic log."""
    if status == 424:
        return "model_4xx" if model_status.isdigit() and 400 <= int(model_status) < 500 else "model_5xx"
    named = {408: "timeout", 429: "throttled"}.get(status)
    if named:
        return named
    if status >= 500:
        return "5xx"
    return "4xx" if status >= 400 else "ok"


def _headers(deployment: str | None, secret: Secret) -> dict[str, str]:
    named = {_DEPLOYMENT: deployment} if deployment else {}
    return {
        "Authorization": f"Bearer {secret.value}",
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "x-ms-client-request-id": str(uuid4()),
        **named,
    }


def _told(response: httpx.Response, body: bytes) -> str:
    """What was answered, in words that end up in logs, history and alerts; empty where it was good.

    A model may repeat its input in its answer: so only the front end's own words are told, not what a deployment said.
    """
    status = response.status_code
    if status < 400:
        return ""
    reason = response.headers.get(_MODEL_REASON, "")
    reason = reason.replace("_", " ") if _WORD.fullmatch(reason) else ""
    if status == 424:
        model = response.headers.get(_MODEL_STATUS, "")
        answered = f"the model answered {model}" if _STATUS.fullmatch(model) else "the model did not answer"
        return ": ".join(part for part in (f"424, {answered}", reason) if part)
    unserved = status in _FRONT_END and not {_DEPLOYMENT, _MODEL_STATUS} & response.headers.keys()
    text = (_azures_words(body) if unserved else "") or reason or _phrase(status)
    return ": ".join(part for part in (str(status), text) if part)


def _azures_words(body: bytes) -> str:
    """Of an answer that no deployment gave: the code and message of its JSON, or the plain text that it is."""
    try:
        error = json.loads(body)["error"]
        text = ": ".join(str(error[name]) for name in ("code", "message") if error.get(name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        text = body[:MOST_TOLD].decode("utf-8", "replace")
    return " ".join(text[:MOST_TOLD].split())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _broken(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return f"no connection ({error})"
    return "the connection was broken off"


def _seconds(timeout: timedelta) -> str:
    return f"{timeout.total_seconds():g} s"
