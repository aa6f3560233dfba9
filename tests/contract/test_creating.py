"""Candidates created from a policy's file: the real SDK over HTTPS against the sandbox, in the daemon's own way."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollout.azure.arm import WorkspaceResources
from rollout.azure.azure_ml import ml_client
from rollout.azure.cloud import cloud_of, make_credential
from rollout.azure.connection import Azure
from rollout.azure.creating import Creations
from rollout.azure.managing import Manager
from rollout.azure.plans import Plan
from rollout.azure.uploads import WorkspaceAssets
from rollout.azure.waiting import Waiting
from rollout.clock import WallClock
from rollout.errors import ConflictError
from rollout.policy import Manifest
from rollout.ports import Ended, Fleet
from rollout.sandbox import seed
from rollout.settings import Cloud, Settings, with_sandbox
from rollout.world import CreateDeployment, DeploymentState, Split, Unreadable
from tests.support.azure import connected
from tests.support.sandbox import LocalSandbox, local_sandbox

NAME = "restaurant-recommender"
REGISTERED = (seed.SAMPLES / "green-v2.yml").read_text(encoding="utf-8")
SCRIPT = "def init():\n    print('reading the model')\n    import nltk\n\n\ndef run(raw):\n    return [1]\n"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("creating"), speed=600, seed=True) as local:
        yield local


@pytest.fixture(scope="module")
def azure(sandbox: LocalSandbox) -> Iterator[Azure]:
    with connected(sandbox) as connection:
        yield connection


@pytest.fixture
def fleet(azure: Azure) -> Fleet:
    return azure.fleets["sandbox"]


def manifest(name: str, text: str = REGISTERED, folder: Path | None = None) -> Manifest:
    return Manifest(
        name=name, path="deployments/green.yml", text=text, folder=str(folder) if folder is not None else None
    )


def created(sandbox: LocalSandbox, fleet: Fleet, wanted: Manifest) -> tuple[Ended, list[str]]:
    """How it ended, and what it was doing meanwhile."""
    errand = CreateDeployment(deployment=wanted.name, digest=wanted.digest)
    operation = fleet.create(NAME, errand, wanted, still_ours=lambda: True)
    assert operation is not None
    heard: list[str] = []
    pause = threading.Event()
    for _ in range(2000):
        if (ended := fleet.ended(operation)) is not None:
            return ended, heard
        doing = fleet.doing(operation) or ""
        if doing not in heard:
            heard.append(doing)
        sandbox.call(lambda cloud: cloud.hurry())
        pause.wait(0.02)
    pytest.fail(f"It never ended: {heard}.")


def shown(azure: Azure, name: str) -> DeploymentState | Unreadable | None:
    return azure.endpoints["sandbox"].deployments(NAME).get(name)


def test_registered_assets_from_a_file_that_was_sent(sandbox: LocalSandbox, azure: Azure, fleet: Fleet) -> None:
    """Its name is the policy's, its endpoint the rollout's; a second time nothing is written, though it was scaled."""
    wanted = manifest("sent")
    assert created(sandbox, fleet, wanted)[0] == Ended(why=None)
    found = shown(azure, "sent")
    assert isinstance(found, DeploymentState)
    assert (found.state, found.pin.model is not None) == ("Succeeded", True)
    assert created(sandbox, fleet, wanted)[0] == Ended(why=None)
    again = shown(azure, "sent")
    assert isinstance(again, DeploymentState)
    assert again.pin == found.pin
    other = manifest("sent", REGISTERED.replace("recommender:2", "recommender:1"))
    assert created(sandbox, fleet, other)[0] == Ended(why=None)
    changed = shown(azure, "sent")
    assert isinstance(changed, DeploymentState)
    assert changed.pin.model != found.pin.model
    assert dict(azure.endpoints["sandbox"].get(NAME).traffic.shares) == {"blue": 100}  # type: ignore[union-attr]


def test_folders_beside_the_daemons_own_policy_are_uploaded(
    sandbox: LocalSandbox, azure: Azure, fleet: Fleet, tmp_path: Path
) -> None:
    shutil.copytree(seed.SAMPLES / "mlflow" / "v1", tmp_path / "models" / "v1")
    text = "name: own\nmodel: {path: ../models/v1, type: mlflow_model}\ninstance_type: Standard_DS3_v2\ninstance_count: 1\n"
    ended, heard = created(sandbox, fleet, manifest("own", text, tmp_path))
    assert ended == Ended(why=None)
    assert any(doing.startswith("uploading model from") for doing in heard), heard
    assert "creating deployment own" in heard
    assert isinstance(shown(azure, "own"), DeploymentState)


@pytest.mark.parametrize(
    "model",
    [
        "{path: /etc/hostname, type: custom_model}",
        "file:/etc/hostname",
        "{<<: {path: /etc/hostname}, type: custom_model}",
    ],
)
def test_nothing_of_this_machine_is_read_for_a_file_that_was_sent(
    sandbox: LocalSandbox, azure: Azure, fleet: Fleet, model: str
) -> None:
    text = f"name: far\nmodel: {model}\ninstance_type: Standard_DS3_v2\ninstance_count: 1\n"
    ended, _ = created(sandbox, fleet, manifest("far", text))
    assert "names files on a disk" in (ended.why or "")
    assert shown(azure, "far") is None


def test_what_serves_is_not_written_over(sandbox: LocalSandbox, fleet: Fleet) -> None:
    ended, _ = created(sandbox, fleet, manifest("blue"))
    assert (ended.why or "").startswith(
        f"blue of {NAME} has 100 % of the traffic: a rollout creates its candidate without."
    )


class MovedMeanwhile(Manager):
    """While this uploads, a person gives the deployment traffic."""

    def carry_out(self, plan: Plan, **options: Any) -> None:  # type: ignore[override]
        self.set_traffic(NAME, Split.of({"blue": 90, "moved": 10}), told=lambda _stage: None)
        super().carry_out(plan, **options)


def test_what_gets_traffic_during_the_upload_is_not_written_over(
    sandbox: LocalSandbox, azure: Azure, fleet: Fleet
) -> None:
    assert created(sandbox, fleet, manifest("moved"))[0] == Ended(why=None)
    before = shown(azure, "moved")
    other = manifest("moved", REGISTERED.replace("recommender:2", "recommender:1"))
    values, pause = sandbox.values, threading.Event()
    settings = with_sandbox(Settings(cloud=Cloud(name="sandbox", sandbox=str(sandbox.file))), values)
    cloud, clock = cloud_of(settings.cloud, values), WallClock(epoch=values["epoch"], speed=values["speed"])
    workspace = settings.workspaces["sandbox"]
    identity = make_credential(cloud, settings.credential, secret=sandbox.secret)
    client = ml_client(cloud, identity, workspace, show_progress=True)
    resources = WorkspaceResources(client, resource_group=workspace.resource_group, workspace=workspace.workspace_name)
    waiting = Waiting(resources, monotonic=clock.monotonic, pause=pause.wait, every=0.05)
    name = workspace.workspace_name
    manager = MovedMeanwhile(resources, WorkspaceAssets(client, cloud=cloud), waiting, workspace=name)
    creations = Creations(manager, new_id=lambda: "one")
    address = creations.begin(NAME, other)
    for _ in range(2000):
        if (ended := creations.ended(address)) is not None:
            break
        pause.wait(0.02)
    manager.set_traffic(NAME, Split.of({"blue": 100}), told=lambda _stage: None)
    resources.close()
    assert ended is not None
    assert (ended.why or "").startswith(f"moved of {NAME} has 10 % of the traffic")
    assert shown(azure, "moved") == before


def test_a_script_that_does_not_start_is_told_with_its_console(
    sandbox: LocalSandbox, fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "deployments").mkdir()
    (tmp_path / "src" / "score.py").write_text(SCRIPT)
    text = (
        "name: broken\nmodel: azureml:recommender:2\nenvironment: azureml:recommender-env:1\n"
        "code_configuration: {code: ../src, scoring_script: score.py}\ninstance_type: Standard_DS3_v2\ninstance_count: 1\n"
    )
    ended, _ = created(sandbox, fleet, manifest("broken", text, tmp_path))
    assert (ended.why or "").startswith(f"Cannot create deployment broken of {NAME}:")
    assert "Its console ends:" in (ended.why or "")
    assert "No module named 'nltk'" in (ended.why or "")


def test_mistakes_of_the_file_are_told_with_their_places(sandbox: LocalSandbox, fleet: Fleet) -> None:
    ended, _ = created(sandbox, fleet, manifest("wrong", "name: wrong\nmodle: azureml:recommender:2\n"))
    assert "deployments/green.yml:2:1: modle: is no field that Azure knows: did you mean model?" in (ended.why or "")


def test_what_a_process_that_is_gone_has_begun_is_not_known(fleet: Fleet) -> None:
    assert fleet.ended("creation:of-another-time") == Ended(why=None, known=False)
    assert fleet.doing("creation:of-another-time") is None


def test_who_has_lost_the_rollout_begins_nothing(fleet: Fleet) -> None:
    wanted = manifest("late")
    with pytest.raises(ConflictError):
        fleet.create(NAME, CreateDeployment(deployment="late", digest=wanted.digest), wanted, still_ours=lambda: False)
