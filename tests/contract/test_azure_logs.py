"""Cells from Log Analytics: the real azure-monitor-query against the sandbox's engine, recorded answers and broken ones."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.monitor.query import LogsQueryClient

from rollout.analysis.cells import CLASSES, bucket
from rollout.azure.kql import cells_query
from rollout.azure.logs import AzureLogs
from rollout.azure.metrics import classify
from rollout.errors import RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.sandbox.telemetry import Delays, TrafficRow
from tests.support.azure import ENDPOINT, AnyToken, calls, connected, recorded
from tests.support.sandbox import LocalSandbox, local_sandbox
from tests.support.scripted import Answer, Scripted, scripted

COLUMNS = ("rid", "deployment", "minute", "cls", "n", "h", "ingested")
TYPES = ("string", "string", "long", "string", "long", "dynamic", "long")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("logs"), speed=1.0) as local:
        yield local


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    with scripted(tmp_path_factory.mktemp("scripted")) as play:
        yield play


@pytest.fixture
def logs(server: Scripted) -> Iterator[Callable[..., AzureLogs]]:
    server.script.clear()
    server.asked.clear()
    clients: list[LogsQueryClient] = []

    def make(pauses: list[float] | None = None, **more: Any) -> AzureLogs:
        client = LogsQueryClient(AnyToken(), endpoint=server.address, connection_verify=server.ca_file)
        clients.append(client)
        return AzureLogs(client, log_workspace="w1", calls=calls(pauses), **more)

    yield make
    for client in clients:
        client.close()


def table(*rows: tuple[Any, ...]) -> Answer:
    columns = [{"name": name, "type": kind} for name, kind in zip(COLUMNS, TYPES, strict=True)]
    return Answer(body={"tables": [{"name": "PrimaryResult", "columns": columns, "rows": [list(row) for row in rows]}]})


def row(
    deployment: str = "blue", minute: int = 1000, cls: str = "ok", h: str = "[[40,3]]", ingested: int | None = None
) -> Any:
    return (ENDPOINT, deployment, minute, cls, 3, h, ingested)


# --- what a query says and how it is sent ----------------------------------------------------------------------------


def test_one_query_for_all_endpoints_of_a_log_workspace(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    server.answers(table())
    logs().read([ENDPOINT.upper(), f"{ENDPOINT}2"], start=29_900_000, end=29_900_020)
    (asked,) = server.asked
    assert asked.path == "/v1/workspaces/w1/query"
    assert asked.body["timespan"] == "2026-11-06T21:20:00.000Z/2026-11-06T21:40:00.000Z"
    assert f'dynamic(["{ENDPOINT}", "{ENDPOINT}2"])' in asked.body["query"]
    assert "datetime(2026-11-06T21:20:00Z)" in asked.body["query"]
    assert "datetime(2026-11-06T21:40:00Z)" in asked.body["query"]
    assert asked.headers["Cache-Control"] == "no-cache"
    assert asked.headers["Prefer"] == "wait=30"


def test_beyond_its_limit_of_endpoints_a_query_is_split(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    server.answers(table(row()), table(row(minute=1001)))
    reading = logs(max_endpoints=2).read([f"{ENDPOINT}{n}" for n in range(3)], start=1000, end=1002)
    assert [asked.body["query"].count("onlineendpoints/menu") for asked in server.asked] == [2, 1]
    assert set(reading.cells[ENDPOINT]["blue"]) == {1000, 1001}


def test_no_endpoints_need_no_query(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    assert logs().read([], start=1000, end=1001).cells == {}
    assert server.asked == []


def test_an_endpoints_id_cannot_leave_its_string(logs: Callable[..., AzureLogs]) -> None:
    query = cells_query(['a"]); AzureActivity | take 1 //'], start=1, end=2)
    (line,) = [line for line in query.splitlines() if line.startswith("let _eps")]
    text = line.removeprefix("let _eps  = dynamic(").removesuffix(");")
    assert json.loads(text) == ['a"]); AzureActivity | take 1 //']


# --- what comes back ---------------------------------------------------------------------------------------------------


def test_rows_become_cells_with_histograms(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    server.answers(
        table(
            row(h="[[40,3],[41,1]]", ingested=1000 * 60 + 200),
            row(cls="model_5xx", h="[[80,2]]", ingested=1000 * 60 + 260),
            row(deployment="Blue", h="[[40,1]]"),  # one deployment, written in two ways
            row(deployment="green", minute=1001, h="[]"),
        )
    )
    reading = logs().read([ENDPOINT], start=1000, end=1002)
    cell = reading.cells[ENDPOINT]["blue"][1000]
    assert cell.histograms == {"ok": {40: 4, 41: 1}, "model_5xx": {80: 2}}
    assert "green" not in reading.cells[ENDPOINT]  # a minute without requests has no cell
    assert (reading.start, reading.end) == (1000, 1002)
    assert reading.arrived == timedelta(seconds=260)


def test_the_time_of_ingestion_may_be_unknown(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    server.answers(table(row(ingested=None)))
    assert logs().read([ENDPOINT], start=1000, end=1001).arrived is None


def test_204_means_that_there_is_no_data(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    server.answers(Answer(status=204))
    assert logs().read([ENDPOINT], start=1000, end=1001).cells == {}
    assert len(server.asked) == 1


def test_an_answer_without_tables_has_no_rows(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    server.answers(Answer(body={"tables": []}))
    assert logs().read([ENDPOINT], start=1000, end=1001).cells == {}


GOOD = table(row())
FAULTS: list[tuple[str, list[Answer], type[RolloutError], str]] = [
    (
        "partial",
        [recorded("logs_200_partial_error")],
        UnavailableError,
        "Percentiles aggregator has encountered an overflow",
    ),
    ("cut body", [Answer(raw=b'{"tables": [{"name": "Pri')], UnavailableError, "Azure answered 200"),
    ("empty body", [Answer(raw=b"")], UnavailableError, "Azure answered 200"),
    ("html", [Answer(status=502, raw=b"<html>Bad Gateway</html>")] * 2, UnavailableError, "Azure answered 502"),
    (
        "500",
        [Answer(status=500, body={"error": {"code": "Oops", "message": "boom"}})] * 2,
        UnavailableError,
        "500 Oops: boom",
    ),
    (
        "503",
        [Answer(status=503, body={"error": {"code": "Busy", "message": "later"}})] * 2,
        UnavailableError,
        "503 Busy",
    ),
    (
        "504",
        [Answer(status=504, body={"error": {"code": "GatewayTimeout", "message": "t"}})],
        UnavailableError,
        "504 Gateway",
    ),
    (
        "other columns",
        [Answer(body={"tables": [{"name": "x", "columns": [], "rows": [[]]}]})],
        UnavailableError,
        "be read",
    ),
    ("broken histogram", [table(row(h="[[1,"))], UnavailableError, "could not be read"),
    ("lost connection", [Answer(broken=True)] * 2, UnavailableError, "no answer from Azure"),
    (
        "400",
        [recorded("logs_400_semantic_error")],
        RefusedError,
        "Failed to resolve table or column expression named 'AppInsights'",
    ),
    (
        "401",
        [Answer(status=401, body={"error": {"code": "InvalidTokenError", "message": "no"}})],
        RefusedError,
        "401 InvalidToken",
    ),
    ("403", [recorded("logs_403_resource")], RefusedError, "Log Analytics Data Reader"),
    ("404", [recorded("logs_404_bad_workspace")], RefusedError, "Check `log_workspace`"),
    ("429", [Answer(status=429, body={"error": {"code": "ThrottledError"}})], ThrottledError, "429 ThrottledError"),
]


@pytest.mark.parametrize(
    ("answers", "error", "words"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_what_is_no_answer_says_who_must_act(
    logs: Callable[..., AzureLogs], server: Scripted, answers: list[Answer], error: type[RolloutError], words: str
) -> None:
    server.answers(*answers)
    with pytest.raises(error) as caught:
        logs().read([ENDPOINT], start=1000, end=1001)
    assert type(caught.value) is error
    assert words in caught.value.message
    assert caught.value.message.startswith(("Cannot query the traffic log in w1: ", "The traffic log in w1 gave"))
    assert len(server.asked) == len(answers)  # no retry that we did not ask for


@pytest.mark.parametrize("first", [Answer(status=503, body={}), Answer(status=502, raw=b"<html>"), Answer(broken=True)])
def test_a_hiccup_is_asked_once_more_after_a_moment(
    logs: Callable[..., AzureLogs], server: Scripted, first: Answer
) -> None:
    pauses: list[float] = []
    server.answers(first, GOOD)
    assert logs(pauses).read([ENDPOINT], start=1000, end=1001).cells[ENDPOINT]["blue"][1000].count() == 3
    assert len(pauses) == 1
    assert 0.5 <= pauses[0] <= 2.0


def test_a_wait_that_azure_asks_for_is_told_not_slept(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    pauses: list[float] = []
    answer = Answer(status=429, body={"error": {"code": "ThrottledError"}}, headers={"Retry-After": "309"})
    server.answers(answer)
    with pytest.raises(ThrottledError) as caught:
        logs(pauses).read([ENDPOINT], start=1000, end=1001)
    assert caught.value.retry_after == 309
    assert pauses == []


def test_an_answer_as_long_as_the_limit_may_be_cut_off(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    server.answers(table(row(), row(minute=1001)))
    with pytest.raises(UnavailableError, match="may be cut off"):
        logs(max_rows=2).read([ENDPOINT], start=1000, end=1002)


def test_a_message_never_repeats_a_token(logs: Callable[..., AzureLogs], server: Scripted) -> None:
    said = "token eyJhbGciOi.eyJhdWQi.c2ln of Bearer abc.def was refused, see https://x/?sig=secret&x=1"
    server.answers(Answer(status=401, body={"error": {"code": "Bad", "message": said}}))
    with pytest.raises(RefusedError) as caught:
        logs().read([ENDPOINT], start=1000, end=1001)
    assert not any(secret in caught.value.message for secret in ("eyJ", "abc.def", "secret"))


# --- with the sandbox's engine: the query itself ------------------------------------------------------------------------

NOON = 29_900_000 + 500


def test_the_query_counts_by_class_and_bucket_as_we_do(sandbox: LocalSandbox) -> None:
    codes = [(200, 200), (302, 0), (404, 0), (401, 0), (408, 0), (429, 0), (500, 0), (503, 0), (0, 0), (100, 0)]
    codes += [(424, 400), (424, 422), (424, 500), (424, 503), (424, 0), (424, 302)]
    durations = [0, 1, 7, 36, 84, 1000, 60_000]
    endpoint = sandbox.values["subscription_id"]
    minute = _recent_minute(sandbox)
    rows = [
        _row(endpoint, "Blue", minute + second % 2, code, model, ms, second)
        for second, (code, model) in enumerate(codes)
        for ms in durations
    ]
    rows += [
        _row(endpoint, "blue", minute, 200, 200, 5, 1, user_agent="azureml-rollout-probe/1.0"),
        _row(endpoint, "", minute, 401, 0, 5, 1),
        _row("another", "blue", minute, 200, 200, 5, 1),
    ]
    with connected(sandbox) as azure:
        _append(sandbox, rows)
        (logs,) = azure.logs.values()
        reading = logs.read([endpoint.upper()], start=minute, end=minute + 3)
    expected: dict[int, dict[str, dict[int, int]]] = {}
    for second, (code, model) in enumerate(codes):
        cls = classify(code, model)
        for ms in durations if cls else ():
            into = expected.setdefault(minute + second % 2, {}).setdefault(str(cls), {})
            into[bucket(ms)] = into.get(bucket(ms), 0) + 1
    assert set(reading.cells) == {endpoint.casefold()}
    found = {at: cell.histograms for at, cell in reading.cells[endpoint.casefold()]["blue"].items()}
    assert found == expected
    assert {cls for cell in found.values() for cls in cell} == set(CLASSES)
    assert reading.arrived is not None
    assert timedelta() <= reading.arrived < timedelta(minutes=10)


def test_sizes_of_good_answers_come_with_the_cells_of_those_who_want_them(sandbox: LocalSandbox) -> None:
    big, small = "sized", "unsized"
    minute = _recent_minute(sandbox)
    sizes = [(200, 0), (200, 1), (200, 900), (204, 900), (424, 5000), (0, 7)]
    rows = [
        replace(_row(endpoint, "blue", minute, code, 200, 36, 1), response_payload_size=size)
        for endpoint in (big, small)
        for code, size in sizes
    ]
    with connected(sandbox) as azure:
        _append(sandbox, rows)
        (logs,) = azure.logs.values()
        cells = logs.read([big, small], start=minute, end=minute + 1, measured=[big.upper(), "another"]).cells
    sized, plain = (cells[endpoint]["blue"][minute] for endpoint in (big, small))
    requests = {"ok": {bucket(36): 4}, "model_5xx": {bucket(36): 1}, "gone": {bucket(36): 1}}
    assert plain.histograms == requests
    assert sized.histograms == {**requests, "answer_size": {0: 2, bucket(900): 2}}
    assert sized.count() == plain.count() == 6


def test_before_the_first_row_the_query_is_valid(tmp_path: Path) -> None:
    with local_sandbox(tmp_path) as local, connected(local) as azure:
        (logs,) = azure.logs.values()
        for measured in ([], [ENDPOINT]):
            assert logs.read([ENDPOINT], start=NOON, end=NOON + 5, measured=measured).cells == {}


def _recent_minute(sandbox: LocalSandbox) -> int:
    now = sandbox.call(lambda cloud: cloud.now())
    return int(now.timestamp() // 60) - 5


def _row(
    endpoint: str, deployment: str, minute: int, code: int, model: int, ms: int, second: int, user_agent: str = "x"
) -> TrafficRow:
    at = datetime.fromtimestamp(minute * 60 + second, UTC)
    return TrafficRow(
        time_generated=at,
        resource_id=endpoint,
        endpoint_name="menu",
        deployment_name=deployment,
        response_code=code,
        model_status_code=model,
        total_duration_ms=ms,
        user_agent=user_agent,
    )


def _append(sandbox: LocalSandbox, rows: list[TrafficRow]) -> None:
    log = sandbox.sandbox.log
    none = (timedelta(), timedelta())
    log.delays = Delays(logs=none, metrics=none)
    sandbox.call(lambda _: [log.append(each) for each in rows])
