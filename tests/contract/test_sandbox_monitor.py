"""The unmodified azure-monitor-query and azure-monitor-querymetrics against the sandbox, over HTTPS.

Rows are put into the traffic log as if they had been answered twenty minutes ago, so that they have arrived.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceResponseError,
)
from azure.monitor.query import LogsQueryClient, LogsQueryPartialResult, LogsQueryResult
from azure.monitor.querymetrics import MetricAggregationType, MetricsClient

from rollout.analysis.cells import bucket
from rollout.sandbox.faults import MonitorFault
from rollout.sandbox.kql import TABLE
from rollout.sandbox.telemetry import TrafficRow
from tests.support.sandbox import LocalSandbox, local_sandbox
from tests.support.traffic import cells_query, row

MINUTE = timedelta(minutes=1)
FRESH = {"Cache-Control": "no-cache"}
NAMESPACE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"


@dataclass(frozen=True, kw_only=True)
class Azure:
    """The sandbox, both clients, and a whole minute of its clock from which rows have arrived."""

    local: LocalSandbox
    logs: LogsQueryClient
    metrics: MetricsClient
    start: datetime
    endpoint: str

    def answered(self, *changes: dict[str, Any]) -> None:
        """Requests that were answered in the first minute."""
        self.append([row(time_generated=self.start, resource_id=self.endpoint.lower(), **each) for each in changes])

    def append(self, rows: list[TrafficRow]) -> None:
        """Rows of the traffic log, on the server's thread."""
        log = self.local.sandbox.log
        self.local.call(lambda _: [log.append(each) for each in rows])

    def inject(self, kind: str, **changes: Any) -> None:
        """A fault of the monitoring plane, once."""
        given = {"count": 1, **changes}
        self.local.call(
            lambda cloud: cloud.faults.add(MonitorFault(kind=kind, since=cloud.now() - MINUTE, **given))  # type: ignore[arg-type]
        )

    def ask(self, query: str, *, workspace: str | None = None, fresh: bool = True, **options: Any) -> Any:
        """A log query over the first twenty minutes, never retried."""
        span = (self.start, self.start + 20 * MINUTE)
        given = {"timespan": span, "headers": FRESH if fresh else {}, "retry_total": 0, **options}
        return self.logs.query_workspace(workspace or self.local.values["log_workspace"], query, **given)

    def batch(self, names: list[str], **options: Any) -> Any:
        """A metrics batch over the first three minutes, never retried."""
        span = (self.start, self.start + 3 * MINUTE)
        given: dict[str, Any] = {"granularity": MINUTE, "timespan": span, "max_results": 1000, "retry_total": 0}
        given["aggregations"] = [MetricAggregationType.AVERAGE]
        resources = options.pop("resources", [self.endpoint])
        return self.metrics.query_resources(
            resource_ids=resources, metric_namespace=NAMESPACE, metric_names=names, **(given | options)
        )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("sandbox"), speed=1.0) as started:
        yield started


@pytest.fixture
def azure(local: LocalSandbox, request: pytest.FixtureRequest) -> Iterator[Azure]:
    """Each test has an endpoint of its own name in the log; the endpoint itself need not be there."""
    endpoint, now = local.call(lambda cloud: (cloud.identity.endpoint_id(request.node.name), cloud.now()))
    credential, ca_file = local.credential(), local.ca_file
    with (
        LogsQueryClient(credential, endpoint=local.address, connection_verify=ca_file) as logs,
        MetricsClient(local.address, credential, connection_verify=ca_file) as metrics,
    ):
        start = (now - 20 * MINUTE).replace(second=0, microsecond=0)
        yield Azure(local=local, logs=logs, metrics=metrics, start=start, endpoint=endpoint)
    local.call(lambda cloud: cloud.faults.clear())


def refused(call: Callable[[], Any]) -> HttpResponseError:
    with pytest.raises(HttpResponseError) as caught:
        call()
    return caught.value


def cells(azure: Azure, result: Any) -> dict[tuple[str, str], tuple[int, list[list[int]]]]:
    """Count and histogram by deployment and class; all of them of the first minute of this endpoint."""
    (table,) = result.tables
    assert table.columns == ["rid", "deployment", "minute", "cls", "n", "h", "ingested"]
    minute = int(azure.start.timestamp()) // 60
    assert all((each["rid"], each["minute"]) == (azure.endpoint.lower(), minute) for each in table.rows)
    return {(each["deployment"], each["cls"]): (each["n"], json.loads(each["h"])) for each in table.rows}


def query(azure: Azure) -> str:
    return cells_query(azure.start, azure.start + 20 * MINUTE, azure.endpoint)


# Logs


def test_the_query_for_cells_runs(azure: Azure) -> None:
    slow = {"deployment_name": "green", "response_code": 424, "model_status_code": 500, "total_duration_ms": 900}
    azure.answered({}, {}, slow)
    result = azure.ask(query(azure))
    assert isinstance(result, LogsQueryResult)
    assert cells(azure, result) == {
        ("blue", "ok"): (2, [[bucket(12), 2]]),
        ("green", "model_5xx"): (1, [[bucket(900), 1]]),
    }


def test_rows_that_have_not_arrived_are_not_shown(azure: Azure) -> None:
    now = azure.local.call(lambda cloud: cloud.now())
    azure.append([row(time_generated=now, resource_id=azure.endpoint.lower())])
    text = f"{TABLE} | where _ResourceId == '{azure.endpoint.lower()}' | count"
    assert azure.ask(text, timespan=None).tables[0].rows[0][0] == 0


def test_datetimes_and_statistics_come_back_typed(azure: Azure) -> None:
    azure.answered({"x_request_id": "abc"})
    result = azure.ask(
        f"{TABLE} | where XRequestId == 'abc' | project TimeGenerated, TotalDurationMs", include_statistics=True
    )
    assert list(result.tables[0].rows[0]) == [azure.start, 12]
    assert result.statistics["query"]["executionTime"] > 0


def test_answers_are_repeated_for_two_minutes_unless_asked_not_to(azure: Azure) -> None:
    azure.answered({})
    first = cells(azure, azure.ask(query(azure)))
    azure.answered({"response_code": 500})
    assert cells(azure, azure.ask(query(azure), fresh=False)) == first
    assert len(cells(azure, azure.ask(query(azure)))) == 2


def test_what_it_cannot_run_is_a_semantic_error(azure: Azure) -> None:
    error = refused(lambda: azure.ask("AppInsights | where TimeGenerated > ago(12h)"))
    assert (error.status_code, error.error.code) == (400, "BadArgumentError")
    assert "'where' operator: Failed to resolve table or column expression named 'AppInsights'" in str(error)
    assert "SEM0100" in str(error.model.as_dict() if hasattr(error.model, "as_dict") else error.response.text())


def test_other_refusals(azure: Azure) -> None:
    assert refused(lambda: azure.ask("print 1", workspace="elsewhere")).status_code == 404
    assert refused(lambda: azure.ask("print 1", additional_workspaces=["other"])).status_code == 400
    wrong = LogsQueryClient(
        azure.local.credential(),
        endpoint=azure.local.address,
        audience="https://management.azure.com",
        connection_verify=azure.local.ca_file,
    )
    workspace = azure.local.values["log_workspace"]
    with wrong:
        error = refused(lambda: wrong.query_workspace(workspace, "print 1", timespan=None, retry_total=0))
    assert error.status_code == 401


def test_too_many_queries_are_throttled_with_retry_after(tmp_path_factory: pytest.TempPathFactory) -> None:
    with local_sandbox(tmp_path_factory.mktemp("busy"), speed=1.0) as local:
        client = LogsQueryClient(local.credential(), endpoint=local.address, connection_verify=local.ca_file)
        workspace = local.values["log_workspace"]
        with client:
            for _ in range(200):
                client.query_workspace(workspace, "print 1", timespan=None, retry_total=0)
            error = refused(lambda: client.query_workspace(workspace, "print 1", timespan=None, retry_total=0))
    assert (error.status_code, error.response.headers["Retry-After"]) == (429, "30")


def test_a_query_that_takes_longer_than_permitted_is_504_and_stopped(azure: Azure) -> None:
    many = "range {0} from 1 to 300000 step 1 | extend k = 1"
    endless = f"{many.format('x')} | join kind=inner ({many.format('y')}) on k | summarize max(x % 7)"
    error = refused(lambda: azure.ask(endless, server_timeout=1))
    assert (error.status_code, error.error.code) == (504, "GatewayTimeout")
    assert azure.ask("print 1").tables[0].rows[0][0] == 1


def test_a_partial_answer_is_told_as_such(azure: Azure) -> None:
    azure.answered(*({"deployment_name": name} for name in ("blue", "green")))
    azure.inject("partial", on="logs")
    result = azure.ask(query(azure))
    assert isinstance(result, LogsQueryPartialResult)
    assert (result.partial_error.code, len(result.partial_data[0].rows)) == ("PartialError", 1)
    assert isinstance(azure.ask(query(azure)), LogsQueryResult)


@pytest.mark.parametrize(
    ("kind", "changes", "status", "retry_after"),
    [
        ("throttle", {"retry_after": 7.0}, 429, "7"),
        ("throttle", {}, 429, None),
        ("overload", {}, 529, None),
        ("timeout", {}, 504, None),
        ("error", {"status": 503}, 503, None),
    ],
)
def test_injected_refusals(
    azure: Azure, kind: str, changes: dict[str, Any], status: int, retry_after: str | None
) -> None:
    for source, call in (("logs", lambda: azure.ask("print 1")), ("metrics", lambda: azure.batch(["RequestLatency"]))):
        azure.inject(kind, on=source, **changes)
        error = refused(call)
        assert (error.status_code, error.response.headers.get("Retry-After")) == (status, retry_after)


def test_answers_that_are_no_json(azure: Azure) -> None:
    azure.inject("error", status=502)
    with pytest.raises(json.JSONDecodeError):
        azure.ask("print 1")
    azure.inject("empty")
    with pytest.raises(json.JSONDecodeError):
        azure.ask("print 1")
    azure.inject("truncated")
    with pytest.raises((HttpResponseError, ServiceResponseError)):
        azure.ask("print 1")


# Metrics


def test_requests_by_deployment_and_status(azure: Azure) -> None:
    azure.answered({}, {}, {"deployment_name": "green", "response_code": 424, "model_status_code": 500})
    split = "deployment eq '*' and statusCode eq '*' and modelStatusCode eq '*'"
    (result,) = azure.batch(["RequestsPerMinute"], filter=split)
    (metric,) = result.metrics
    assert metric.id == f"{azure.endpoint}/providers/Microsoft.Insights/metrics/RequestsPerMinute"
    found = {
        tuple(each.metadata_values[name] for name in ("deployment", "statuscode", "modelstatuscode")): [
            point.average for point in each.data
        ]
        for each in metric.timeseries
    }
    assert found == {("blue", "200", "200"): [2, None, None], ("green", "424", "500"): [1, None, None]}
    assert metric.timeseries[0].data[0].timestamp == azure.start


def test_latency_of_two_endpoints_in_one_batch(azure: Azure) -> None:
    azure.answered({"total_duration_ms": 10}, {"total_duration_ms": 30})
    other = f"{azure.endpoint}-idle"
    names = ["RequestLatency", "RequestLatency_P95"]
    busy, idle = azure.batch(names, resources=[azure.endpoint, other], filter="deployment eq '*'")
    assert [metric.timeseries[0].data[0].average for metric in busy.metrics] == [20, 29]
    assert [metric.timeseries for metric in idle.metrics] == [[], []]
    assert idle.metrics[0].id.startswith(other)


def test_refusals_of_the_batch(azure: Azure) -> None:
    grain = refused(lambda: azure.batch(["RequestLatency"], granularity=10 * MINUTE))
    assert (grain.status_code, "Invalid time grain duration: PT10M" in str(grain)) == (400, True)
    combination = refused(lambda: azure.batch(["RequestLatency"], filter="statusCodeClass eq '*'"))
    assert (combination.status_code, combination.error.code) == (400, "BadRequest")
    assert "does not support requested dimension combination" in str(combination)


def test_without_the_role_on_the_subscription_the_batch_is_401(azure: Azure) -> None:
    with pytest.raises(ClientAuthenticationError) as caught:
        azure.batch(["RequestLatency"], resources=["/subscriptions/other/resourceGroups/r/providers/x/y/z"])
    assert caught.value.status_code == 401
    azure.inject("error", on="metrics", status=401)
    with pytest.raises(ClientAuthenticationError):
        azure.batch(["RequestLatency"])


def test_a_partial_batch_has_an_error_code(azure: Azure) -> None:
    azure.answered({}, {"deployment_name": "green"})
    azure.inject("partial", on="metrics")
    bodies: list[dict[str, Any]] = []

    def keep(_response: object, body: dict[str, Any], _headers: object) -> dict[str, Any]:
        bodies.append(body)
        return body

    azure.batch(["RequestsPerMinute"], filter="deployment eq '*'", cls=keep)
    (metric,) = bodies[0]["values"][0]["value"]
    assert (metric["errorCode"], len(metric["timeseries"])) == ("InternalError", 1)


def test_addresses_that_are_not_there(azure: Azure) -> None:
    error = refused(lambda: azure.logs.query_resource(azure.endpoint, "print 1", timespan=None, retry_total=0))
    assert error.status_code == 404
    assert not isinstance(error, ResourceNotFoundError)  # the SDK rewraps every error of the logs


def test_queries_do_not_hold_up_each_other_beyond_five_at_a_time(azure: Azure) -> None:
    async def together() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(lambda: len(azure.ask("print 1").tables)) for _ in range(12)))

    assert asyncio.run(together()) == [1] * 12
