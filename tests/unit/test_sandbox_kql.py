"""The log workspace's engine runs the KQL it is sent, and refuses what it cannot run in Log Analytics' words."""

import json
import random
from collections import Counter
from datetime import timedelta

import pytest

from rollout.analysis.cells import bucket
from rollout.sandbox.kql import MAX_ROWS, RETENTION, TABLE, Answer, Engine, QueryError
from rollout.sandbox.monitor_bodies import ArgumentError, parse_timespan, table_json
from rollout.sandbox.telemetry import TrafficRow
from tests.support.traffic import START, arrived, cells_query, row

MINUTE = timedelta(minutes=1)
LATER = START + timedelta(hours=1)


def engine(*rows: TrafficRow, after: float = 4) -> Engine:
    made = Engine({"Type": TABLE, "SourceSystem": "Azure", "_BilledSize": 1000.0})
    made.append(arrived(rows, after=after))
    return made


def ask(made: Engine, text: str, **options: object) -> Answer:
    return made.query(text, **({"span": None, "now": LATER} | options))  # type: ignore[arg-type]


def values(answer: Answer) -> list[dict[str, object]]:
    table = table_json(answer)
    names = [column["name"] for column in table["columns"]]
    return [dict(zip(names, each, strict=True)) for each in table["rows"]]


def test_cells_equal_a_count_by_hand() -> None:
    chance = random.Random(3)
    classes = {(200, 200): "ok", (424, 500): "model_5xx", (424, 400): "model_4xx", (429, 0): "throttled"}
    classes |= {(408, 0): "timeout", (500, 0): "5xx", (404, 0): "4xx", (0, 0): "gone"}
    rows, wanted = [], Counter()
    for _ in range(2_000):
        (status, model), name = chance.choice(list(classes.items()))
        minute, deployment = chance.uniform(0, 20), chance.choice(["blue", "green"])
        duration = int(chance.lognormvariate(4, 1.2))
        codes = {"response_code": status, "model_status_code": model, "total_duration_ms": duration}
        rows.append(row(minute, deployment_name=deployment, **codes))
        when = int((START + minute * MINUTE).timestamp() // 60)
        wanted[deployment, when, name, bucket(duration)] += 1
    found = Counter()
    for each in values(ask(engine(*rows), cells_query())):
        histogram = json.loads(str(each["h"]))
        assert sum(count for _, count in histogram) == each["n"]
        for index, count in histogram:
            found[each["deployment"], each["minute"], each["cls"], index] += count
    assert found == wanted


def test_columns_have_kusto_types_and_ids_are_lower_case() -> None:
    table = table_json(ask(engine(row()), cells_query()))
    assert [(each["name"], each["type"]) for each in table["columns"]] == [
        ("rid", "string"),
        ("deployment", "string"),
        ("minute", "long"),
        ("cls", "string"),
        ("n", "long"),
        ("h", "dynamic"),
        ("ingested", "long"),
    ]
    ((rid, deployment, minute, name, count, histogram, ingested),) = table["rows"]
    assert rid == rid.lower()
    assert (deployment, minute, name, count) == ("blue", int(START.timestamp()) // 60, "ok", 1)
    assert json.loads(histogram) == [[bucket(12), 1]]
    assert ingested == (START + 4 * MINUTE).timestamp()


def test_probes_interim_answers_and_unrouted_requests_are_left_out() -> None:
    rows = row(user_agent="azureml-rollout/0.1"), row(response_code=100), row(deployment_name="", response_code=401)
    assert values(ask(engine(*rows), cells_query())) == []


def test_the_table_is_not_there_before_the_first_row() -> None:
    empty = engine()
    assert values(ask(empty, cells_query())) == []
    with pytest.raises(QueryError, match=f"'where' operator: Failed to resolve table .* named '{TABLE}'") as caught:
        ask(empty, f"{TABLE} | where ResponseCode == 200")
    assert (caught.value.kind, caught.value.code) == ("SemanticError", "SEM0100")
    empty.append(arrived([row()]))
    assert len(values(ask(empty, cells_query()))) == 1


def test_a_plain_query_sees_all_documented_columns_and_no_other() -> None:
    (shown,) = values(ask(engine(row(x_request_id="abc")), TABLE))
    assert shown["TimeGenerated"] == "2026-11-22T10:00:00Z"
    assert (shown["Type"], shown["XRequestId"], shown["_BilledSize"]) == (TABLE, "abc", 1000.0)
    assert len(shown) == 26
    assert not any("ingest" in name for name in shown)


def test_ingestion_time_is_read_only_where_it_is_asked_for() -> None:
    made = engine(row(), after=4.5)
    (asked,) = values(ask(made, f"{TABLE} | project at = ingestion_time() // not ingestion_time()"))
    assert asked == {"at": "2026-11-22T10:04:30Z"}
    (text,) = values(ask(made, f"{TABLE} | project at = 'ingestion_time()'"))
    assert text == {"at": "ingestion_time()"}


def test_the_timespan_is_intersected() -> None:
    made = engine(*(row(minute) for minute in range(20)))
    span = (START + 5 * MINUTE, START + 8 * MINUTE)
    assert values(ask(made, f"{TABLE} | count", span=span)) == [{"Count": 3}]
    later = f"{TABLE} | where TimeGenerated >= datetime(2026-11-22T10:07:00Z) | count"
    assert values(ask(made, later, span=span)) == [{"Count": 1}]
    assert values(ask(made, f"{TABLE} | count")) == [{"Count": 20}]


def test_a_kept_translation_answers_for_new_moments_and_a_new_now() -> None:
    made = engine(*(row(minute) for minute in range(20)))
    counts = [
        sum(int(str(each["n"])) for each in values(ask(made, cells_query(START, START + minutes * MINUTE))))
        for minutes in (3, 11, 20)
    ]
    assert counts == [3, 11, 20]
    recent = f"{TABLE} | where TimeGenerated > ago(10m) | count"
    assert values(ask(made, recent, now=START + 10 * MINUTE)) == [{"Count": 19}]
    assert values(ask(made, recent, now=START + 20 * MINUTE)) == [{"Count": 9}]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (f"{TABLE} | where Nothing == 1", "SemanticError", "Failed to resolve scalar expression named 'Nothing'"),
        ("Elsewhere | summarize count()", "SemanticError", "'summarize' operator: .* named 'Elsewhere'"),
        (f"{TABLE} | make-series count() on TimeGenerated step 1m", "SemanticError", "'make-series'"),
        (f"{TABLE} | summarize make_bag(bag_pack('a', 1))", "SemanticError", "'make_bag'"),
        (f"{TABLE} | where", "SyntaxError", "could not be parsed"),
        (".show tables", "SyntaxError", "no control commands"),
        ("", "SyntaxError", "could not be parsed"),
    ],
)
def test_what_cannot_run_is_refused_by_name(text: str, kind: str, words: str) -> None:
    with pytest.raises(QueryError, match=words) as caught:
        ask(engine(row()), text)
    assert caught.value.kind == kind


def test_old_rows_are_forgotten() -> None:
    made = engine(row())
    made.append(arrived([row(RETENTION / MINUTE + 30)]))
    assert values(ask(made, f"{TABLE} | count")) == [{"Count": 1}]


def test_of_too_many_rows_the_older_half_is_forgotten() -> None:
    made = Engine({}, max_kept=100)
    made.append(arrived([row(number / 100) for number in range(101)]))
    assert values(ask(made, f"{TABLE} | summarize n = count(), oldest = min(TimeGenerated)")) == [
        {"n": 51, "oldest": "2026-11-22T10:00:30Z"}
    ]


def test_a_longer_answer_than_log_analytics_gives_is_cut() -> None:
    made = engine()
    long = ask(made, f"range x from 1 to {MAX_ROWS + 5} step 1")
    assert (len(long.rows), long.truncated) == (MAX_ROWS, True)
    made.append(arrived([row()]))
    assert not ask(made, f"{TABLE} | count").truncated


def test_values_are_spelt_as_log_analytics_spells_them() -> None:
    text = (
        "print t = datetime(2026-11-22T10:00:00.25Z), s = 26h + 1s, r = real(nan), d = dynamic({'a': [1, null]}), "
        "b = true, n = long(null), l = dynamic([1, 2])"
    )
    assert values(ask(engine(), text)) == [
        {
            "t": "2026-11-22T10:00:00.25Z",
            "s": "1.02:00:01",
            "r": "NaN",
            "d": '{"a":[1,null]}',
            "b": True,
            "n": None,
            "l": "[1,2]",
        }
    ]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("PT1H", 0, 60),
        ("P1DT30M", -1410, 60),
        ("2026-11-22T10:10:00Z/2026-11-22T10:20:00Z", 10, 20),
        ("2026-11-22T10:10:00Z/PT300.0S", 10, 15),
        ("PT5M/2026-11-22T10:20:00+00:00", 15, 20),
    ],
)
def test_timespans_of_every_form(text: str, start: int, end: int) -> None:
    assert parse_timespan(text, now=LATER) == (START + start * MINUTE, START + end * MINUTE)


@pytest.mark.parametrize("text", ["yesterday", "P", "a/b", "PT1H/PT2H", "1/2/3"])
def test_other_timespans_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="timespan"):
        parse_timespan(text, now=LATER)
