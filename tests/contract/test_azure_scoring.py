"""The port `Scoring` over HTTPS, against a running sandbox: every kind of answer, and what opens an endpoint."""

import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from rollout.analysis.cells import Cell, merge
from rollout.azure.connection import Azure
from rollout.azure.keys import Secret
from rollout.azure.scoring import USER_AGENT, AzureScoring, class_of
from rollout.collector.own import without
from rollout.errors import RefusedError
from rollout.ports import Answer, Telemetry
from rollout.prober.pairs import Pair
from rollout.sandbox import seed
from rollout.sandbox.faults import ArmFault, ServingFault
from rollout.sandbox.resources import Actor
from rollout.world import EndpointState, Split
from tests.support.azure import connected
from tests.support.local_azure import HandClock
from tests.support.sandbox import LocalSandbox, local_sandbox

NAME = "restaurant-recommender"
BODY = (seed.SAMPLES / "requests" / "sample.json").read_bytes()
PATIENCE = timedelta(seconds=4)
PERSON = Actor(id="ana@example.com", kind="User")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("scoring"), speed=120, seed=True) as local:
        for mode in ("AMLToken", "AADToken"):
            body = seed.endpoint_body(seed._read(seed.SAMPLES / "endpoint.yml"), local.sandbox.cloud.identity)
            body["properties"]["authMode"] = mode
            local.call(partial(_create, mode, body))
        yield local


def _create(mode: str, body: dict[str, Any], cloud: Any) -> None:
    cloud.put_endpoint(mode.lower(), body, actor=PERSON)


@pytest.fixture(scope="module")
def azure(sandbox: LocalSandbox) -> Iterator[Azure]:
    with connected(sandbox) as connection:
        _until(lambda: _send(connection).status == 200)
        yield connection


@pytest.fixture(autouse=True)
def _no_faults(sandbox: LocalSandbox) -> Iterator[None]:
    yield
    sandbox.call(lambda cloud: cloud.faults.clear())


def _until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if condition():
            return
        pause.wait(0.05)
    raise TimeoutError("it did not come true")


def _endpoint(azure: Azure, name: str = NAME) -> EndpointState:
    state = azure.endpoints["sandbox"].get(name)
    assert state is not None
    return state


def _send(azure: Azure, *, deployment: str | None = "blue", endpoint: str = NAME, **more: Any) -> Answer:
    given: dict[str, Any] = {"timeout": PATIENCE, **more}
    return azure.scoring["sandbox"].send(_endpoint(azure, endpoint), BODY, deployment=deployment, **given)


def _inject(local: LocalSandbox, kind: Any, **more: Any) -> None:
    local.call(
        lambda cloud: cloud.faults.add(
            ServingFault(kind=kind, since=cloud.now(), endpoint=NAME, deployment="blue", **more)
        )
    )


def test_a_good_answer(azure: Azure, sandbox: LocalSandbox) -> None:
    answer = _send(azure)

    assert (answer.status, answer.cls, answer.deployment, answer.why) == (200, "ok", "blue", "")
    assert 0 < answer.milliseconds < 4000
    assert answer.size == len(answer.body) > 0
    assert json.loads(answer.body)
    (row,) = [row for row in _rows(sandbox) if row.xms_client_request_id][-1:]
    assert row.user_agent == USER_AGENT
    assert USER_AGENT.startswith("azureml-rollout")
    assert row.deployment_name == "blue"


def _rows(local: LocalSandbox) -> list[Any]:
    return sorted(local.call(lambda _: list(local.sandbox.log.logs)), key=lambda row: row.time_generated)


def test_what_we_send_is_not_in_the_log_cells_and_comes_out_of_the_metrics(azure: Azure, sandbox: LocalSandbox) -> None:
    """Beside ours one request of somebody else: the log's cells hold that one, and so does what is left of the metrics."""
    endpoint, minute = _endpoint(azure), _minute(sandbox)
    where = endpoint.resource_id.lower()
    _until(lambda: _minute(sandbox) > minute)  # what other tests sent lies before
    start = _minute(sandbox)
    for _ in range(3):
        assert _send(azure).status == 200
    _score_as_a_diner(sandbox, endpoint)
    rows = [row for row in _rows(sandbox) if row.time_generated.timestamp() // 60 >= start]
    ours = Counter(int(row.time_generated.timestamp() // 60) for row in rows if row.user_agent == USER_AGENT)
    assert sum(ours.values()) == 3

    def read(telemetry: Telemetry) -> Mapping[int, Cell]:
        reading = telemetry.read([where], start=start, end=_minute(sandbox) + 1)
        return reading.cells.get(where, {}).get("blue", {})

    (logs,), (metrics,) = azure.logs.values(), azure.metrics.values()
    _until(lambda: merge(read(metrics).values()).total == 4)
    _until(lambda: merge(read(logs).values()).total > 0)
    probes = {at: Cell(histograms={"ok": {0: count}}) for at, count in ours.items()}
    live = without({"blue": read(metrics)}, {"blue": probes})["blue"]
    assert merge(read(logs).values()).total == merge(live.values()).total == 1


def _minute(local: LocalSandbox) -> int:
    return int(local.call(lambda cloud: cloud.now()).timestamp() // 60)


def _score_as_a_diner(local: LocalSandbox, endpoint: EndpointState) -> None:
    key = local.call(lambda cloud: cloud.endpoint(NAME).primary_key)
    headers = {"Authorization": f"Bearer {key}", "User-Agent": "diner/1.0"}
    with httpx.Client(verify=ssl.create_default_context(cafile=local.ca_file), trust_env=False) as client:
        assert client.post(endpoint.scoring_uri or "", content=BODY, headers=headers).status_code == 200


def test_without_a_name_the_split_says_who_answers(azure: Azure) -> None:
    assert _send(azure, deployment=None).deployment == "blue"


@pytest.mark.parametrize(
    ("kind", "more", "status", "cls", "words"),
    [
        ("errors", {}, 424, "model_5xx", "424, the model answered 500"),
        ("client_errors", {}, 424, "model_4xx", "424, the model answered 400"),
        ("disconnects", {}, None, "5xx", "the connection was broken off"),
        ("latency", {"extra_ms": 60_000.0}, None, "timeout", "no answer within 0.3 s"),
    ],
)
def test_bad_answers_are_answers(
    azure: Azure, sandbox: LocalSandbox, kind: str, more: dict[str, float], status: int | None, cls: str, words: str
) -> None:
    _inject(sandbox, kind, **more)

    answer = _send(azure, timeout=timedelta(milliseconds=300 if kind == "latency" else 4000))

    assert (answer.status, answer.cls) == (status, cls)
    assert answer.why.startswith(words)
    if kind == "latency":
        assert 300 <= answer.milliseconds < 4000


def test_a_deployment_that_is_not_there_is_told_in_azures_words(azure: Azure) -> None:
    answer = _send(azure, deployment="purple")

    assert (answer.status, answer.cls) == (404, "4xx")
    assert "purple" in answer.why


def test_nobody_listens(azure: Azure) -> None:
    nowhere = replace(_endpoint(azure), scoring_uri="https://127.0.0.1:9/score")

    answer = azure.scoring["sandbox"].send(nowhere, BODY, deployment="blue", timeout=PATIENCE)

    assert (answer.status, answer.cls) == (None, "5xx")
    assert answer.why.startswith("no connection")


def test_a_connection_that_does_not_come_about_is_no_time_out_of_a_model(azure: Azure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it listens, and never greets
        nowhere = replace(_endpoint(azure), scoring_uri=f"https://127.0.0.1:{silent.getsockname()[1]}/score")
        patience = timedelta(milliseconds=300)
        answer = azure.scoring["sandbox"].send(nowhere, BODY, deployment="blue", timeout=patience)

    assert (answer.status, answer.cls, answer.why) == (None, "5xx", "no connection within 0.3 s")
    assert not Pair(baseline=answer, candidate=answer).counts


def test_a_new_key_is_asked_for_when_the_old_one_is_refused(azure: Azure, sandbox: LocalSandbox) -> None:
    assert _send(azure).status == 200

    def rotate(cloud: Any) -> None:
        endpoint = cloud.endpoint(NAME)
        cloud._endpoints[NAME.casefold()] = replace(endpoint, primary_key="k" * 40, secondary_key="l" * 40)

    sandbox.call(rotate)
    seen: list[Answer] = []
    _until(lambda: (seen.append(_send(azure)), seen[-1].status == 200)[1])

    assert {answer.status for answer in seen} <= {401, 200}
    assert "k" * 10 not in repr(seen)


@pytest.mark.parametrize("mode", ["amltoken", "aadtoken"])
def test_tokens_open_endpoints_that_want_them(azure: Azure, sandbox: LocalSandbox, mode: str) -> None:
    _until(lambda: bool(_endpoint(azure, mode).scoring_uri))

    answer = _send(azure, endpoint=mode)  # let in, and told that nobody is there

    assert (answer.status, answer.cls) == (404, "4xx")
    assert "no deployment" in answer.why


def test_keys_that_may_not_be_read_are_a_persons_business(sandbox: LocalSandbox) -> None:
    with connected(sandbox) as fresh:
        endpoint = _endpoint(fresh)
        sandbox.call(
            lambda cloud: cloud.faults.add(ArmFault(kind="error", since=cloud.now(), on="all", status=403, count=1))
        )
        with pytest.raises(RefusedError, match="listKeys") as caught:
            fresh.scoring["sandbox"].send(endpoint, BODY, deployment="blue", timeout=PATIENCE)
        with pytest.raises(RefusedError):  # Azure is not asked again at once
            fresh.scoring["sandbox"].send(endpoint, BODY, deployment="blue", timeout=PATIENCE)
    assert "Bearer" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "model", "cls"),
    [
        (200, "200", "ok"),
        (302, "", "ok"),
        (401, "", "4xx"),
        (404, "", "4xx"),
        (408, "", "timeout"),
        (424, "400", "model_4xx"),
        (424, "499", "model_4xx"),
        (424, "500", "model_5xx"),
        (424, "", "model_5xx"),
        (424, "0", "model_5xx"),
        (429, "", "throttled"),
        (500, "", "5xx"),
        (503, "", "5xx"),
    ],
)
def test_answers_are_classified_as_the_log_does(status: int, model: str, cls: str) -> None:
    assert class_of(status, model) == cls


ECHO = b'{"error": {"code": "Bad", "message": "cannot parse the name Anna Meier"}}'
SERVED = {"azureml-model-deployment": "blue"}


def _answering(status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    """What a service that answers so is told to have said."""
    with httpx.Client(
        transport=_Service(httpx.Response(status, headers=headers, stream=httpx.ByteStream(body)))
    ) as client:
        scoring = AzureScoring(client, _Keys(), clock=HandClock())  # type: ignore[arg-type]
        state = EndpointState(
            name=NAME,
            resource_id="/x",
            state="Succeeded",
            traffic=Split.of({"blue": 100}),
            scoring_uri="https://x/score",
        )
        return scoring.send(state, BODY, deployment="blue", timeout=PATIENCE)


class _Service(httpx.BaseTransport):
    """Whose only answer this is."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._response


class _Keys:
    """One key, for ever."""

    secret = Secret(value="k", asked_at=HandClock().now())

    def get(self, *_: object, **__: object) -> Secret:
        return self.secret


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (200, SERVED, ""),
        (424, SERVED | {"ms-azureml-model-error-statuscode": "400"}, "424, the model answered 400"),
        (
            424,
            {"ms-azureml-model-error-statuscode": "503", "ms-azureml-model-error-reason": "model_not_ready"},
            "424, the model answered 503: model not ready",
        ),
        (424, {"ms-azureml-model-error-reason": "Anna Meier"}, "424, the model did not answer"),
        (424, {"ms-azureml-model-error-statuscode": "Anna Meier"}, "424, the model did not answer"),
        (400, {}, "400: Bad Request"),
        (404, SERVED, "404: Not Found"),
        (429, SERVED | {"ms-azureml-model-error-reason": "too_many_pending_request"}, "429: too many pending request"),
        (500, {}, "500: Internal Server Error"),
        (502, SERVED, "502: Bad Gateway"),
        (599, {}, "599"),
    ],
)
def test_what_a_model_says_is_never_told(status: int, headers: Mapping[str, str], told: str) -> None:
    """It may repeat its input, and what is told ends up in logs, history and alerts."""
    for body in (ECHO, b"cannot parse the name Anna Meier"):
        assert _answering(status, body, headers).why == told


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, b'{"error": {"code": "AuthError", "message": "Bad\\nkey."}, "x": 1}', "401: AuthError: Bad key."),
        (404, b'{"error": {"message": "No such deployment"}}', "404: No such deployment"),
        (404, b"No such\n deployment", "404: No such deployment"),
        (404, b'{"error": "Gone"}', '404: {"error": "Gone"}'),
        (429, b"", "429: Too Many Requests"),
        (429, b'{"error": {}}', "429: Too Many Requests"),
        (403, b"\xff" + b"x" * 400, "403: \ufffd" + "x" * 299),
        (404, b'{"error":' * 100_000, "404: " + ('{"error":' * 100)[:300]),
    ],
)
def test_the_front_ends_own_words_are_told(status: int, body: bytes, told: str) -> None:
    assert _answering(status, body, {}).why == told
