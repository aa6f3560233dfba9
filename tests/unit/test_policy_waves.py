"""Waves in a policy: what they mean for each endpoint, and every mistake at its place."""

from datetime import timedelta

import jsonschema
import pytest
import yaml

from rollout.errors import PolicyError
from rollout.policy import effective_yaml, first_of, json_schema, parse_policy, policy_of

GOOD = """\
name: everywhere
workspace: prod
candidate: green
waves:
  order:
    - [rec-weu]
    - [rec-neu, {endpoint_name: rec-eus, workspace: eastus, stable: old, candidate: red}]
  between: 2h
"""


def mistakes(text: str, **files: str) -> list[str]:
    with pytest.raises(PolicyError) as refused:
        parse_policy(text, file="w.yaml", files=files.__getitem__)
    return [str(mistake) for mistake in refused.value.mistakes]


def test_each_endpoint_has_a_policy_of_its_own() -> None:
    policy = parse_policy(GOOD, file="w.yaml")
    assert policy.waves is not None
    assert policy.waves.between == timedelta(hours=2)
    assert policy.waves.on_regression == "stop"
    one, two, three = (policy_of(policy, target) for target in policy.waves.targets())
    assert (one.endpoint_name, one.workspace, one.stable, one.candidate) == ("rec-weu", "prod", None, "green")
    assert (two.endpoint_name, two.waves, two.name) == ("rec-neu", None, "everywhere")
    assert (three.workspace, three.stable, three.candidate) == ("eastus", "old", "red")
    assert first_of(policy) == one
    assert first_of(one) is one


def test_what_is_written_is_read_back() -> None:
    policy = parse_policy(GOOD, file="w.yaml")
    assert parse_policy(effective_yaml(policy), file="again.yaml") == policy
    jsonschema.validate(yaml.safe_load(GOOD), json_schema())


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("name: everywhere\n", "", "w.yaml:1:1: name: a policy with waves has no endpoint to be called after"),
        (
            "name: everywhere",
            "name: e\nendpoint_name: rec",
            "w.yaml:2:16: endpoint_name: the endpoints stand in `waves`",
        ),
        ("name: everywhere", "name: e\nmode: observe", "w.yaml:2:7: mode: waves move traffic: write `mode: act`"),
        ("[rec-neu,", "[rec-weu,", 'w.yaml:7:8: waves.order[1][0].endpoint_name: "rec-weu" stands in the waves twice'),
        ("    - [rec-weu]", "    - []", "w.yaml:6:7: waves.order[0]: has no endpoint: name one"),
        ("between: 2h", "between: 99d", "w.yaml:8:12: waves.between: 99d is too long"),
        (
            "stable: old",
            "stable: red",
            'waves.order[1][1].candidate: "red" would be both stable and candidate of rec-eus',
        ),
        ("  order:\n", "", "waves: is a list: write the waves below `order:`"),
        ("  between: 2h", "  on_regression: undo", 'w.yaml:8:18: waves.on_regression: "undo"'),
        ("rec-weu", "r", 'waves.order[0][0].endpoint_name: "r" is no name of an endpoint or deployment'),
        (
            "name: everywhere",
            "name: e\ntrigger: {deployment: {tags: {rollout: auto}}}",
            "trigger: not yet: starting waves",
        ),
    ],
)
def test_a_mistake_is_told_at_its_place(before: str, after: str, told: str) -> None:
    text = GOOD.replace(before, after, 1)
    if "order:" not in text:
        text = text.replace("  between: 2h\n", "")
    assert any(told in mistake for mistake in mistakes(text)), mistakes(text)


def test_a_created_candidate_is_about_every_endpoint() -> None:
    files = {"green.yml": "name: green\nendpoint_name: rec-weu\nmodel: azureml:rec:2\n"}
    text = GOOD.replace("candidate: green\n", "candidate: {file: green.yml}\n")
    with pytest.raises(PolicyError) as refused:
        parse_policy(text, file="w.yaml", files=files.__getitem__)
    told = [mistake.message for mistake in refused.value.mistakes]
    assert any("is about endpoint rec-weu" in one and "take `endpoint_name` out of that file" in one for one in told)
    assert any("is created from the policy's file: take this line out" in one for one in told)
