"""Cells from platform metrics: the real azure-monitor-querymetrics against the sandbox and against scripted answers."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.monitor.querymetrics import MetricsClient

from rollout.analysis.cells import UNTIMED, bucket
from rollout.azure.metrics import AzureMetrics, classify
from rollout.errors import RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.sandbox.faults import MonitorFault
from rollout.sandbox.telemetry import Delays, TrafficRow
from tests.support.azure import ENDPOINT, AnyToken, calls, connected, recorded
from tests.support.sandbox import LocalSandbox, local_sandbox
from tests.support.scripted import Answer, Scripted, scripted

MINUTE = 29_900_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    with scripted(tmp_path_factory.mktemp("scripted")) as play:
        yield play


@pytest.fixture
def metrics(server: Scripted) -> Iterator[Callable[..., AzureMetrics]]:
    server.script.clear()
    server.asked.clear()
    clients: list[MetricsClient] = []

    def make(pauses: list[float] | None = None, **more: Any) -> AzureMetrics:
        client = MetricsClient(server.address, AnyToken(), connection_verify=server.ca_file)
        clients.append(client)
        return AzureMetrics(client, place="subscription s1 in westeurope", calls=calls(pauses), **more)

    yield make
    for client in clients:
        client.close()


def series(deployment: str, status: str, model: str, *points: float | None) -> dict[str, Any]:
    labels = {"deployment": deployment, "statuscode": status, "modelstatuscode": model}
    moments = [datetime.fromtimestamp((MINUTE + at) * 60, UTC) for at in range(len(points))]
    return {
        "metadatavalues": [{"name": {"value": name}, "value": value} for name, value in labels.items()],
        "data": [
            {"timeStamp": f"{at:%Y-%m-%dT%H:%M:%SZ}"} | ({} if value is None else {"average": value})
            for at, value in zip(moments, points, strict=True)
        ],
    }


def batch(*all_series: dict[str, Any], endpoint: str = ENDPOINT, metric: str = "RequestsPerMinute") -> dict[str, Any]:
    return {
        "starttime": "2026-11-06T21:20:00Z",
        "endtime": "2026-11-06T21:25:00Z",
        "interval": "PT1M",
        "namespace": "microsoft.machinelearningservices/workspaces/onlineendpoints",
        "resourceregion": "westeurope",
        "resourceid": endpoint,
        "value": [
            {
                "id": f"{endpoint}/providers/Microsoft.Insights/metrics/{metric}",
                "type": "Microsoft.Insights/metrics",
                "name": {"value": metric, "localizedValue": metric},
                "unit": "Count",
                "errorCode": "Success",
                "timeseries": list(all_series),
            }
        ],
    }


def values(*batches: dict[str, Any]) -> Answer:
    return Answer(body={"values": list(batches)})


# --- how it is asked ---------------------------------------------------------------------------------------------------


def test_one_call_for_fifty_endpoints(metrics: Callable[..., AzureMetrics], server: Scripted) -> None:
    server.answers(values(), values())
    metrics().read([f"{ENDPOINT}{n}" for n in range(60)], start=MINUTE, end=MINUTE + 5)
    assert sorted(len(asked.body["resourceids"]) for asked in server.asked) == [10, 50]
    url = urlsplit(server.asked[0].path)
    assert url.path == "/subscriptions/s1/metrics:getBatch"
    asked = {name: value[0] for name, value in parse_qs(url.query).items()}
    assert asked["starttime"] == "2026-11-06T21:20:00.000Z"
    assert asked["endtime"] == "2026-11-06T21:25:00.000Z"
    assert asked["interval"] == "PT1M"
    assert asked["metricnamespace"] == "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
    assert asked["metricnames"] == "RequestsPerMinute"
    assert asked["aggregation"] == "Average"
    assert asked["top"] == "1000"
    assert asked["filter"] == "deployment eq '*' and statusCode eq '*' and modelStatusCode eq '*'"


def test_no_endpoints_need_no_call(metrics: Callable[..., AzureMetrics], server: Scripted) -> None:
    assert metrics().read([], start=MINUTE, end=MINUTE + 1).cells == {}
    assert server.asked == []


# --- what comes back ---------------------------------------------------------------------------------------------------


def test_series_add_up_to_counts_by_class_without_durations(
    metrics: Callable[..., AzureMetrics], server: Scripted
) -> None:
    server.answers(
        values(
            batch(
                series("blue", "200", "200", 90, 80),
                series("blue", "204", "204", 10, None),
                series("Blue", "424", "500", 3, None),
                series("green", "424", "400", 2),
                series("green", "503", "__Empty", 1),
            )
        )
    )
    reading = metrics().read([ENDPOINT], start=MINUTE, end=MINUTE + 2)
    cells = reading.cells[ENDPOINT]
    assert cells["blue"][MINUTE].histograms == {"ok": {UNTIMED: 100}, "model_5xx": {UNTIMED: 3}}
    assert cells["blue"][MINUTE + 1].histograms == {"ok": {UNTIMED: 80}}
    assert cells["green"][MINUTE].histograms == {"model_4xx": {UNTIMED: 2}, "5xx": {UNTIMED: 1}}
    assert reading.arrived is None


def test_a_minute_without_a_value_or_with_zero_is_missing(
    metrics: Callable[..., AzureMetrics], server: Scripted
) -> None:
    server.answers(values(batch(series("blue", "200", "200", 5, None, 0.0, 7))))
    reading = metrics().read([ENDPOINT], start=MINUTE, end=MINUTE + 4)
    assert set(reading.cells[ENDPOINT]["blue"]) == {MINUTE, MINUTE + 3}


def test_only_the_minutes_asked_for_count(metrics: Callable[..., AzureMetrics], server: Scripted) -> None:
    server.answers(values(batch(series("blue", "200", "200", 5, 6, 7))))
    reading = metrics().read([ENDPOINT], start=MINUTE + 1, end=MINUTE + 2)
    assert set(reading.cells[ENDPOINT]["blue"]) == {MINUTE + 1}


def test_requests_that_no_deployment_saw_are_left_out(metrics: Callable[..., AzureMetrics], server: Scripted) -> None:
    server.answers(values(batch(series("__Empty", "401", "__Empty", 5), series("blue", "100", "__Empty", 5))))
    assert metrics().read([ENDPOINT], start=MINUTE, end=MINUTE + 1).cells == {}


def test_the_endpoint_is_told_by_the_metric_not_by_the_order(
    metrics: Callable[..., AzureMetrics], server: Scripted
) -> None:
    other = ENDPOINT.replace("menu", "Bill")
    one = batch(series("blue", "200", "200", 1), endpoint=other)
    two = batch(series("blue", "200", "200", 2))
    server.answers(values(two, one))
    reading = metrics().read([other, ENDPOINT], start=MINUTE, end=MINUTE + 1)
    assert reading.cells[other.casefold()]["blue"][MINUTE].count() == 1
    assert reading.cells[ENDPOINT]["blue"][MINUTE].count() == 2


def test_an_idle_endpoint_has_no_series(metrics: Callable[..., AzureMetrics], server: Scripted) -> None:
    server.answers(values(batch()))
    assert metrics().read([ENDPOINT], start=MINUTE, end=MINUTE + 1).cells == {}


def test_as_many_series_as_the_limit_may_be_cut_off(metrics: Callable[..., AzureMetrics], server: Scripted) -> None:
    server.answers(values(batch(series("blue", "200", "200", 1), series("green", "200", "200", 1))))
    with pytest.raises(UnavailableError, match="may be cut off"):
        metrics(max_series=2).read([ENDPOINT], start=MINUTE, end=MINUTE + 1)


def quantiles(metric: str, deployment: str, *points: float | None) -> dict[str, Any]:
    told = series(deployment, "200", "200", *points)
    told["metadatavalues"] = [{"name": {"value": "deployment"}, "value": deployment}]
    return batch(told, metric=metric)["value"][0]  # type: ignore[no-any-return]


def test_reported_latencies_are_asked_for_only_where_they_are_wanted(
    metrics: Callable[..., AzureMetrics], server: Scripted
) -> None:
    other = ENDPOINT.replace("menu", "bill")
    latencies = batch()
    latencies["value"] = [
        quantiles("requestlatency_p50", "Blue", 20.0, None, 22.0),
        quantiles("RequestLatency_P95", "blue", 80.0, 0.0, 81.0),
        quantiles("RequestLatency_P99", "__Empty", 99.0),
    ]
    server.answers(values(batch(series("blue", "200", "200", 90, 80))), values(latencies))
    reading = metrics().read([ENDPOINT, other], start=MINUTE, end=MINUTE + 3, measured=[ENDPOINT.upper()])
    assert {at: cell.histograms for at, cell in reading.cells[ENDPOINT]["blue"].items()} == {
        MINUTE: {"ok": {UNTIMED: 90}, "reported_p50": {bucket(20): 1}, "reported_p95": {bucket(80): 1}},
        MINUTE + 1: {"ok": {UNTIMED: 80}},  # neither null nor zero is a latency; and minute 2 answered nobody
    }
    assert [len(asked.body["resourceids"]) for asked in server.asked] == [2, 1]
    asked = {name: value[0] for name, value in parse_qs(urlsplit(server.asked[1].path).query).items()}
    assert asked["metricnames"] == "RequestLatency_P50,RequestLatency_P95,RequestLatency_P99"
    assert asked["filter"] == "deployment eq '*'"
    assert asked["top"] == "1000"


FAULTS: list[tuple[str, list[Answer], type[RolloutError], str]] = [
    ("400", [recorded("metrics_400_bad_grain")], RefusedError, "400 BadRequest: Invalid time grain duration: PT10M"),
    (
        "401",
        [Answer(status=401, body={"error": {"code": "AuthorizationFailed", "message": "no"}})],
        RefusedError,
        "subscription",
    ),
    ("429", [Answer(status=429, body={"error": {"code": "TooManyRequests"}})], ThrottledError, "429"),
    (
        "529",
        [Answer(status=529, body={"error": {"code": "Throttled", "message": "slow"}})],
        ThrottledError,
        "529 Throttled",
    ),
    ("500", [Answer(status=500, body={"error": {"code": "InternalServerError"}})] * 2, UnavailableError, "500"),
    ("html", [Answer(status=502, raw=b"<html>")] * 2, UnavailableError, "502"),
    ("cut", [Answer(raw=b'{"values": [')], UnavailableError, "200"),
    ("other shape", [Answer(body={"values": [{"value": 3}]})], UnavailableError, "could not be read"),
]


@pytest.mark.parametrize(
    ("answers", "error", "words"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_what_is_no_answer_says_who_must_act(
    metrics: Callable[..., AzureMetrics], server: Scripted, answers: list[Answer], error: type[RolloutError], words: str
) -> None:
    server.answers(*answers)
    with pytest.raises(error) as caught:
        metrics().read([ENDPOINT], start=MINUTE, end=MINUTE + 1)
    assert type(caught.value) is error
    assert words in caught.value.message
    assert len(server.asked) == len(answers)


def test_without_the_role_on_the_subscription_it_is_named(
    metrics: Callable[..., AzureMetrics], server: Scripted
) -> None:
    server.answers(Answer(status=401, body={"error": {"code": "AuthorizationFailed", "message": "no"}}))
    with pytest.raises(RefusedError, match="role Monitoring Reader on the subscription"):
        metrics().read([ENDPOINT], start=MINUTE, end=MINUTE + 1)


@pytest.mark.parametrize(
    ("status", "model", "cls"),
    [
        (200, 200, "ok"),
        (302, None, "ok"),
        (100, None, None),
        (401, None, "4xx"),
        (408, None, "timeout"),
        (424, 400, "model_4xx"),
        (424, 499, "model_4xx"),
        (424, 500, "model_5xx"),
        (424, None, "model_5xx"),
        (429, None, "throttled"),
        (503, None, "5xx"),
        (0, None, "gone"),
        (None, None, "gone"),
    ],
)
def test_classes(status: int | None, model: int | None, cls: str | None) -> None:
    assert classify(status, model) == cls


# --- with the sandbox ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("metrics"), speed=1.0, seed=True) as local:
        yield local


def test_the_sandbox_counts_as_its_log_does(sandbox: LocalSandbox) -> None:
    none = (timedelta(), timedelta())
    sandbox.sandbox.log.delays = Delays(logs=none, metrics=none)
    minute = int(sandbox.call(lambda cloud: cloud.now()).timestamp() // 60) - 4
    with connected(sandbox) as azure:
        state = azure.endpoints["sandbox"].get("restaurant-recommender")
        assert state is not None
        resource = state.resource_id
        rows = [_row(resource, minute, 200, 200)] * 7 + [_row(resource, minute + 1, 424, 500)] * 2
        sandbox.call(lambda _: [sandbox.sandbox.log.append(row) for row in rows])
        (metrics,) = azure.metrics.values()
        (logs,) = azure.logs.values()
        seen = metrics.read([resource], start=minute, end=minute + 2).cells[resource.casefold()]["blue"]
        logged = logs.read([resource], start=minute, end=minute + 2).cells[resource.casefold()]["blue"]
        assert {at: cell.histograms for at, cell in seen.items()} == {
            minute: {"ok": {UNTIMED: 7}},
            minute + 1: {"model_5xx": {UNTIMED: 2}},
        }
        assert {at: cell.count() for at, cell in seen.items()} == {at: cell.count() for at, cell in logged.items()}


def test_the_sandbox_reports_quantiles_to_those_who_ask(sandbox: LocalSandbox) -> None:
    none = (timedelta(), timedelta())
    sandbox.sandbox.log.delays = Delays(logs=none, metrics=none)
    minute = int(sandbox.call(lambda cloud: cloud.now()).timestamp() // 60) - 8
    with connected(sandbox) as azure:
        state = azure.endpoints["sandbox"].get("restaurant-recommender")
        assert state is not None
        sandbox.call(
            lambda _: [sandbox.sandbox.log.append(_row(state.resource_id, minute, 200, 200)) for _ in range(5)]
        )
        (metrics,) = azure.metrics.values()
        reading = metrics.read([state.resource_id], start=minute, end=minute + 1, measured=[state.resource_id])
    at_20_ms = {f"reported_p{rank}": {bucket(20): 1} for rank in (50, 95, 99)}
    assert reading.cells[state.resource_id.casefold()]["blue"][minute].histograms == {"ok": {UNTIMED: 5}, **at_20_ms}


@pytest.mark.parametrize(
    ("source", "kind", "error"),
    [
        ("logs", "partial", UnavailableError),
        ("logs", "throttle", ThrottledError),
        ("logs", "timeout", UnavailableError),
        ("logs", "truncated", UnavailableError),
        ("logs", "empty", None),
        ("metrics", "throttle", ThrottledError),
        ("metrics", "overload", ThrottledError),
        ("metrics", "timeout", UnavailableError),
        ("metrics", "truncated", UnavailableError),
        ("metrics", "empty", None),
    ],
)
def test_faults_of_the_sandbox(sandbox: LocalSandbox, source: Any, kind: Any, error: type[RolloutError] | None) -> None:
    now = sandbox.call(lambda cloud: cloud.now())
    minute = int(now.timestamp() // 60)
    resource = ENDPOINT.replace("/s1/", f"/{sandbox.values['subscription_id']}/")
    sandbox.call(lambda cloud: cloud.faults.add(MonitorFault(kind=kind, since=now, count=1, on=source)))
    with connected(sandbox) as azure:
        port = next(iter((azure.logs if source == "logs" else azure.metrics).values()))
        if error is None:
            assert port.read([resource], start=minute - 5, end=minute).cells == {}
        else:
            with pytest.raises(error):
                port.read([resource], start=minute - 5, end=minute)
    assert sandbox.call(lambda cloud: cloud.faults.active(now)) == {}


def _row(resource: str, minute: int, code: int, model: int) -> TrafficRow:
    return TrafficRow(
        time_generated=datetime.fromtimestamp(minute * 60 + 5, UTC),
        resource_id=resource.casefold(),
        endpoint_name="restaurant-recommender",
        deployment_name="blue",
        response_code=code,
        model_status_code=model,
        total_duration_ms=20,
    )
