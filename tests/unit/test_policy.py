"""Policies: what a file means, what it leaves to defaults, and that it is the same policy when read back."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.beside import Beside
from rollout.documents.text import read
from rollout.errors import PolicyError
from rollout.policy import (
    QUANTILES,
    AnswerSizeCheck,
    Approval,
    Checks,
    ErrorCheck,
    LatencyCheck,
    Policy,
    Step,
    effective_yaml,
    json_schema,
    parse_policy,
)

POLICIES = Path(__file__).parents[2] / "policies"
EXAMPLES = sorted(POLICIES.glob("*.yaml"))
MINUTE = timedelta(minutes=1)

SMALLEST = """
$schema: ./policy.schema.json
endpoint_name: restaurant-recommender
steps: [5%, 25%, 50%, 100%]
bake: 15m                        # minutes of judged data, not wall clock
checks:
  error_rate:  {max_increase: 0.5pp}
  latency_p95: {max_increase: 25%}
alerts: [team-ml]
"""

EVERYTHING = """
name: recommender
description: New recommender models reach diners in four steps.
workspace: prod
endpoint_name: restaurant-recommender
mode: act
stable: blue
candidate: green
steps:
  - {traffic: 5%, bake: 10m}
  - {traffic: 25, bake: PT10M}
  - approve: {timeout: 4h, on_timeout: rollback}
  - {traffic: 50%, bake: 10m}
  - approve
  - {traffic: 100%, bake: 30m}
holdback: 10%
checks:
  error_rate: {max_increase: 0.5pp, max: 5%}
  client_errors: off
  latency_p50: {max_increase: 15%, dry_run: true}
  latency_p95: {max_increase: 12.5%, max: 800ms, on_regression: pause}
  latency_p99: {max: 1.5s}
  answer_size: {max_change: 3}
min_requests: 500
when: {suspicion: hold, regression: pause, doubt: {extend: 0m, then: rollback}, no_data: {hold: 20m, then: rollback}}
deadline: 1d
after: keep
alerts: [team-ml, all]
runbook: https://wiki.example/recommender
expert: {alpha: 1%, ratio: 1.5, early: false, harm_budget: 200, evidence: [logs]}
"""


def parse(text: str, **defaults: Any) -> Policy:
    return parse_policy(text, file="p.yaml", defaults=defaults)


def test_everything_that_can_be_written() -> None:
    policy = parse(EVERYTHING)

    assert (policy.name, policy.workspace, policy.stable, policy.candidate) == ("recommender", "prod", "blue", "green")
    assert policy.steps == (
        Step(traffic=5, bake=10 * MINUTE),
        Step(traffic=25, bake=10 * MINUTE),
        Step(traffic=50, bake=10 * MINUTE, approve=Approval(timeout="4h", on_timeout="rollback")),
        Step(traffic=100, bake=30 * MINUTE, approve=Approval(timeout="1d", on_timeout="pause")),
    )
    assert policy.first_step == "as_written"
    assert policy.holdback == 10
    assert policy.checks.active() == {
        "error_rate": ErrorCheck(max_increase="0.5pp", max="5%"),
        "latency_p50": LatencyCheck(max_increase="15%", dry_run=True),
        "latency_p95": LatencyCheck(max_increase="12.5%", max="800ms", on_regression="pause"),
        "latency_p99": LatencyCheck(max_increase="25%", max="1500ms"),
    }
    assert policy.checks.error_rate is not None
    assert (policy.checks.error_rate.max_increase, policy.checks.error_rate.max) == (0.005, 0.05)
    assert policy.checks.latency_p95 is not None
    assert (policy.checks.latency_p95.max_increase, policy.checks.latency_p95.max) == (0.125, 800)
    assert policy.checks.answer_size == AnswerSizeCheck(max_change=3.0)
    assert policy.min_requests == 500
    assert (policy.when.suspicion, policy.when.regression) == ("hold", "pause")
    assert (policy.when.doubt.extend, policy.when.doubt.then) == (timedelta(0), "rollback")
    assert (policy.when.no_data.hold, policy.when.no_data.then) == (20 * MINUTE, "rollback")
    assert policy.deadline == timedelta(days=1)
    assert policy.alerts == ("team-ml", "all")
    assert policy.runbook == "https://wiki.example/recommender"
    assert (policy.expert.alpha, policy.expert.ratio, policy.expert.early) == (0.01, 1.5, False)
    assert (policy.expert.evidence, policy.expert.harm_budget) == (("logs",), 200)


def test_two_lines_are_a_policy() -> None:
    policy = parse("endpoint_name: restaurant-recommender\nalerts: [team-ml]\n")

    assert policy.name == policy.endpoint_name == "restaurant-recommender"
    assert [step.traffic for step in policy.steps] == [5, 25, 50, 100]
    assert [step.bake for step in policy.steps] == [15 * MINUTE, 15 * MINUTE, 15 * MINUTE, 30 * MINUTE]
    assert policy.first_step == "auto"
    assert (policy.workspace, policy.stable, policy.candidate, policy.runbook) == (None, None, None, None)
    assert (policy.holdback, policy.min_requests, policy.deadline) == (5, 300, timedelta(hours=8))
    assert policy.checks.active() == {
        "error_rate": ErrorCheck(max_increase="0.5pp"),
        "client_errors": Checks().client_errors,
        "latency_p95": LatencyCheck(max_increase="25%"),
    }
    assert Checks().client_errors is not None
    assert Checks().client_errors.max_increase == 0.01
    when = policy.when
    assert (when.suspicion, when.regression, when.shared_incident, when.drift) == (
        "retreat",
        "rollback",
        "hold",
        "pause",
    )
    assert (when.doubt.extend, when.doubt.then) == (30 * MINUTE, "pause")
    assert (when.no_data.hold, when.no_data.then) == (45 * MINUTE, "pause")
    assert (policy.expert.alpha, policy.expert.ratio, policy.expert.early) == (0.05, 1.2, True)
    assert (policy.mode, policy.after.then, policy.expert.evidence) == ("act", "keep", ("logs", "metrics"))
    assert policy.after.keep_stable is None
    assert (policy.checks.answer_size, policy.expert.harm_budget) == (None, None)
    assert not any(check.dry_run or check.on_regression for check in policy.checks.active().values())


def test_the_smallest_useful_policy_writes_the_defaults_out() -> None:
    smallest, two_lines = parse(SMALLEST), parse("endpoint_name: restaurant-recommender\nalerts: [team-ml]\n")

    assert smallest == two_lines.model_copy(update={"first_step": "as_written"})


def test_a_bake_is_for_every_step_without_its_own_and_the_last_bakes_for_30m_at_least() -> None:
    def bakes(text: str) -> list[int]:
        return [step.bake // MINUTE for step in parse("endpoint_name: diners\n" + text).steps]

    assert bakes("steps: [5%, 100%]\nbake: 5m\n") == [5, 30]
    assert bakes("steps: [5%, 100%]\nbake: 1h\n") == [60, 60]
    assert bakes("steps: [5%, {traffic: 50%, bake: 7m}, {traffic: 100%, bake: 2m}]\nbake: 5m\n") == [5, 7, 2]


def test_auto_is_what_an_absent_line_says() -> None:
    assert parse("endpoint_name: diners\nstable: auto\ncandidate: auto\n") == parse("endpoint_name: diners\n")


def test_the_first_step_may_be_sized_or_not_whatever_the_steps() -> None:
    assert parse("endpoint_name: diners\nsteps: [5%, 100%]\nfirst_step: auto\n").first_step == "auto"
    assert parse("endpoint_name: diners\nfirst_step: as_written\n").first_step == "as_written"


def test_a_check_that_is_not_mentioned_keeps_its_default_and_off_switches_it_off() -> None:
    policy = parse("endpoint_name: diners\nchecks: {latency_p50: {}, latency_p95: off, client_errors: false}\n")

    assert list(policy.checks.active()) == ["error_rate", "latency_p50"]
    assert set(QUANTILES) == {name for name in Checks.model_fields if name.startswith("latency")}


def test_defaults_of_the_settings_lie_under_the_file() -> None:
    defaults = {
        "workspace": "prod",
        "bake": "20m",
        "steps": ["10%", "100%"],
        "checks": {"error_rate": {"max_increase": "0.1pp", "max": "2%"}, "latency_p99": {}},
        "alerts": ["all"],
    }

    policy = parse("endpoint_name: diners\nchecks: {error_rate: {max_increase: 1pp}}\nalerts: [team]\n", **defaults)

    assert policy.workspace == "prod"
    assert policy.steps == (Step(traffic=10, bake=20 * MINUTE), Step(traffic=100, bake=30 * MINUTE))
    assert policy.first_step == "as_written"
    assert policy.checks.error_rate == ErrorCheck(max_increase="1pp", max="2%")
    assert policy.checks.latency_p99 == LatencyCheck()
    assert policy.alerts == ("team",)
    assert parse("endpoint_name: diners\nsteps: [5%, 100%]\n", **defaults).steps[0] == Step(traffic=5, bake=20 * MINUTE)


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(SMALLEST).holdback = 0  # type: ignore[misc]


# --- reading back --------------------------------------------------------------------------------------------------


def durations(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(lambda minutes: f"{minutes}m")


@st.composite
def policy_files(draw: st.DrawFn) -> dict[str, Any]:
    """Files that are right, with as much or as little as an author likes."""
    shares = [*sorted(draw(st.sets(st.integers(1, 80), max_size=5))), 100]
    steps: list[Any] = []
    for share in shares:
        steps += draw(
            st.sampled_from([[], [], ["approve"], [{"approve": {"timeout": "2h", "on_timeout": "rollback"}}]])
        )
        steps.append(draw(st.sampled_from([share, f"{share}%", {"traffic": share}, {"traffic": share, "bake": "7m"}])))
    percent = st.integers(1, 999).map(lambda tenths: f"{tenths / 10:g}%")
    points = st.integers(1, 999).map(lambda hundredths: f"{hundredths / 100:g}pp")
    answers = {"dry_run": st.booleans(), "on_regression": st.sampled_from(["pause", "rollback"])}
    error = st.fixed_dictionaries({}, optional={"max_increase": points, "max": percent, **answers}) | st.just("off")
    latency = st.fixed_dictionaries(
        {},
        optional={
            "max_increase": st.integers(1, 1000).map("{}%".format),
            "max": st.integers(1, 9999).map("{}ms".format),
            "on_regression": answers["on_regression"],
        },
    )
    size = st.fixed_dictionaries({}, optional={"max_change": st.floats(1.1, 100), "dry_run": st.booleans()})
    then = st.sampled_from(["pause", "rollback"])
    optional = {
        "name": st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
        "description": st.sampled_from(["1e3", "08", "null", "~", "off", "1.", "- x", "a: b", "#"])
        | st.text(st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="\x85"), max_size=30),
        "workspace": st.sampled_from(["prod", "yes", "5x", "null.x", "1e3"]),
        "candidate": st.sampled_from(["green", "auto", "v3-1"]),
        "bake": durations(1, 60),
        "steps": st.just(steps),
        "first_step": st.sampled_from(["auto", "as_written"]),
        "holdback": st.integers(0, 20).map("{}%".format),
        "checks": st.fixed_dictionaries(
            {"latency_p99": latency},
            optional={"error_rate": error, "client_errors": error, "latency_p95": latency, "answer_size": size},
        ),
        "min_requests": st.integers(1, 10**6),
        "when": st.fixed_dictionaries(
            {},
            optional={
                "suspicion": st.sampled_from(["retreat", "hold"]),
                "regression": then,
                "doubt": st.fixed_dictionaries({}, optional={"extend": durations(0, 600), "then": then}),
                "no_data": st.fixed_dictionaries({}, optional={"hold": durations(0, 600), "then": then}),
            },
        ),
        "alerts": st.lists(st.sampled_from(["team-ml", "all", "on.call"]), max_size=2),
        "runbook": st.just("https://wiki.example/recommender?a=b#c"),
        "expert": st.fixed_dictionaries(
            {},
            optional={
                "alpha": st.integers(1, 200)
                .map(lambda tenths: f"{tenths / 10:g}%")
                .filter(lambda text: float(text[:-1]) <= 20),
                "ratio": st.floats(1, 3),
                "early": st.booleans(),
                "harm_budget": st.none() | st.integers(1, 9999),
                "evidence": st.sampled_from([["logs"], ["logs", "metrics"], ["metrics", "logs"]]),
            },
        ),
    }
    return draw(
        st.fixed_dictionaries({"endpoint_name": st.just("diners"), "deadline": st.just("20d")}, optional=optional)
    )


@settings(max_examples=60, deadline=None)
@given(written=policy_files())
def test_every_policy_reads_back_as_itself(written: dict[str, Any]) -> None:
    policy = parse(json.dumps(written, ensure_ascii=False, indent=1))

    again = Policy.model_validate_json(policy.model_dump_json())
    effective = parse(effective_yaml(policy))

    assert again == policy
    assert effective == policy
    assert again.digest() == effective.digest() == policy.digest()
    SCHEMA.validate(written)
    SCHEMA.validate(yaml.safe_load(effective_yaml(policy)))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), written=policy_files())
def test_any_change_of_a_file_gives_a_policy_or_mistakes_inside_it(
    data: st.DataObject, written: dict[str, Any]
) -> None:
    text = yaml.safe_dump(written, allow_unicode=True)
    at = data.draw(st.integers(0, len(text)))
    until = data.draw(st.integers(at, min(at + 12, len(text))))
    text = (
        text[:at]
        + data.draw(st.text(max_size=4) | st.sampled_from(["null", "{}", "[]", "5", "\n", ": ", "- "]))
        + text[until:]
    )

    try:
        assert parse(text).steps[-1].traffic == 100
    except PolicyError as error:
        lines = text.splitlines() or [""]
        for mistake in error.mistakes:
            assert 1 <= mistake.line <= len(lines), (text, mistake)
            assert 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1, (text, mistake)
            assert "pydantic" not in mistake.message
            assert "Input should" not in mistake.message
            assert "\n" not in str(mistake)


def test_the_digest_names_the_content() -> None:
    policy = parse(SMALLEST)

    assert policy.digest() == parse(SMALLEST + "# a comment\nmin_requests: 300\n").digest()
    assert policy.digest() != parse(SMALLEST + "min_requests: 301\n").digest()
    assert len(policy.digest()) == 64
    assert Policy.version == policy.version == 1


# --- the schema ----------------------------------------------------------------------------------------------------

SCHEMA = jsonschema.Draft202012Validator(json_schema())


def test_the_schema_beside_the_examples_is_that_of_the_parser() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())

    written = (POLICIES / "policy.schema.json").read_text()

    assert written == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", "run `rollout schema` into it"


def _described(schema: dict[str, Any], path: str = "") -> list[str]:
    missing = [] if schema.get("description") or not path else [path]
    for name, shape in schema.get("properties", {}).items():
        missing += [] if shape.get("description") else [f"{path}/{name}"]
    for name, shape in schema.get("$defs", {}).items():
        missing += _described(shape, name) if "properties" in shape else []
    return missing


def test_every_field_is_described_and_every_default_could_be_written() -> None:
    schema = json_schema()

    assert _described(schema) == []
    for name, shape in schema["properties"].items():
        if "default" in shape:
            SCHEMA.validate({"endpoint_name": "diners", name: shape["default"]})
            parse(yaml.safe_dump({"endpoint_name": "diners", name: shape["default"]}))


@pytest.mark.parametrize("text", [SMALLEST, EVERYTHING, "endpoint_name: diners\nsteps: [1, 100]\nholdback: 0\n"])
def test_the_schema_accepts_what_the_parser_accepts(text: str) -> None:
    parse(text)

    SCHEMA.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "line",
    [
        "stepps: [5%]",
        "mode: watch",
        "trigger: {}",
        "steps: [0.05, 100%]",
        "steps: [0%, 100%]",
        "steps: [101%]",
        "steps: [{traffic: 5%, approve: {}}, 100%]",
        "steps: [{bake: 10m}, 100%]",
        "steps: [{mirror_traffic: 51%}, 100%]",
        "bake: 15",
        "bake: 15 minutes",
        "holdback: 30%",
        "checks: {error_rate: {max_increase: 0.5%}}",
        "checks: {error_rate: {max_increase: 0.005}}",
        "checks: {latency_p95: {max_increase: 25pp}}",
        "checks: {latency_p95: {max: 800}}",
        "checks: {latency_p95: on}",
        "checks: {latency_p95: null}",
        "checks: {custom: {}}",
        "when: {suspicion: panic}",
        "when: pause",
        "alerts: team-ml",
        "endpoint_name: a",
        "min_requests: 0",
        "min_requests: '5'",
        "expert: {early: 'yes'}",
        "expert: {harm_budget: 2.5}",
        "checks: {latency_p95: {dry_run: 'yes'}}",
        "checks: {error_rate: {on_regression: retreat}}",
        "checks: {answer_size: {max_change: 1}}",
        "checks: {answer_size: {on_regression: pause}}",
        "runbook: wiki",
        "deadline: null",
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(line: str) -> None:
    text = "endpoint_name: diners\n" * (not line.startswith("endpoint_name")) + line + "\n"

    with pytest.raises(PolicyError):
        parse(text)
    assert not SCHEMA.is_valid(yaml.safe_load(text))


# --- the worked examples -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_worked_examples_are_right(path: Path) -> None:
    policy = parse_policy(path.read_text(), file=path.name, files=Beside(POLICIES))

    assert policy.endpoint_name in {"restaurant-recommender", "recommender-weu"}
    assert policy.alerts == ("team-ml",)
    SCHEMA.validate(read(path.read_text(), file=path.name).value)  # as editors read it: a day is text


def test_the_worked_examples_are_all_there() -> None:
    assert {"approval", "canary", "kubernetes", "low-traffic", "two-lines"} <= {path.stem for path in EXAMPLES}
