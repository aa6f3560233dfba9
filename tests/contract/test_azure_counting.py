"""Checks of a policy's own: the real azure-monitor-query, against scripted answers and the sandbox's engine."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from azure.monitor.query import LogsQueryClient

from rollout.azure.logs import AzureLogs
from rollout.errors import RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.ports import Counted, CountQuery
from rollout.sandbox.telemetry import Delays
from tests.support.azure import ENDPOINT, AnyToken, calls, connected, recorded
from tests.support.sandbox import LocalSandbox, local_sandbox
from tests.support.scripted import Answer, Scripted, scripted
from tests.support.traffic import row

START = 29_900_000  # 2026-11-06 21:20 UTC
COLUMNS = {"minute": "long", "deployment": "string", "n": "long", "bad": "long"}
EMPTY_ANSWERS = """\
AmlOnlineEndpointTrafficLog
| where _ResourceId =~ _endpoint and TimeGenerated >= _from and TimeGenerated < _to
| summarize n = count(), bad = countif(ResponsePayloadSize < 20) by minute = bin(TimeGenerated, 1m), deployment = DeploymentName
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    with scripted(tmp_path_factory.mktemp("scripted")) as play:
        yield play


@pytest.fixture
def count(server: Scripted) -> Iterator[Callable[..., list[Counted]]]:
    server.script.clear()
    server.asked.clear()
    client = LogsQueryClient(AnyToken(), endpoint=server.address, connection_verify=server.ca_file)
    logs = AzureLogs(client, log_workspace="w1", calls=calls())

    def ask(*rows: tuple[Any, ...], minutes: int = 5, kql: str = "T", **columns: str) -> list[Counted]:
        if rows:
            server.answers(table(*rows, **columns))
        query = CountQuery(check="empty", kql=kql, endpoint=ENDPOINT.upper())
        return list(logs.count(query, start=START, end=START + minutes))

    yield ask
    client.close()


def table(*rows: tuple[Any, ...], **columns: str) -> Answer:
    kinds = {**COLUMNS, **columns}
    named = [{"name": name, "type": kind} for name, kind in kinds.items()]
    return Answer(body={"tables": [{"name": "PrimaryResult", "columns": named, "rows": [list(row) for row in rows]}]})


# --- what is sent ------------------------------------------------------------------------------------------------------


def test_a_query_is_sent_as_written_behind_what_it_may_use(
    count: Callable[..., list[Counted]], server: Scripted
) -> None:
    count((START, "blue", 1, 0), kql="// mine\nT\n| count")
    (asked,) = server.asked
    first, second, third = asked.body["query"].split("\n")
    assert first == (
        f'let _endpoint = "{ENDPOINT}"; let _from = datetime(2026-11-06T21:20:00Z);'
        " let _to = datetime(2026-11-06T21:25:00Z); // mine"
    )
    assert (second, third) == ("T", "| count")  # the lines of Azure's messages are the author's
    assert asked.body["timespan"] == "2026-11-06T21:20:00.000Z/2026-11-06T21:25:00.000Z"
    assert (asked.headers["Prefer"], asked.headers["Cache-Control"]) == ("wait=30", "no-cache")


def test_an_endpoints_id_cannot_leave_its_string(server: Scripted) -> None:
    server.script.clear()
    server.asked.clear()
    server.answers(Answer(status=204))
    client = LogsQueryClient(AnyToken(), endpoint=server.address, connection_verify=server.ca_file)
    query = CountQuery(check="empty", kql="T", endpoint='x"; Heartbeat //')
    AzureLogs(client, log_workspace="w1", calls=calls()).count(query, start=START, end=START + 1)
    client.close()
    text = server.asked[-1].body["query"].removeprefix("let _endpoint = ").partition("; let _from")[0]
    assert json.loads(text) == 'x"; heartbeat //'


# --- what comes back ---------------------------------------------------------------------------------------------------


def test_rows_are_counts_in_any_order_of_columns(count: Callable[..., list[Counted]], server: Scripted) -> None:
    rows = [["x", 3.0, "Blue ", 1, "2026-11-06T21:20:00Z"], ["y", 2.0, "green", 2, "2026-11-06T21:24:00Z"]]
    kinds = {"more": "string", "n": "real", "deployment": "string", "bad": "int", "minute": "datetime"}
    columns = [{"name": name, "type": kind} for name, kind in kinds.items()]
    server.answers(Answer(body={"tables": [{"name": "t", "columns": columns, "rows": rows}]}))
    assert count() == [(START, "blue", 3, 1), (START + 4, "green", 2, 2)]


@pytest.mark.parametrize("answer", [Answer(status=204), Answer(body={"tables": []}), table()])
def test_no_rows_are_no_counts(count: Callable[..., list[Counted]], server: Scripted, answer: Answer) -> None:
    server.answers(answer)
    assert count() == []


WRONG: list[tuple[tuple[Any, ...], dict[str, str], str]] = [
    ((START, "blue", 5, 7), {}, "row 2: bad is 7, more than n, which is 5"),
    ((START, "blue", -1, 0), {}, "row 2: n is -1, below zero"),
    ((START, "blue", 5, -2), {}, "row 2: bad is -2, below zero"),
    ((START, "blue", 5, None), {}, "row 2: bad is null, no whole number"),
    ((START, "blue", 2.5, 1), {"n": "real"}, "row 2: n is 2.5, no whole number"),
    ((START, "blue", "NaN", 1), {"n": "real"}, 'row 2: n is "NaN", no whole number'),
    ((START, "blue", "5", "1"), {"n": "string", "bad": "string"}, 'row 1: n is "3", no whole number'),
    ((START, "", 5, 1), {}, 'row 2: deployment is "", no name'),
    ((START, None, 5, 1), {}, "row 2: deployment is null, no name"),
    ((START + 5, "blue", 5, 1), {}, r"row 2: minute is 29900005, outside the time asked for \(21:20 to 21:25 UTC\)"),
    ((START - 1, "blue", 5, 1), {}, "row 2: minute is 29899999, outside"),
    ((START * 60, "blue", 5, 1), {}, "row 2: minute is 1794000000, outside"),
    (("2026-11-06T21:20:30Z", "blue", 5, 1), {"minute": "datetime"}, "minute is 2026-11-06 21:20:30, not a whole min"),
    (("2026-11-06T21:30:00Z", "blue", 5, 1), {"minute": "datetime"}, "minute is 2026-11-06 21:30:00, outside"),
    ((None, "blue", 5, 1), {}, "row 2: minute is null, no time"),
]


@pytest.mark.parametrize(("wrong", "columns", "words"), WRONG)
def test_a_wrong_row_is_told_with_check_row_column_and_value(
    count: Callable[..., list[Counted]], wrong: tuple[Any, ...], columns: dict[str, str], words: str
) -> None:
    good: tuple[Any, ...] = (START, "blue", 3, 0)
    if columns.get("minute"):
        good = ("2026-11-06T21:21:00Z", *good[1:])
    if columns.get("n") == "string":
        good = (*good[:2], "3", "0")
    with pytest.raises(RefusedError, match=f"^Check empty: .*{words}"):
        count(good, wrong, **columns)


def test_missing_columns_are_named_with_those_there_are(count: Callable[..., list[Counted]], server: Scripted) -> None:
    columns = [{"name": name, "type": "long"} for name in ("minute", "DeploymentName", "n")]
    server.answers(Answer(body={"tables": [{"name": "t", "columns": columns, "rows": []}]}))
    with pytest.raises(
        RefusedError, match="returns minute, DeploymentName, n, without deployment and bad: end it with"
    ):
        count()


def test_too_many_rows_are_refused(count: Callable[..., list[Counted]]) -> None:
    with pytest.raises(RefusedError, match="returns 10,001 rows, and at most 10,000 are read"):
        count(*[(START, "blue", 1, 0)] * 10_001)


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ([recorded("logs_400_semantic_error")], RefusedError, "Failed to resolve table .* named 'AppInsights'"),
        ([recorded("logs_403_resource")], RefusedError, "Log Analytics Data Reader"),
        (
            [recorded("logs_200_partial_error")],
            UnavailableError,
            "^The query of check empty in w1 gave a partial answer",
        ),
        ([Answer(status=504, body={"error": {"code": "GatewayTimeout"}})], UnavailableError, "504"),
        ([Answer(status=429, body={"error": {"code": "ThrottledError"}})], ThrottledError, "429"),
    ],
)
def test_what_azure_refuses_names_the_check(
    count: Callable[..., list[Counted]],
    server: Scripted,
    answers: list[Answer],
    error: type[RolloutError],
    words: str,
) -> None:
    server.answers(*answers)
    with pytest.raises(error, match=words) as caught:
        count()
    assert type(caught.value) is error
    assert "the query of check empty in w1" in caught.value.message.lower()


# --- with the sandbox's engine -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("counting"), speed=1.0) as local:
        yield local


def test_the_engine_counts_what_the_query_says(sandbox: LocalSandbox) -> None:
    none = (timedelta(), timedelta())
    sandbox.sandbox.log.delays = Delays(logs=none, metrics=none)
    now = sandbox.call(lambda cloud: cloud.now())
    at = (now - timedelta(minutes=5)).replace(second=7)
    sizes = {"blue": [0, 19, 20, 900], "green": [2, 3]}
    rows = [
        row(deployment_name=name, response_payload_size=size, time_generated=at, resource_id=ENDPOINT)
        for name, found in sizes.items()
        for size in found
    ] + [row(time_generated=at, resource_id=ENDPOINT + "x")]
    sandbox.call(lambda _: [sandbox.sandbox.log.append(each) for each in rows])
    minute = int(at.timestamp()) // 60
    with connected(sandbox) as azure:
        (logs,) = azure.logs.values()
        query = CountQuery(check="empty", kql=EMPTY_ANSWERS, endpoint=ENDPOINT.upper())
        found = sorted(logs.count(query, start=minute - 2, end=minute + 2))
        assert found == [(minute, "blue", 4, 2), (minute, "green", 2, 2)]
        with pytest.raises(RefusedError, match="named 'Sizes'"):
            logs.count(
                CountQuery(check="empty", kql="AmlOnlineEndpointTrafficLog | where Sizes > 1", endpoint="x"),
                start=1,
                end=2,
            )
