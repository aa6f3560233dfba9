"""Registered models: the real SDK over HTTPS against the sandbox, in its workspace and in a registry."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from rollout.azure.connection import Azure
from rollout.errors import RefusedError, RolloutError
from rollout.ports import Models
from rollout.sandbox.resources import Asset
from rollout.sandbox.seed import MLFLOW_NAME, REGISTRY
from tests.support.azure import connected
from tests.support.sandbox import LocalSandbox, local_sandbox, ml_client

RECOMMENDER = "recommender"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("models"), speed=120) as local:
        yield local


@pytest.fixture(scope="module")
def azure(sandbox: LocalSandbox) -> Iterator[Azure]:
    with connected(sandbox) as connection:
        yield connection


@pytest.fixture
def models(azure: Azure) -> Models:
    return azure.models["sandbox"]


def _with_many(local: LocalSandbox, count: int) -> None:
    def register(cloud) -> None:  # type: ignore[no-untyped-def]
        for number in range(1, count + 1):
            asset = Asset(kind="models", name="many", version=str(number))
            cloud.assets.register(asset, now=cloud.now())

    local.call(register)


def test_the_versions_of_a_model_are_listed_newest_first(models: Models, sandbox: LocalSandbox) -> None:
    found = models.versions(RECOMMENDER)

    assert {each.version for each in found} == {"1", "2", "3"}
    assert {each.reference for each in found} == {f"azureml:{RECOMMENDER}:{number}" for number in (1, 2, 3)}
    _with_many(sandbox, 250)
    many = models.versions("many")
    assert len(many) == 200  # over two pages; no more are asked for
    assert many == sorted(many, key=lambda each: each.created_at, reverse=True)
    assert "250" in {each.version for each in many}


def test_stage_and_tags_are_those_that_the_sdk_wrote(models: Models, sandbox: LocalSandbox) -> None:
    client = ml_client(sandbox.values)
    model = client.models.get(RECOMMENDER, "2")
    model.stage, model.tags = "Production", {"approved": "true"}
    client.models.create_or_update(model)

    staged = {each.version: each for each in models.versions(RECOMMENDER)}

    assert (staged["2"].stage, staged["2"].tags) == ("Production", {"approved": "true"})
    assert staged["1"].stage is None
    assert [each.version for each in client.models.list(RECOMMENDER, stage="Production")] == ["2"]


def test_an_archived_version_is_not_there(models: Models, sandbox: LocalSandbox) -> None:
    client = ml_client(sandbox.values)
    client.models.archive(RECOMMENDER, "1")
    assert {each.version for each in models.versions(RECOMMENDER)} == {"2", "3"}
    client.models.restore(RECOMMENDER, "1")
    assert {each.version for each in models.versions(RECOMMENDER)} == {"1", "2", "3"}


def test_a_registry_is_found_and_read(models: Models, sandbox: LocalSandbox) -> None:
    def tag(cloud) -> None:  # type: ignore[no-untyped-def]
        latest = cloud.assets.all("models", MLFLOW_NAME, registry=REGISTRY)[-1]
        cloud.assets.register(replace(latest, tags={"approved": "true"}), now=cloud.now())

    sandbox.call(tag)
    found = {each.version: each for each in models.versions(MLFLOW_NAME, registry=REGISTRY)}

    assert set(found) == {"1", "2"}
    assert found["2"].reference == f"azureml://registries/{REGISTRY}/models/{MLFLOW_NAME}/versions/2"
    assert found["2"].tags == {"approved": "true"}


def test_what_is_not_there_is_empty_or_told(models: Models) -> None:
    assert models.versions("nothing") == []
    assert models.versions("nothing", registry=REGISTRY) == []
    with pytest.raises(RolloutError, match="Cannot list the versions of model m in registry nowhere"):
        models.versions("m", registry="nowhere")


def test_a_reader_who_may_not_is_told_which_role(models: Models, sandbox: LocalSandbox) -> None:
    denied = frozenset({"microsoft.machinelearningservices/workspaces/models/versions/read"})
    before = sandbox.call(lambda cloud: cloud.access)

    def deny(cloud) -> None:  # type: ignore[no-untyped-def]
        cloud.access = replace(before, denied=denied)

    def restore(cloud) -> None:  # type: ignore[no-untyped-def]
        cloud.access = before

    sandbox.call(deny)
    try:
        with pytest.raises(RefusedError, match="AzureML Data Scientist on the workspace"):
            models.versions(RECOMMENDER)
    finally:
        sandbox.call(restore)
