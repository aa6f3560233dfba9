"""Importing: the files of other tools become policies, and what does not is told."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.errors import PolicyError
from rollout.policy import Policy, parse_policy
from rollout.policy.importing import TOOLS, Imported, Tool, convert

FIXTURES = Path(__file__).parent / "fixtures" / "importing"
PLACE = re.compile(r"^[^:\n]+:\d+:\d+: ", re.MULTILINE)


def imported(tool: Tool, text: str, **changes: Any) -> tuple[Policy, str]:
    """The policy, and the notes."""
    found = convert(text, tool=tool, file="theirs.yaml", **changes)
    return parse_policy(found.text, file="ours.yaml"), "\n".join(found.notes)


def steps(policy: Policy) -> list[tuple[int, int, bool]]:
    """Share, minutes, and whether it waits for an approval."""
    return [(step.traffic, round(step.bake.total_seconds() / 60), step.approve is not None) for step in policy.steps]


def argo(*lines: str, **metric: Any) -> str:
    """A Rollout with these steps, and one metric."""
    listed = "\n".join(f"      - {line}" for line in lines)
    head = "kind: Rollout\nmetadata: {name: app-one}\nspec:\n  strategy:\n    canary:\n      steps:\n"
    rollout = head + (listed or "        []") + "\n"
    if not metric:
        return rollout
    template = {"kind": "AnalysisTemplate", "metadata": {"name": "t"}, "spec": {"metrics": [{"name": "m", **metric}]}}
    return f"{rollout}---\n{yaml.safe_dump(template)}"


def by_query(condition: str, query: str) -> dict[str, Any]:
    """A metric that only its query tells the meaning of."""
    return {"name": "m", "successCondition": condition, "provider": {"prometheus": {"query": query}}}


def flagger(**analysis: Any) -> str:
    canary = {"kind": "Canary", "spec": {"targetRef": {"name": "podinfo"}, "analysis": analysis}}
    return yaml.safe_dump(canary)


def sagemaker(kind: str = "CANARY", **policy: Any) -> str:
    size = {"Type": "CAPACITY_PERCENT", "Value": 10}
    routing = {"Type": kind, "CanarySize": size, "LinearStepSize": size, "WaitIntervalInSeconds": 600}
    given: dict[str, Any] = {"TrafficRoutingConfiguration": routing | policy.pop("routing", {})}
    return json.dumps({"BlueGreenUpdatePolicy": given | policy}, indent="\t")


# --- the tools' own examples


@pytest.mark.parametrize(
    ("tool", "name"), [("argo", "argo.yaml"), ("flagger", "flagger.yaml"), ("sagemaker", "sagemaker.json")]
)
def test_an_example_of_the_tool_s_documentation_is_converted_as_written(tool: Tool, name: str) -> None:
    found: Imported = convert((FIXTURES / name).read_text(), tool=tool, file=name)
    notes = "".join(f"{note}\n" for note in found.notes)
    assert found.text == (FIXTURES / f"{tool}.policy.yaml").read_text()
    assert notes == (FIXTURES / f"{tool}.notes").read_text()
    parse_policy(found.text, file="ours.yaml")
    assert max(map(len, found.text.splitlines())) <= 132


# --- Argo Rollouts


def test_weights_and_pauses_are_steps_and_bakes() -> None:
    text = argo(
        "setWeight: 5", "pause: {duration: 1h}", "setWeight: 50", "pause: {duration: 10m}", "pause: {duration: 300}"
    )
    policy, notes = imported("argo", text)
    assert policy.endpoint_name == "app-one"
    assert steps(policy) == [(5, 60, False), (50, 15, False), (100, 30, False)]
    assert notes == ""


@pytest.mark.parametrize("pause", ["pause: {}", "pause:", "pause: {duration: null}"])
def test_a_pause_without_an_end_is_an_approval(pause: str) -> None:
    assert steps(imported("argo", argo(pause, "setWeight: 10", "setWeight: 20", pause))[0]) == [
        (10, 15, True),
        (20, 15, False),
        (100, 30, True),
    ]


def test_shares_that_fall_or_stay_are_told() -> None:
    text = argo("setWeight: 40", "pause: {duration: 5m}", "setWeight: 20", "setWeight: 40", "pause: {duration: 5m}")
    policy, notes = imported("argo", text)
    assert steps(policy) == [(40, 10, False), (100, 30, False)]
    assert "the share of 20%: shares rise in a policy" in notes


def test_almost_everything_makes_the_holdback_smaller() -> None:
    policy, notes = imported("argo", argo("setWeight: 98"))
    assert (policy.holdback, steps(policy)[0][0]) == (2, 98)
    assert "98% leaves 2% on stable" in notes


def test_finer_weights_become_percents() -> None:
    text = argo("setWeight: 55").replace("      steps:", "      trafficRouting: {maxTrafficWeight: 1000}\n      steps:")
    policy, notes = imported("argo", text)
    assert steps(policy)[0][0] == 6
    assert "55 of 1000 became 6%" in notes


@pytest.mark.parametrize(
    ("metric", "check", "most"),
    [
        ({"name": "success-rate", "successCondition": "result[0] >= 0.95"}, "error_rate", 0.05),
        ({"name": "success-rate", "successCondition": "result >= 99.5"}, "error_rate", 0.005),
        ({"name": "success-rate", "failureCondition": "result[0] < 0.9"}, "error_rate", 0.1),
        ({"name": "error-rate", "successCondition": "isNaN(result[0]) || result[0] <= 0.02"}, "error_rate", 0.02),
        ({"name": "error-rate", "failureCondition": "default(result[0], 0) > 5"}, "error_rate", 0.05),
        ({"name": "latency-p99", "successCondition": "result[0] < 0.5"}, "latency_p99", 500),
        ({"name": "latency", "successCondition": "result[0] <= 250"}, "latency_p95", 250),
        (by_query("result[0] <= 80", "histogram_quantile(0.5, x_ms)"), "latency_p50", 80),
        (by_query("result[0] >= 0.99", 'sum(duration_count{code!~"5.."})/sum(x)'), "error_rate", 0.01),
    ],
)
def test_an_absolute_threshold_is_a_max(metric: dict[str, Any], check: str, most: float) -> None:
    policy, _ = imported("argo", argo("setWeight: 10", **metric))
    assert policy.checks.active()[check].max == pytest.approx(most)


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ({"name": "success-rate", "successCondition": "result[0] <= 0.95"}, "it bounds from the wrong side"),
        ({"name": "success-rate", "successCondition": "result[0] >= 1"}, "no error at all is no bound"),
        ({"name": "error-rate", "successCondition": "result[0] <= 1"}, "every answer may be an error"),
        ({"name": "error-rate", "successCondition": "result[0] <= 400"}, "that is no share of requests"),
        ({"name": "latency", "successCondition": "result[0] >= 3"}, "a latency is bounded from above"),
        ({"name": "latency", "successCondition": "result[0] <= 0"}, "is no latency that a policy can bound"),
        ({"name": "latency-p90", "successCondition": "result[0] <= 1"}, "its quantile 0.9 is judged as p95"),
        ({"name": "queue", "successCondition": "result[0] <= 1"}, "neither a rate of errors nor a latency"),
        ({"name": "a", "successCondition": "result[0] > 1 && result[1] < 3"}, "is more than one comparison"),
        ({"name": "a", "successCondition": "asInt(result) == 200"}, "is more than one comparison"),
        ({"name": "job", "provider": {"job": {}}}, "has no condition that compares a number"),
        ({"name": "a", "count": 5, "successCondition": "result < 1"}, "every minute of the bake is judged"),
    ],
)
def test_a_threshold_that_no_check_can_keep_is_told(metric: dict[str, Any], told: str) -> None:
    _, notes = imported("argo", argo("setWeight: 10", **metric))
    assert told in notes
    assert re.search(r"theirs\.yaml:\d+: ", notes)


def test_dry_runs_decide_nothing() -> None:
    text = argo("setWeight: 10", name="latency", successCondition="result[0] < 1").replace(
        "spec:\n  metrics", "spec:\n  dryRun: [{metricName: latency}]\n  metrics"
    )
    policy, notes = imported("argo", text)
    assert policy.checks.latency_p95.max is None
    assert '"latency" is a dry run' in notes


def test_a_template_of_the_whole_cluster_counts_too() -> None:
    own = argo("setWeight: 10", name="error-rate", successCondition="result[0] < 0.05")
    policy, _ = imported("argo", own.replace("AnalysisTemplate", "ClusterAnalysisTemplate"))
    assert policy.checks.error_rate.max == imported("argo", own)[0].checks.error_rate.max == 0.05


def test_templates_that_are_elsewhere_are_named() -> None:
    text = argo("setWeight: 10", "analysis: {templates: [{templateName: success-rate}]}")
    _, notes = imported("argo", text)
    assert "the AnalysisTemplates success-rate are not in this file" in notes
    assert "every step is judged while it bakes" in notes


def test_blue_green_is_one_step_after_an_approval() -> None:
    text = "kind: Rollout\nspec: {strategy: {blueGreen: {activeService: a, autoPromotionEnabled: false}}}\n"
    policy, notes = imported("argo", text, endpoint="recommender")
    assert (policy.endpoint_name, steps(policy)) == ("recommender", [(100, 30, True)])
    assert "think of a small step before it" in notes


# --- Flagger


def test_one_weight_after_the_other() -> None:
    policy, _ = imported("flagger", flagger(interval="10m", stepWeight=20, maxWeight=50))
    assert steps(policy) == [(20, 10, False), (40, 10, False), (50, 10, False), (100, 30, False)]
    policy, notes = imported("flagger", flagger(interval="30s", stepWeights=[1, 2, 10, 80]))
    assert [traffic for traffic, *_ in steps(policy)] == [1, 2, 10, 80, 100]
    assert "30s became a bake of 1m" in notes


def test_very_many_steps_are_thinned_out() -> None:
    policy, notes = imported("flagger", flagger(stepWeight=1))
    assert len(policy.steps) == 50
    assert policy.steps[-1].traffic == 100
    assert "100 steps: a policy has at most 50" in notes


def test_long_bakes_bring_a_longer_deadline() -> None:
    policy, _ = imported("flagger", flagger(interval="3h", stepWeight=25))
    assert policy.deadline.total_seconds() == 2 * (4 * 3) * 3600
    policy, notes = imported("flagger", flagger(interval="7d", stepWeight=10))
    assert policy.deadline.days == 30
    assert "the steps last" in notes


@pytest.mark.parametrize(
    ("metric", "check", "most"),
    [
        ({"name": "request-success-rate", "thresholdRange": {"min": 99}}, "error_rate", 0.01),
        ({"name": "request-success-rate", "threshold": 99.9}, "error_rate", 0.001),
        ({"name": "request-duration", "thresholdRange": {"max": 500}}, "latency_p99", 500),
        ({"name": "error rate", "templateRef": {"name": "x"}, "thresholdRange": {"max": 2}}, "error_rate", 0.02),
    ],
)
def test_ranges_are_maxima(metric: dict[str, Any], check: str, most: float) -> None:
    policy, _ = imported("flagger", flagger(stepWeight=50, metrics=[metric]))
    assert policy.checks.active()[check].max == pytest.approx(most)


# --- SageMaker


def test_guardrails_are_steps() -> None:
    assert steps(imported("sagemaker", sagemaker())[0]) == [(10, 10, False), (100, 30, False)]
    policy, notes = imported("sagemaker", sagemaker("LINEAR", TerminationWaitInSeconds=1200))
    assert [traffic for traffic, *_ in steps(policy)] == [*range(10, 100, 10), 100]
    assert steps(policy)[-1] == (100, 20, False)
    assert policy.endpoint_name == "my-endpoint"
    assert "SageMaker would never roll back" in notes
    assert steps(imported("sagemaker", sagemaker("ALL_AT_ONCE"))[0]) == [(100, 30, False)]


def test_sizes_in_instances_are_guessed_and_told() -> None:
    policy, notes = imported("sagemaker", sagemaker(routing={"CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1}}))
    assert steps(policy)[0][0] == 10
    assert "of a number that is not in the file: taken for 10%" in notes


def test_a_deadline_that_is_too_short_is_told() -> None:
    policy, notes = imported("sagemaker", sagemaker("LINEAR", MaximumExecutionTimeoutInSeconds=600))
    assert policy.deadline.total_seconds() == 8 * 3600
    assert "the deadline of 10m: the bakes alone take" in notes


def test_a_cloudformation_template_is_read_too() -> None:
    properties = {"EndpointName": "reco", "DeploymentConfig": json.loads(sagemaker())}
    text = yaml.safe_dump({"Resources": {"E": {"Type": "AWS::SageMaker::Endpoint", "Properties": properties}}})
    policy, _ = imported("sagemaker", text)
    assert (policy.endpoint_name, steps(policy)[0][0]) == ("reco", 10)


def test_batches_are_steps() -> None:
    batch = {"Type": "CAPACITY_PERCENT", "Value": 50}
    text = json.dumps({"RollingUpdatePolicy": {"MaximumBatchSize": batch, "WaitIntervalInSeconds": 60}})
    assert steps(imported("sagemaker", text)[0]) == [(50, 1, False), (100, 30, False)]


# --- what is no such file


@pytest.mark.parametrize(
    ("tool", "text", "told"),
    [
        ("argo", "", "theirs.yaml:1:1: the file is empty"),
        ("argo", "kind: Service\n", "theirs.yaml:1:1: there is no Rollout in this file"),
        ("argo", "a: {\n", "theirs.yaml:"),
        ("argo", "a: 1\n---\nb: [\n", "theirs.yaml:3:"),
        ("argo", argo("setWeight: many"), 'theirs.yaml:7:20: spec.strategy.canary.steps[0].setWeight: "many" cannot'),
        ("argo", argo("setWeight: 101"), "is not a weight between 0 and 100"),
        ("argo", argo("setWeight: 1", "pause: {duration: soon}"), '"soon" is not a duration'),
        ("argo", argo("setWeight: 1") + "---\n" + argo("setWeight: 2"), "theirs.yaml:9:1: a second Rollout"),
        ("argo", "kind: Rollout\nspec: {strategy: {}}", "neither `canary` nor `blueGreen`"),
        ("argo", "kind: Rollout\nspec: 3", "theirs.yaml:2:7: spec: 3 cannot stand here"),
        ("flagger", "kind: Canary\nspec: {}", "has no `analysis`"),
        ("flagger", flagger(stepWeight=0.5), "is not a whole percent"),
        ("flagger", flagger(iterations=-1), "is not a whole number from 1 up"),
        ("sagemaker", "[]", "this is no JSON object"),
        ("sagemaker", "{}", "there is no DeploymentConfig"),
        ("sagemaker", sagemaker("SLOWLY"), "is none of ALL_AT_ONCE, CANARY and LINEAR"),
    ],
)
def test_what_cannot_be_converted_is_told_with_its_place(tool: Tool, text: str, told: str) -> None:
    with pytest.raises(PolicyError) as error:
        convert(text, tool=tool, file="theirs.yaml")
    assert told in error.value.message
    assert PLACE.search(error.value.message)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(PolicyError, match="no name of an endpoint"):
        convert(argo("setWeight: 1"), tool="argo", file="x", endpoint="a\nb: c")


# --- whatever comes

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.floats(-1, 1e12, allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(["10m", "90s", "1h30m", "5", "99%", "result[0] >= 0.95", "result > 5", "CANARY", "LINEAR"]),
)
KEYS = """
kind metadata name spec strategy canary blueGreen steps setWeight pause duration analysis templates templateName
metrics successCondition failureCondition provider prometheus query count failureLimit dryRun metricName trafficRouting
maxTrafficWeight autoPromotionEnabled targetRef interval stepWeight stepWeights maxWeight iterations threshold
thresholdRange min max webhooks type skipAnalysis templateRef BlueGreenUpdatePolicy TrafficRoutingConfiguration Type
CanarySize LinearStepSize Value WaitIntervalInSeconds TerminationWaitInSeconds MaximumExecutionTimeoutInSeconds
AutoRollbackConfiguration Alarms AlarmName DeploymentConfig EndpointName Resources Properties
"""
_WORDS = st.sampled_from(KEYS.split())
_ANY = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=5), max_leaves=20
)
_METRICS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["success-rate", "error-rate", "latency", "p99", "request-duration", "x"])
            | st.text()
        },
        optional={
            "successCondition": st.builds(
                "result[0] {} {}".format, st.sampled_from(["<", ">=", "=="]), st.floats(0, 1e6)
            )
            | _LEAVES,
            "thresholdRange": st.dictionaries(st.sampled_from(["min", "max"]), _LEAVES, max_size=2),
            "failureLimit": _LEAVES,
        },
    ),
    max_size=3,
)
_STEP = st.one_of(
    st.fixed_dictionaries({"setWeight": st.integers(0, 100)}),
    st.fixed_dictionaries({"pause": st.just({}) | st.fixed_dictionaries({"duration": st.integers(0, 10**7)})}),
    st.fixed_dictionaries({"pause": _ANY}),
    _ANY,
)
_ARGO = st.fixed_dictionaries(
    {
        "kind": st.just("Rollout"),
        "metadata": st.fixed_dictionaries({"name": st.text() | st.just("true")}),
        "spec": st.fixed_dictionaries(
            {
                "strategy": st.fixed_dictionaries(
                    {"canary": st.fixed_dictionaries({"steps": st.lists(_STEP, max_size=70)})}
                )
            }
        ),
    }
)
_TEMPLATE = st.fixed_dictionaries(
    {"kind": st.just("AnalysisTemplate"), "spec": st.fixed_dictionaries({"metrics": _METRICS})}
)
_FLAGGER = st.fixed_dictionaries(
    {
        "kind": st.just("Canary"),
        "spec": st.fixed_dictionaries(
            {
                "targetRef": st.fixed_dictionaries({"name": st.text()}),
                "analysis": st.fixed_dictionaries(
                    {"metrics": _METRICS},
                    optional={
                        "interval": _LEAVES,
                        "stepWeight": st.integers(0, 100) | _LEAVES,
                        "maxWeight": st.integers(0, 100),
                        "stepWeights": st.lists(st.integers(0, 100), max_size=80),
                        "iterations": _LEAVES,
                        "webhooks": st.lists(
                            st.fixed_dictionaries(
                                {"type": st.sampled_from(["confirm-rollout", "confirm-promotion", "x"])}
                            )
                        ),
                    },
                ),
            }
        ),
    }
)
_SIZE = st.fixed_dictionaries(
    {"Type": st.sampled_from(["INSTANCE_COUNT", "CAPACITY_PERCENT"]), "Value": st.integers(0, 101)}
)
_SAGEMAKER = st.fixed_dictionaries(
    {
        "BlueGreenUpdatePolicy": st.fixed_dictionaries(
            {
                "TrafficRoutingConfiguration": st.fixed_dictionaries(
                    {
                        "Type": st.sampled_from(["CANARY", "LINEAR", "ALL_AT_ONCE"]),
                        "CanarySize": _SIZE,
                        "LinearStepSize": _SIZE,
                    },
                    optional={"WaitIntervalInSeconds": st.integers(0, 10**7) | _LEAVES},
                )
            },
            optional={
                "TerminationWaitInSeconds": st.integers(0, 10**7) | _LEAVES,
                "MaximumExecutionTimeoutInSeconds": st.integers(0, 10**7) | _LEAVES,
            },
        )
    }
)


def told(tool: Tool, text: str) -> str | None:
    """The mistakes; None where it becomes a policy, which then has none."""
    try:
        found = convert(text, tool=tool, file="theirs.yaml")
    except PolicyError as error:
        return error.message
    parse_policy(found.text, file="ours.yaml")
    assert all("\n" not in note for note in found.notes)
    return None


def check(tool: Tool, text: str) -> None:
    """A policy without mistakes, or mistakes with their places in the file."""
    for line in (told(tool, text) or "").splitlines():
        assert PLACE.match(line), line
        assert line.startswith("theirs.yaml:"), line


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60) | st.lists(_ANY, min_size=1, max_size=3).map(yaml.safe_dump_all))
def test_anything_becomes_a_policy_or_a_mistake(tool: Tool, text: str) -> None:
    check(tool, text)


@settings(max_examples=150, deadline=None)
@given(_ARGO, _TEMPLATE)
def test_any_rollout_becomes_a_policy_or_a_mistake(rollout: dict[str, Any], template: dict[str, Any]) -> None:
    check("argo", yaml.safe_dump_all([rollout, template], allow_unicode=True))


@settings(max_examples=150, deadline=None)
@given(_FLAGGER)
def test_any_canary_becomes_a_policy_or_a_mistake(canary: dict[str, Any]) -> None:
    check("flagger", yaml.safe_dump(canary, allow_unicode=True))


@settings(max_examples=150, deadline=None)
@given(_SAGEMAKER)
def test_any_guardrail_becomes_a_policy_or_a_mistake(config: dict[str, Any]) -> None:
    check("sagemaker", json.dumps(config))
