"""Microsoft's walk-through of a safe rollout, from unchanged `az ml` files, with our commands against the sandbox."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout.sandbox.seed import SAMPLES
from tests.support.own_process import BRISK, Commands, commands_for
from tests.support.sandbox import LocalSandbox, local_sandbox

#: The layout of azureml-examples, cli/endpoints/online/managed/sample.
EXAMPLE = {
    "sample/endpoint.yml": """$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json
name: my-endpoint
auth_mode: key
""",
    "sample/blue-deployment.yml": """$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
name: blue
endpoint_name: my-endpoint
model:
  path: ../model-1/model/
code_configuration:
  code: ../model-1/onlinescoring/
  scoring_script: score.py
environment:
  conda_file: ../model-1/environment/conda.yaml
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest
instance_type: Standard_DS3_v2
instance_count: 1
""",
    "model-1/model/weights.json": '{"slope": 2}',
    "model-1/onlinescoring/score.py": """import json
import os

def init():
    global model
    with open(os.path.join(os.getenv("AZUREML_MODEL_DIR"), "model/weights.json")) as file:
        model = json.load(file)

def run(raw_data):
    return [model["slope"] * value for value in json.loads(raw_data)["data"]]
""",
    "model-1/environment/conda.yaml": "channels: [conda-forge]\ndependencies:\n  - python=3.9\n",
    "model-1/sample-request.json": '{"data": [1, 2, 3]}',
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("sandbox"), timings=BRISK) as local:
        yield local


def served_by(rollout: Commands, endpoint: str, request: str, count: int) -> Counter[str]:
    """Who answers `count` predictions that name no deployment."""
    return Counter(
        json.loads(rollout("predict", endpoint, "--request-file", request, "-o", "json").out)["deployment"]
        for _ in range(count)
    )


def test_endpoint_blue_all_traffic_green_90_10_and_back(sandbox: LocalSandbox, tmp_path: Path) -> None:
    """With MLflow models that need no script: the files are the samples that the sandbox brings along."""
    rollout = commands_for(tmp_path, sandbox)
    shutil.copytree(SAMPLES / "walkthrough", tmp_path / "walkthrough")
    shutil.copytree(SAMPLES / "mlflow", tmp_path / "mlflow")
    name, request = "restaurant-stars", "walkthrough/sample-request.json"
    rollout("endpoint", "apply", "-f", "walkthrough/endpoint.yml")
    assert "no deployment with positive weight" in rollout("predict", name, "--request-file", request, code=5).err
    rollout("deployment", "apply", "-f", "walkthrough/blue-deployment.yml")
    assert json.loads(rollout("predict", name, "--request-file", request).out) == [4.05, 3.26]
    assert json.loads(rollout("endpoint", "show", name, "-o", "json").out)["traffic"] == {"blue": 100}

    rollout("deployment", "apply", "-f", "walkthrough/green-deployment.yml")
    assert served_by(rollout, name, request, 2) == {"blue": 2}, "the second deployment gets none"
    green = json.loads(rollout("predict", name, "-d", "green", "--request-file", request).out)
    assert green == [4.32, 4.5]

    for split in ({"blue": 90, "green": 10}, {"blue": 10, "green": 90}, {"blue": 100}):
        rollout("endpoint", "traffic", "-n", name, " ".join(f"{who}={share}" for who, share in split.items()))
        assert json.loads(rollout("endpoint", "show", name, "-o", "json").out)["traffic"] == split
        if split.get("green", 0) == 90:
            assert served_by(rollout, name, request, 8)["green"] >= 4
    assert served_by(rollout, name, request, 2) == {"blue": 2}, "and back"

    rollout("deployment", "delete", "-n", name, "-d", "green", "--yes")
    rollout("endpoint", "delete", name, "--yes")
    assert rollout("endpoint", "list").out.startswith("The workspace has no online endpoints.")


def test_the_files_of_the_examples_work_unchanged(sandbox: LocalSandbox, tmp_path: Path) -> None:
    """Custom model, scoring script, image and conda file; green from blue's file; mirrored, shifted; blue is deleted."""
    rollout = commands_for(tmp_path, sandbox)
    for file, text in EXAMPLE.items():
        rollout.write(file, text)
    rollout("endpoint", "apply", "-f", "sample/endpoint.yml")
    rollout("deployment", "apply", "-f", "sample/blue-deployment.yml")
    request = "model-1/sample-request.json"
    assert json.loads(rollout("predict", "my-endpoint", "--request-file", request).out) == [2, 4, 6]

    rollout.write("model-1/model/weights.json", '{"slope": 3}')
    rollout.write(
        "sample/green-deployment.yml", EXAMPLE["sample/blue-deployment.yml"].replace("name: blue", "name: green")
    )
    rollout("deployment", "apply", "-f", "sample/green-deployment.yml")
    tested = rollout("predict", "my-endpoint", "-d", "green", "--request-file", request)
    assert json.loads(tested.out) == [3, 6, 9]
    assert tested.err.startswith("green answered in ")

    mirrored = rollout("endpoint", "traffic", "-n", "my-endpoint", "--mirror-traffic", "green=10")
    assert mirrored.out == "The mirror traffic of my-endpoint is green 10 %.\n"
    assert served_by(rollout, "my-endpoint", request, 2) == {"blue": 2}, "copies answer nobody"
    refused = rollout("endpoint", "traffic", "-n", "my-endpoint", "blue=90", "green=10", code=5).err
    assert "mirror" in refused
    refused = rollout("endpoint", "traffic", "-n", "my-endpoint", "--mirror-traffic", "green=60", code=5).err
    assert "50" in refused
    rollout("endpoint", "traffic", "-n", "my-endpoint", "--mirror-traffic", "green=0")
    rollout("endpoint", "traffic", "-n", "my-endpoint", "blue=90", "green=10")
    refused = rollout("deployment", "delete", "-n", "my-endpoint", "-d", "blue", "--yes", code=5).err
    assert "it has 90 % of the traffic" in refused
    rollout("endpoint", "traffic", "-n", "my-endpoint", "blue=0", "green=100")
    rollout("deployment", "delete", "-n", "my-endpoint", "-d", "blue", "--yes")
    assert json.loads(rollout("predict", "my-endpoint", "--request-file", request).out) == [3, 6, 9]
    rollout("endpoint", "delete", "my-endpoint", "--yes")
