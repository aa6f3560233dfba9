"""A policy's own checks: where their query stands, what it may not do, and how it is written back."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rollout.errors import PolicyError
from rollout.policy import CustomCheck, Policy, effective_yaml, json_schema, parse_policy
from rollout.policy.queries import MAX_QUERY, check_query

SCHEMA = Draft202012Validator(json_schema())
KQL = 'AmlOnlineEndpointTrafficLog\n| where x == "a; .drop b" // workspace(\n\n| summarize n = count()\n'
FILES = {"queries/empty.kql": f"\n{KQL}\n", "queries/bad.kql": "T | evaluate http_request('x')"}
POLICY = """\
endpoint_name: diners
checks:
  custom:
    - {name: empty_answers, kql_file: queries/empty.kql, max_increase: 2pp, max: 10%, on_regression: pause}
    - {name: odd, kql: T | count, dry_run: true}
"""


def parse(text: str) -> Policy:
    def files(name: str) -> str:
        if name not in FILES:
            raise ValueError(f'"{name}" cannot be read: there is no such file')
        return FILES[name]

    return parse_policy(text, file="p.yaml", files=files)


def mistakes(*checks: str) -> list[str]:
    text = "endpoint_name: diners\nchecks:\n  custom:\n" + "".join(f"    - {check}\n" for check in checks)
    with pytest.raises(PolicyError) as caught:
        parse(text)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_policy_holds_the_text_of_its_queries() -> None:
    first, second = parse(POLICY).checks.custom
    assert (first.name, first.kql, first.kql_file) == ("empty_answers", KQL.strip(), None)
    assert (first.max_increase, first.max, first.on_regression, first.dry_run) == (0.02, 0.1, "pause", False)
    assert (second.query, second.max_increase, second.dry_run) == ("T | count", 0.01, True)
    SCHEMA.validate(yaml.safe_load(POLICY))


def test_it_is_written_back_in_lines_and_read_as_the_same() -> None:
    policy = parse(POLICY)
    written = effective_yaml(policy)
    assert "  - name: empty_answers\n" in written
    assert "    kql: |-\n      AmlOnlineEndpointTrafficLog\n      | where x" in written
    assert parse_policy(written, file="p.yaml") == policy
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    SCHEMA.validate(yaml.safe_load(written))


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.just("\n"), max_size=60))
def test_whatever_a_query_says_reads_back(middle: str) -> None:
    check = CustomCheck(name="odd", kql=check_query(f"T\n{middle}\n| count"))  # begins as a query does
    policy = parse("endpoint_name: diners\n").model_copy(
        update={"checks": parse(POLICY).checks.model_copy(update={"custom": (check,)})}
    )
    assert parse_policy(effective_yaml(policy), file="p.yaml") == policy


def test_checks_are_told_apart() -> None:
    assert mistakes("{name: error_rate, kql: T}", "{name: b, kql: T}", "{name: B, kql: U}") == [
        'p.yaml:4:14: checks.custom[0].name: "error_rate" is the name of a built-in check, too: give each check a name of its own',
        'p.yaml:6:14: checks.custom[2].name: "B" is the name of another check, too: give each check a name of its own',
    ]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("{name: a}", "4:7: checks.custom[0]: has no query: write either kql_file or kql"),
        ("{name: a, kql: T, kql_file: queries/empty.kql}", "4:7: checks.custom[0]: has two queries: write either kql_file or kql"),
        ("{kql: T}", "4:7: checks.custom[0].name: is missing"),
        ("{name: a, kql_file: queries/none.kql}", '4:27: checks.custom[0].kql_file: "queries/none.kql" cannot be read: '),
        ("{name: a, kql_file: queries/bad.kql}", "4:27: checks.custom[0].kql_file: `evaluate http_request` may call out"),
        ("{name: a, kql: T, max_increase: 1%}", "4:39: checks.custom[0].max_increase: "),
        ("{name: a, kqlfile: T}", "4:17: checks.custom[0].kqlfile: there is no such field; did you mean `kql_file`?"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place(check: str, told: str) -> None:
    assert any(f"p.yaml:{told}" in mistake for mistake in mistakes(check)), mistakes(check)


def test_a_policy_of_nothing_but_own_checks_is_one() -> None:
    off = "endpoint_name: diners\nchecks: {error_rate: off, client_errors: off, latency_p95: off, custom: [%s]}\n"
    assert parse(off % "{name: a, kql: T}").checks.active() == {}
    with pytest.raises(PolicyError, match="every check is a dry run"):
        parse(off % "{name: a, kql: T, dry_run: true}")
    with pytest.raises(PolicyError, match="every check is off"):
        parse(off % "")


# --- what a query may not do


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "the query is empty"),
        ("// only a comment", "the query is empty"),
        (".show tables", '".show" is a management command'),
        ("T; .drop table T", '".drop" is a management command'),
        ("let x = 1;\n  .set T <| U", '".set" is a management command'),
        ("workspace('other').T | count", r"workspace\(…\) reads another resource"),
        ("union T, app ('other').requests", r"app\(…\) reads another resource"),
        ("resource('/subscriptions/x').T", r"resource\(…\) reads another resource"),
        ("cluster('c').database('d').T", r"cluster\(…\) reads another resource"),
        ("externaldata (a:string) [@'https://x']", "externaldata fetches data from outside"),
        ("external_table('x')", "external_table fetches data from outside"),
        ("T | evaluate http_request('https://x')", "`evaluate http_request` may call out"),
        ("T | evaluate hint.distribution = per_node python('x')", "`evaluate python` may call out"),
        ("T | evaluate pivot(a) | evaluate sql_request('x')", "`evaluate sql_request` may call out"),
        ('print ```"```; workspace("x").T', r"workspace\(…\) reads another resource"),
        ('print \'open\nworkspace("x").T', r"workspace\(…\) reads another resource"),
        ("T" * (MAX_QUERY + 1), "the query has 16,385 bytes: write at most 16 KiB"),
        ("é" * (MAX_QUERY // 2) + "T", "the query has 16,385 bytes"),
    ],
)
def test_a_query_only_reads_its_own_workspace(query: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_query(query)


@pytest.mark.parametrize(
    "query",
    [
        "T | where Message has 'workspace(' and x == \"externaldata\"",
        "T // evaluate http_request('x')\n| count",
        "T | where a == @'c:\\' and b == 'x' | where c !has 'cluster(1)'",
        'T | where a == "\\"; .drop T"',
        "T | evaluate bag_unpack(x) | evaluate hint.distribution=single pivot(y) | evaluate narrow()",
        "let my_workspace = T; let apps = 1; my_workspace | extend application(1)",
        "T | where a == 'two;parts' ; T | count",
        "print ```\n.drop T\nworkspace(1)``` | count",
        "T" * MAX_QUERY,
    ],
)
def test_words_in_strings_and_comments_are_no_code(query: str) -> None:
    assert check_query(query) == query


def test_a_query_keeps_its_lines_whatever_wrote_them() -> None:
    assert check_query("\r\n T\r\n| count\r\n\r\n") == "T\n| count"


def test_the_schema_asks_for_a_name_and_knows_the_fields() -> None:
    shape = json_schema()["$defs"]["CustomCheck"]
    assert shape["required"] == ["name"]
    assert set(shape["properties"]) == {"name", "kql", "kql_file", "max_increase", "max", "dry_run", "on_regression"}
    assert shape["properties"]["max_increase"]["default"] == "1pp"
    assert not SCHEMA.is_valid(json.loads('{"endpoint_name": "diners", "checks": {"custom": [{"name": 5}]}}'))
