"""What a file would change of what Azure has: pure functions over the wire form."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.azure.differences import DEPLOYMENT_FIELDS, ENDPOINT_FIELDS, changes, merged, same

MODEL = "/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/w/models/m/versions/1"


def deployment(**properties: Any) -> dict[str, Any]:
    """A deployment as Azure shows it."""
    return {
        "id": "/…/deployments/blue",
        "name": "blue",
        "location": "westeurope",
        "tags": {"team": "food", "rollout": "25 % green"},
        "sku": {"name": "Default", "capacity": 2, "tier": "later"},
        "systemData": {"createdBy": "bob"},
        "properties": {
            "model": MODEL,
            "environmentId": "azureml://registries/azureml/environments/mlflow/versions/1",
            "codeConfiguration": None,
            "instanceType": "Standard_DS3_v2",
            "environmentVariables": {"A": "1"},
            "requestSettings": {
                "requestTimeout": "PT5S",
                "maxConcurrentRequestsPerInstance": 4,
                "maxQueueWait": "PT0.5S",
            },
            "livenessProbe": None,
            "provisioningState": "Succeeded",
            "newerField": {"kept": True},
            **properties,
        },
    }


def wanted(sku: int | None = None, tags: dict[str, str] | None = None, **properties: Any) -> dict[str, Any]:
    """A deployment as azure-ai-ml makes it of a file."""
    return {
        "location": "westeurope",
        "tags": tags or {},
        "sku": {"name": "Default", "capacity": sku},
        "properties": {
            "model": MODEL,
            "properties": {},
            "environmentVariables": {},
            "appInsightsEnabled": False,
            **properties,
        },
    }


def told(current: dict[str, Any], new: dict[str, Any], *stated: str) -> dict[str, tuple[Any, Any]]:
    found = changes(current, new, fields=DEPLOYMENT_FIELDS, stated=frozenset(stated) | {"model"})
    return {each.field: (each.before, each.after) for each in found}


def test_what_a_file_does_not_state_is_no_change() -> None:
    assert told(deployment(), wanted()) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MODEL, MODEL.upper().replace("/SUBSCRIPTIONS", "/subscriptions")),
        (MODEL, f"azureml:{MODEL}"),
        ("PT5S", "PT5.0S"),
        ("PT60S", "PT1M"),
        ("AMLToken", "amltoken"),
        (None, False),
        (None, ""),
        (None, {}),
        ({"a": None}, {}),
    ],
)
def test_what_means_the_same(before: Any, after: Any) -> None:
    assert same(before, after)
    assert same(after, before)


@pytest.mark.parametrize(
    ("before", "after"), [("PT5S", "PT6S"), (MODEL, MODEL[:-1] + "2"), (1, 2), ({"a": 1}, {}), (None, 1)]
)
def test_what_does_not(before: Any, after: Any) -> None:
    assert not same(before, after)


def test_peoples_own_words_are_compared_as_written() -> None:
    current = deployment(environmentVariables={"STAGE": "Prod"})
    found = told(current, wanted(environmentVariables={"STAGE": "prod"}), "environment_variables")
    assert found == {"environment_variables": ({"STAGE": "Prod"}, {"STAGE": "prod"})}


def test_inside_settings_only_what_is_stated_counts() -> None:
    limits = {"requestTimeout": "PT5S"}
    assert told(deployment(), wanted(requestSettings=limits), "request_settings") == {}
    limits = {"requestTimeout": "PT3S"}
    assert told(deployment(), wanted(requestSettings=limits), "request_settings") == {
        "request_settings.requestTimeout": ("PT5S", "PT3S")
    }
    body = merged(
        deployment(), wanted(requestSettings=limits), fields=DEPLOYMENT_FIELDS, stated=frozenset({"request_settings"})
    )
    assert body["properties"]["requestSettings"] == {
        "requestTimeout": "PT3S",
        "maxConcurrentRequestsPerInstance": 4,
        "maxQueueWait": "PT0.5S",
    }


def test_what_runs_is_wholly_as_the_file_says() -> None:
    code = {"codeId": MODEL.replace("models", "codes"), "scoringScript": "score.py"}
    found = told(deployment(codeConfiguration=code), wanted())
    assert set(found) == {"environment", "code_configuration"}
    assert found["code_configuration"] == (code, None)
    body = merged(deployment(codeConfiguration=code), wanted(), fields=DEPLOYMENT_FIELDS, stated=frozenset({"model"}))
    assert "codeConfiguration" not in body["properties"]
    assert "environmentId" not in body["properties"]


def test_the_environment_that_azure_chose_for_an_mlflow_model_is_left() -> None:
    body = merged(deployment(), wanted(), fields=DEPLOYMENT_FIELDS, stated=frozenset({"model"}))
    assert body["properties"]["environmentId"].endswith("/mlflow/versions/1")


def test_a_write_keeps_what_it_does_not_know_and_sends_nothing_that_only_azure_sets() -> None:
    body = merged(deployment(), wanted(sku=3), fields=DEPLOYMENT_FIELDS, stated=frozenset({"instance_count"}))
    assert body["properties"]["newerField"] == {"kept": True}
    assert body["sku"] == {"name": "Default", "capacity": 3, "tier": "later"}
    assert body["location"] == "westeurope"
    assert not {"id", "name", "systemData"} & set(body)
    assert "provisioningState" not in body["properties"]
    assert "livenessProbe" not in body["properties"], "null says nothing"


def test_tags_are_added_and_the_rollouts_own_is_not_a_files_to_set() -> None:
    new = wanted(tags={"team": "kitchen", "Rollout": "mine", "floor": "3"})
    assert told(deployment(), new, "tags") == {"tags.team": ("food", "kitchen"), "tags.floor": (None, "3")}
    body = merged(deployment(), new, fields=DEPLOYMENT_FIELDS, stated=frozenset({"tags"}))
    assert body["tags"] == {"team": "kitchen", "rollout": "25 % green", "floor": "3"}


def test_an_identity_is_sent_without_what_azure_added_to_it() -> None:
    user = "/subscriptions/s/…/userAssignedIdentities/u"
    current = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {user: {"clientId": "c"}}, "tenantId": "t"},
        "properties": {"authMode": "Key", "traffic": {"blue": 100}},
    }
    new = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {user: {}}},
        "properties": {"authMode": "Key"},
    }
    stated = frozenset({"identity", "auth_mode"})
    assert changes(current, new, fields=ENDPOINT_FIELDS, stated=stated) == ()
    body = merged(current, new, fields=ENDPOINT_FIELDS, stated=stated)
    assert body["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {user: {}}}
    assert body["properties"]["traffic"] == {"blue": 100}


names = st.text("abcDE", min_size=1, max_size=3)
tags = st.dictionaries(names, names, max_size=4)
some = st.fixed_dictionaries(
    {},
    optional={
        "description": names,
        "instanceType": st.sampled_from(["Standard_DS3_v2", "standard_ds3_v2", "Standard_D2as_v4"]),
        "environmentVariables": tags,
        "requestSettings": st.fixed_dictionaries(
            {}, optional={"requestTimeout": st.sampled_from(["PT5S", "PT1M", "PT60S"])}
        ),
        "codeConfiguration": st.fixed_dictionaries(
            {"codeId": st.sampled_from([MODEL, MODEL + "0"]), "scoringScript": names}
        ),
    },
)


@given(before=some, after=some, old=tags, new=tags, stated=st.frozensets(st.sampled_from(sorted(DEPLOYMENT_FIELDS))))
def test_after_the_write_there_is_nothing_to_change_and_no_tag_is_lost(
    before: dict[str, Any], after: dict[str, Any], old: dict[str, str], new: dict[str, str], stated: frozenset[str]
) -> None:
    current = deployment(**before)
    current["tags"] = old
    stated = stated - {"code_configuration"} | ({"code_configuration"} if "codeConfiguration" in after else set())
    body = merged(current, wanted(sku=3, tags=new, **after), fields=DEPLOYMENT_FIELDS, stated=stated)
    assert changes(body, wanted(sku=3, tags=new, **after), fields=DEPLOYMENT_FIELDS, stated=stated) == ()
    assert set(old) <= set(body["tags"])
    assert body["properties"]["newerField"] == {"kept": True}
