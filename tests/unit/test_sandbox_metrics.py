"""Platform metrics from the same rows: grain, dimensions, nulls, truncation and refusals as metrics:getBatch has them."""

from datetime import timedelta
from typing import Any

import pytest

from rollout.sandbox.metric_catalog import Condition, MetricsError, parse_filter
from rollout.sandbox.metrics import MetricStore, parse_request
from rollout.sandbox.telemetry import TrafficRow
from tests.support.traffic import ENDPOINT, START, arrived, row

NAMESPACE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
MINUTE = timedelta(minutes=1)


def store(*rows: TrafficRow, **options: Any) -> MetricStore:
    made = MetricStore(region="westeurope", **options)
    made.append(arrived(rows))
    return made


def ask(made: MetricStore, names: str, *, resource: str = ENDPOINT, minutes: int = 3, **query: str) -> dict[str, Any]:
    asked = {
        "metricnamespace": NAMESPACE,
        "metricnames": names,
        "aggregation": "average",
        "starttime": START.isoformat(),
        "endtime": (START + minutes * MINUTE).isoformat(),
        **query,
    }
    return made.answer(parse_request(asked, now=START), [resource])


def series(body: dict[str, Any], metric: int = 0) -> dict[tuple[str, ...], list[float | None]]:
    """Values of the dimensions, and the points."""
    found = body["values"][0]["value"][metric]["timeseries"]
    return {
        tuple(each["value"] for each in one["metadatavalues"]): [point.get("average") for point in one["data"]]
        for one in found
    }


BY_STATUS = "deployment eq '*' and statusCode eq '*' and modelStatusCode eq '*'"


def test_requests_by_deployment_and_status_are_counted_each_minute() -> None:
    rows = [row(0), row(0.5), row(1), row(0, deployment_name="green", response_code=424, model_status_code=500)]
    assert series(ask(store(*rows), "RequestsPerMinute", filter=BY_STATUS)) == {
        ("blue", "200", "200"): [2, 1, None],
        ("green", "424", "500"): [1, None, None],
    }


def test_an_idle_minute_is_null_with_only_its_time_or_zero_if_so_wished() -> None:
    body = ask(store(row(0)), "RequestsPerMinute", filter=BY_STATUS)
    assert body["values"][0]["value"][0]["timeseries"][0]["data"][1] == {"timeStamp": "2026-11-22T10:01:00Z"}
    zeros = ask(store(row(0), idle_is_zero=True), "RequestsPerMinute", filter=BY_STATUS)
    assert series(zeros) == {("blue", "200", "200"): [1, 0, 0]}


def test_no_requests_no_series() -> None:
    assert series(ask(store(), "RequestsPerMinute", filter=BY_STATUS)) == {}
    assert series(ask(store(row()), "NetworkBytes")) == {}


def test_a_series_not_split_by_all_dimensions_is_a_mean_and_no_sum() -> None:
    rows = [*(row(0) for _ in range(9)), row(0, response_code=500)]
    assert series(ask(store(*rows), "RequestsPerMinute", filter="deployment eq '*'")) == {("blue",): [5, None, None]}


def test_a_coarser_grain_is_the_mean_of_its_minutes() -> None:
    rows = [row(0), row(0), row(0), row(1), row(7)]
    body = ask(store(*rows), "RequestsPerMinute", minutes=10, interval="PT5M", filter=BY_STATUS)
    assert series(body) == {("blue", "200", "200"): [2, 1]}


def test_points_are_aligned_to_the_grain_and_not_to_the_start() -> None:
    start = (START + timedelta(minutes=3, seconds=20)).isoformat()
    body = ask(store(row(4)), "RequestsPerMinute", minutes=10, interval="PT5M", starttime=start, filter=BY_STATUS)
    stamps = [point["timeStamp"] for point in body["values"][0]["value"][0]["timeseries"][0]["data"]]
    assert stamps == ["2026-11-22T10:00:00Z", "2026-11-22T10:05:00Z"]
    assert body["values"][0]["starttime"] == "2026-11-22T10:03:20Z"


def test_latencies_are_means_and_percentiles_of_the_minute() -> None:
    rows = [row(0, total_duration_ms=ms) for ms in range(1, 102)]
    body = ask(store(*rows), "RequestLatency,RequestLatency_P50,RequestLatency_P95", filter="deployment eq 'blue'")
    assert [series(body, index)[("blue",)][0] for index in range(3)] == [51, 51, 96]


def test_names_come_back_lower_cased_and_ids_as_they_were_asked_for() -> None:
    body = ask(store(row()), "requestsperminute", filter=BY_STATUS)["values"][0]
    assert body["namespace"] == NAMESPACE.lower()
    assert (body["resourceid"], body["resourceregion"], body["interval"]) == (ENDPOINT, "westeurope", "PT1M")
    metric = body["value"][0]
    assert metric["id"] == f"{ENDPOINT}/providers/Microsoft.Insights/metrics/RequestsPerMinute"
    assert metric["name"]["value"] == "RequestsPerMinute"
    assert metric["errorCode"] == "Success"
    names = [each["name"]["value"] for each in metric["timeseries"][0]["metadatavalues"]]
    assert names == ["deployment", "statuscode", "modelstatuscode"]


def test_requests_that_were_never_routed_have_an_empty_deployment() -> None:
    body = ask(store(row(deployment_name="", response_code=401)), "RequestsPerMinute", filter="deployment eq '*'")
    assert list(series(body)) == [("__Empty",)]
    assert series(ask(store(row(deployment_name="")), "RequestLatency", filter="deployment eq '*'")) == {}


def test_ten_series_are_shown_unless_more_are_asked_for() -> None:
    rows = [row(0, response_code=200 + index) for index in range(15) for _ in range(index + 1)]
    assert len(series(ask(store(*rows), "RequestsPerMinute", filter=BY_STATUS))) == 10
    few = ask(store(*rows), "RequestsPerMinute", filter=BY_STATUS, top="2", orderby="average desc")
    assert list(series(few).values()) == [[15, None, None], [14, None, None]]
    assert len(series(ask(store(*rows), "RequestsPerMinute", filter=BY_STATUS, top="1000"))) == 15


def test_a_deployment_has_metrics_of_its_own() -> None:
    rows = [row(0), row(0, deployment_name="green", response_code=500)]
    body = ask(
        store(*rows),
        "RequestsPerMinute",
        resource=f"{ENDPOINT}/deployments/green",
        metricnamespace=f"{NAMESPACE}/deployments",
        filter="envoy_response_code eq '*'",
    )
    assert series(body) == {("500",): [1, None, None]}


def test_old_minutes_are_forgotten() -> None:
    made = store(row(0))
    made.append(arrived([row(24 * 60)]))
    assert series(ask(made, "RequestsPerMinute", filter=BY_STATUS)) == {}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"interval": "PT10M"}, "Invalid time grain duration: PT10M, supported ones are: 00:01:00,00:05:00"),
        ({"metricnames": "Requests"}, "metric: Requests, Valid metrics: RequestLatency,"),
        ({"metricnamespace": "Microsoft.Storage/storageAccounts"}, "Cannot find metric namespace"),
        ({"aggregation": "total"}, "does not support requested aggregation type: total, supported ones are: average"),
        ({"filter": "statusCodeClass eq '*'"}, "does not support requested dimension combination: statuscodeclass"),
        ({"filter": "deployment == 'blue'"}, "Invalid filter"),
        ({"filter": "deployment eq 'a' or statusCode eq '200'"}, "within one dimension"),
        ({"filter": "deployment eq 'a' and"}, "Invalid filter"),
        ({"filter": "deployment eq '*'", "top": "many"}, "top"),
        ({"starttime": "2026-11-22T11:00:00Z"}, "not before"),
        ({"endtime": "soon"}, "Invalid time"),
        ({"rollupby": "deployment"}, "rollupby"),
    ],
)
def test_what_is_not_offered_is_refused(query: dict[str, str], words: str) -> None:
    given = {"metricnames": "RequestLatency"} | query
    with pytest.raises(MetricsError, match=words) as caught:
        ask(store(row()), given.pop("metricnames"), **given)
    assert (caught.value.status, caught.value.code) == (400, "BadRequest")


def test_a_batch_has_one_to_fifty_resources() -> None:
    request = parse_request({"metricnamespace": NAMESPACE, "metricnames": "RequestLatency"}, now=START)
    with pytest.raises(MetricsError, match="between 1 and 50"):
        store().answer(request, [])
    with pytest.raises(MetricsError, match="between 1 and 50"):
        store().answer(request, [ENDPOINT] * 51)


def test_filters_join_values_with_or_and_dimensions_with_and() -> None:
    text = "ApiName eq 'A' or ApiName eq 'B' and (Authentication eq '*') and Code ne '200' and Name sw 'it''s'"
    assert parse_filter(text) == [
        Condition(dimension="apiname", equal=("A", "B")),
        Condition(dimension="authentication", equal=("*",)),
        Condition(dimension="code", different=("200",)),
        Condition(dimension="name", starts=("it's",)),
    ]


@pytest.mark.parametrize(
    ("text", "accepted", "refused"),
    [
        ("d eq '*'", ["blue", ""], []),
        ("d eq 'Blue'", ["blue", "BLUE"], ["green"]),
        ("d ne 'blue'", ["green"], ["blue"]),
        ("d sw 'bl'", ["blue", "black"], ["green"]),
    ],
)
def test_conditions_ignore_case(text: str, accepted: list[str], refused: list[str]) -> None:
    (condition,) = parse_filter(text)
    assert all(condition.accepts(value) for value in accepted)
    assert not any(condition.accepts(value) for value in refused)
