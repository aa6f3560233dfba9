"""Importing, word for word: what an author is told of names, places and numbers that become something else."""

import json
from typing import Any

import pytest
import yaml

from rollout.errors import PolicyError
from rollout.policy import Policy, parse_policy
from rollout.policy.importing import Tool, convert
from rollout.policy.importing.node import MAX_DOCUMENTS

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
