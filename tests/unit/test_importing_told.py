"""Importing, word for word: what an author is told of names, places and numbers that become something else."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollout.errors import PolicyError
from rollout.policy import Policy, parse_policy
from rollout.policy.importing import Tool, convert
from rollout.policy.importing.node import MAX_DOCUMENTS

FIXTURES = Path(__file__).parent / "fixtures" / "importing"
ROLLOUT = "kind: Rollout\nmetadata: {name: app-one}\nspec: {strategy: {canary: {steps: [{setWeight: 10}]}}}\n"


def imported(text: str, *, tool: Tool = "argo", **changes: Any) -> tuple[Policy, tuple[str, ...]]:
    """The policy, and the notes."""
    found = convert(text, tool=tool, file="theirs.yaml", **changes)
    return parse_policy(found.text, file="ours.yaml"), found.notes


def refused(text: str, *, tool: Tool = "argo", **changes: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        convert(text, tool=tool, file="theirs.yaml", **changes)
    return caught.value.message


# --- names


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("a" * 40, "a" * 32),
        ("a" * 31 + "-bc", "a" * 31),
        ("shop.eu/recommender", "shop-eu-recommender"),
        ("shop--eu", "shop-eu"),
        ("-shop-", "shop"),
        ("2024-shop", "shop"),
        ("abc", "abc"),
        ("ab", "my-endpoint"),
        ("_.", "my-endpoint"),
    ],
)
def test_a_name_becomes_one_that_an_endpoint_may_have(theirs: str, ours: str) -> None:
    policy, _ = imported(ROLLOUT.replace("app-one", f"'{theirs}'"))
    assert policy.endpoint_name == ours


@pytest.mark.parametrize("name", ["Abc", "a-1", "Zed-" + "9" * 28])
def test_an_endpoint_s_own_name_is_taken_as_it_is(name: str) -> None:
    found = convert(ROLLOUT, tool="argo", file="theirs.yaml", endpoint=name)
    assert f"\nendpoint_name: {name}\n" in found.text  # and nothing is said of where it comes from


@pytest.mark.parametrize("name", ["ab", "1abc", "a_bc"])
def test_what_is_no_name_of_an_endpoint_is_refused(name: str) -> None:
    assert refused(ROLLOUT, endpoint=name) == (
        f'"{name}" is no name of an endpoint: write letters, digits and single dashes.'
    )


# --- documents


def test_a_file_of_nothing_is_told_with_its_place() -> None:
    assert refused("# to do\n---\n# and this\n") == "theirs.yaml:1:1: the file is empty."


def test_a_file_of_very_many_documents_is_refused() -> None:
    others = "---\nkind: Service\n"
    policy, _ = imported(ROLLOUT + others * (MAX_DOCUMENTS - 1))
    assert policy.endpoint_name == "app-one"
    assert refused(ROLLOUT + others * MAX_DOCUMENTS) == (
        "theirs.yaml: more than 100 documents: give the one to convert."
    )


def test_a_place_counts_the_lines_of_the_documents_before_it() -> None:
    text = "kind: Service\n--- # the next\n" + ROLLOUT.replace("10", "110")
    assert refused(text).startswith("theirs.yaml:5:48: spec.strategy.canary.steps[0].setWeight: 110 is not a weight")


def test_objects_in_a_list_are_found() -> None:
    text = yaml.safe_dump({"kind": "List", "items": [{"kind": "Service"}, yaml.safe_load(ROLLOUT)]})
    assert imported(text)[0].endpoint_name == "app-one"
    assert "there is no Rollout in this file" in refused("kind: List\n")


def test_json_may_be_indented_with_tabs() -> None:
    text = json.dumps(yaml.safe_load(ROLLOUT), indent="\t")
    assert imported(text)[0].steps == imported(ROLLOUT)[0].steps
    assert imported(f"\n {text}")[0].steps == imported(ROLLOUT)[0].steps


def test_the_file_says_which_one_it_was_made_from() -> None:
    first = convert(ROLLOUT, tool="argo", file="theirs.yaml").text.splitlines()[0]
    assert first.startswith("# Converted from theirs.yaml by `rollout import --from argo`; look it through.")


def test_a_file_s_name_is_never_broken_in_two() -> None:
    name = f"{'canary-' * 14}one.yaml"
    assert name in convert(ROLLOUT, tool="argo", file=name).text


# --- what has no counterpart


@pytest.mark.parametrize(
    "name",
    [
        "argo-odd.yaml",
        "argo-bluegreen.yaml",
        "flagger-odd.yaml",
        "flagger-iterations.yaml",
        "sagemaker-odd.json",
        "sagemaker-all-at-once.json",
    ],
)
def test_everything_that_has_no_counterpart_is_told_word_for_word(name: str) -> None:
    stem = name.partition(".")[0]
    tool: Any = stem.partition("-")[0]
    found = convert((FIXTURES / name).read_text(), tool=tool, file=name)
    assert found.text == (FIXTURES / f"{stem}.policy.yaml").read_text()
    assert "".join(f"{note}\n" for note in found.notes) == (FIXTURES / f"{stem}.notes").read_text()


def argo(canary: str) -> str:
    return f"kind: Rollout\nspec: {{strategy: {{canary: {canary}}}}}\n"


def flagger(spec: str) -> str:
    return f"kind: Canary\nspec: {spec}\n"


def sagemaker(kind: str = "CANARY", size: str = '{"Type": "CAPACITY_PERCENT", "Value": 10}') -> str:
    routing = f'{{"Type": "{kind}", "CanarySize": {size}}}'
    return f'{{"BlueGreenUpdatePolicy": {{"TrafficRoutingConfiguration": {routing}}}}}'


@pytest.mark.parametrize(
    ("tool", "text", "told"),
    [
        (
            "argo",
            "kind: Service\n",
            "1:1: there is no Rollout in this file: give the one that has the steps, with its AnalysisTemplates",
        ),
        (
            "argo",
            f"{ROLLOUT}---\n{ROLLOUT}",
            "5:1: a second Rollout: a policy is for one endpoint, so give one at a time",
        ),
        ("argo", "kind: Rollout\nspec: {}\n", "2:7: spec: has no `strategy`: this is not a file that can be converted"),
        (
            "argo",
            "kind: Rollout\nspec: {strategy: {}}\n",
            "2:18: spec.strategy: has neither `canary` nor `blueGreen`",
        ),
        (
            "argo",
            argo("{trafficRouting: {maxTrafficWeight: 0}}"),
            "2:63: spec.strategy.canary.trafficRouting.maxTrafficWeight: 0 is not a whole number from 1 up",
        ),
        (
            "argo",
            argo("{trafficRouting: {maxTrafficWeight: 1.5}}"),
            "2:63: spec.strategy.canary.trafficRouting.maxTrafficWeight: 1.5 is not a whole number from 1 up",
        ),
        (
            "argo",
            argo("{steps: [{setWeight: -1}]}"),
            "2:48: spec.strategy.canary.steps[0].setWeight: -1 is not a weight between 0 and 100",
        ),
        (
            "argo",
            argo("{steps: [{setWeight: true}]}"),
            "2:48: spec.strategy.canary.steps[0].setWeight: true cannot stand here: a number is expected",
        ),
        ("argo", argo("{steps: 3}"), "2:35: spec.strategy.canary.steps: 3 cannot stand here: a list is expected"),
        (
            "argo",
            argo("{steps: [{pause: {duration: 366d}}]}"),
            '2:55: spec.strategy.canary.steps[0].pause.duration: "366d" is not a duration between 0 and a year',
        ),
        (
            "argo",
            argo("{steps: [{pause: {duration: 5w}}]}"),
            '2:55: spec.strategy.canary.steps[0].pause.duration: "5w" is not a duration such as 10m, 30s, or seconds',
        ),
        (
            "argo",
            "kind: Rollout\nmetadata: {name: [a]}\nspec: {strategy: {}}\n",
            "2:18: metadata.name: a list cannot stand here: text is expected",
        ),
        (
            "argo",
            "kind: Rollout\nspec: {strategy: {blueGreen: {autoPromotionEnabled: 1}}}\n",
            "2:53: spec.strategy.blueGreen.autoPromotionEnabled: 1 cannot stand here: true or false is expected",
        ),
        ("flagger", "kind: Service\n", "1:1: there is no Canary in this file"),
        (
            "flagger",
            flagger("{}") + "---\nkind: Canary\n",
            "4:1: a second Canary: a policy is for one endpoint, so give one at a time",
        ),
        (
            "flagger",
            flagger("{targetRef: {name: shop}}"),
            "2:7: spec: has no `analysis`: this is not a Canary that can be converted",
        ),
        (
            "flagger",
            flagger("{analysis: {iterations: 10001}}"),
            "2:31: spec.analysis.iterations: 10001 is not a whole number from 1 up",
        ),
        (
            "flagger",
            flagger("{analysis: {iterations: 1.5}}"),
            "2:31: spec.analysis.iterations: 1.5 is not a whole number from 1 up",
        ),
        (
            "flagger",
            flagger("{analysis: {stepWeight: 101}}"),
            "2:31: spec.analysis.stepWeight: 101 is not a whole percent between 0 and 100",
        ),
        ("sagemaker", "[1]", "1:1: this is no JSON object: a DeploymentConfig is expected"),
        (
            "sagemaker",
            "{}",
            "1:1: there is no DeploymentConfig with a BlueGreenUpdatePolicy or a RollingUpdatePolicy in this file",
        ),
        (
            "sagemaker",
            sagemaker("SLOWLY"),
            '1:68: BlueGreenUpdatePolicy.TrafficRoutingConfiguration.Type: "SLOWLY" is none of ALL_AT_ONCE, CANARY and LINEAR',
        ),
        (
            "sagemaker",
            sagemaker(size='{"Type": "ODD", "Value": 1}'),
            (
                "1:101: BlueGreenUpdatePolicy.TrafficRoutingConfiguration.CanarySize.Type: "
                '"ODD" is none of INSTANCE_COUNT and CAPACITY_PERCENT'
            ),
        ),
        (
            "sagemaker",
            sagemaker(size='{"Type": "CAPACITY_PERCENT", "Value": 0}'),
            "1:130: BlueGreenUpdatePolicy.TrafficRoutingConfiguration.CanarySize.Value: 0 % of the traffic is no step",
        ),
    ],
)
def test_what_is_no_file_of_the_tool_is_told_word_for_word(tool: Tool, text: str, told: str) -> None:
    assert refused(text, tool=tool) == f"theirs.yaml:{told}"


def test_a_pause_may_last_a_year_as_far_as_the_file_goes() -> None:
    text = argo("{steps: [{setWeight: 10}, {pause: {duration: 365d}}]}")
    _, notes = imported(text)
    assert any("is longer than the longest bake" in note for note in notes)


def test_a_canary_without_fields_goes_to_the_end_at_once() -> None:
    policy, notes = imported("kind: Rollout\nspec: {strategy: {canary: }}\n")
    assert ([step.traffic for step in policy.steps], notes) == ([100], ())


def test_a_name_that_is_made_elsewhere_is_left_to_the_author() -> None:
    """CloudFormation may write `EndpointName: {Ref: …}`."""
    config = json.loads(sagemaker())
    for name, ours in (("reco", "reco"), ({"Ref": "Name"}, "my-endpoint")):
        properties = {"EndpointName": name, "DeploymentConfig": config}
        resources = {"Other": {"Type": "AWS::S3::Bucket"}, "E": {"Type": "AWS::SageMaker::Endpoint"}}
        resources["E"]["Properties"] = properties  # type: ignore[assignment]
        assert imported(json.dumps({"Resources": resources}), tool="sagemaker")[0].endpoint_name == ours


def test_approvals_that_were_thinned_out_are_counted() -> None:
    steps = ", ".join(f"{{pause: {{}}}}, {{setWeight: {share}}}" for share in range(1, 41))
    policy, notes = imported(argo(f"{{steps: [{steps}]}}"))
    asked = sum(step.approve is not None for step in policy.steps)
    assert len(policy.steps) + asked <= 50
    assert notes == (
        "41 steps: a policy has at most 50, so they were thinned out evenly",
        f"{40 - asked} approvals: they stood before steps that were thinned out",
    )


# --- numbers at the edge


@pytest.mark.parametrize(("share", "holdback"), [(94, 5), (95, 5), (96, 4), (99, 1)])
def test_only_a_share_that_the_holdback_does_not_leave_makes_it_smaller(share: int, holdback: int) -> None:
    policy, notes = imported(argo(f"{{steps: [{{setWeight: {share}}}]}}"))
    assert (policy.steps[0].traffic, policy.holdback, len(notes)) == (share, holdback, int(holdback < 5))


@pytest.mark.parametrize(
    ("days", "bakes", "noted"),
    [
        ((7, 7, 7, 2), (7, 7, 7, 2, 7), False),
        ((7, 7, 7, 2.1), (6, 6, 6, 2.1, 6), True),
    ],
)
def test_thirty_days_are_the_longest_rollout(days: tuple[float, ...], bakes: tuple[float, ...], noted: bool) -> None:
    weights = [*range(10, 10 * len(days) + 1, 10), 100]
    steps = ", ".join(
        f"{{setWeight: {weight}}}, {{pause: {{duration: {round(1440 * length)}m}}}}"
        for weight, length in zip(weights, [*days, 7], strict=True)
    )
    policy, notes = imported(argo(f"{{steps: [{steps}]}}"))
    assert [step.bake.total_seconds() / 86400 for step in policy.steps] == pytest.approx(bakes)
    assert policy.deadline.days == 30
    assert notes == (("the steps last 30d2h24m in all: at most 6d each, here",) if noted else ())


def test_a_bound_of_another_check_is_written_with_the_margin_of_its_kind() -> None:
    text = "kind: Canary\nspec: {analysis: {metrics: [{name: p50, query: histogram_quantile(0.5), threshold: 1}]}}\n"
    found = convert(text, tool="flagger", file="theirs.yaml").text
    assert "\n  latency_p50: {max_increase: 25%, max: 1000ms} # p50: max 1\n" in found
