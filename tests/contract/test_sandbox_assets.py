"""What users bring along, as the unmodified azure-ai-ml uploads and registers it: models, code, environments."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.ai.ml.constants._common import LROConfigurations
from azure.ai.ml.entities import Model
from azure.ai.ml.entities._assets import Code
from azure.ai.ml.exceptions import MlException
from azure.core.exceptions import HttpResponseError

from rollout.sandbox.seed import SAMPLES
from tests.support.sandbox import LocalSandbox, local_sandbox

EP = "restaurant-stars"
STARS = SAMPLES / "walkthrough"
REQUEST = json.loads((STARS / "sample-request.json").read_text())
SCRIPT = """import os
from pathlib import Path
def init():
    print("hello from init")
def run(raw):
    return (Path(os.environ["AZUREML_MODEL_DIR"]) / "model" / "weights.txt").read_text()
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    before = LROConfigurations.POLL_INTERVAL, os.environ.get("REQUESTS_CA_BUNDLE")
    LROConfigurations.POLL_INTERVAL = 0.05
    with local_sandbox(tmp_path_factory.mktemp("sandbox")) as local:
        os.environ["REQUESTS_CA_BUNDLE"] = local.ca_file  # the one way to tell the client of the blob store
        yield local
    LROConfigurations.POLL_INTERVAL = before[0]
    del os.environ["REQUESTS_CA_BUNDLE"]
    if before[1] is not None:
        os.environ["REQUESTS_CA_BUNDLE"] = before[1]


@pytest.fixture(scope="module")
def client(sandbox: LocalSandbox) -> MLClient:
    local = sandbox.ml_client(show_progress=True)  # without, a failed upload hangs for ever
    local.online_endpoints.begin_create_or_update(load_online_endpoint(STARS / "endpoint.yml")).result()
    return local


def deploy(client: MLClient, file: Path) -> Any:
    return client.online_deployments.begin_create_or_update(load_online_deployment(file)).result()


def predict(sandbox: LocalSandbox, client: MLClient, deployment: str, body: Any = REQUEST) -> httpx.Response:
    key = client.online_endpoints.get_keys(EP).primary_key
    headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": deployment}
    address = f"{sandbox.address}/endpoints/{EP}/score"
    return httpx.post(address, json=body, headers=headers, verify=client_context(sandbox), trust_env=False)


def described(folder: Path, name: str, rest: str) -> Path:
    file = folder / "deployment.yml"
    file.write_text(f"name: {name}\nendpoint_name: {EP}\ninstance_type: Standard_DS3_v2\ninstance_count: 1\n{rest}\n")
    return file


def test_an_mlflow_folder_is_uploaded_and_serves_without_a_script(sandbox: LocalSandbox, client: MLClient) -> None:
    made = deploy(client, STARS / "blue-deployment.yml")
    assert (made.provisioning_state, made.code_configuration, made.environment) == ("Succeeded", None, None)
    answer = predict(sandbox, client, "blue")
    assert (answer.status_code, answer.json()) == (200, [4.05, 3.26])
    wrong = predict(sandbox, client, "blue", {"rows": []})
    assert (wrong.status_code, wrong.headers["ms-azureml-model-error-statuscode"]) == (424, "400")
    assert "of the form that MLflow models take" in wrong.text


def test_a_named_model_is_registered_with_its_flavors_and_only_once(client: MLClient) -> None:
    made = deploy(client, STARS / "green-deployment.yml")
    assert made.model.endswith("/models/restaurant-stars/versions/2")
    found = client.models.get("restaurant-stars", "2")
    assert found.type == "mlflow_model"
    assert found.flavors["python_function"]["loader_module"] == "restaurants"
    other = Model(name="restaurant-stars", version="2", path=SAMPLES / "mlflow" / "v1", type="mlflow_model")
    with pytest.raises((HttpResponseError, MlException), match="Asset paths cannot be updated"):
        client.models.create_or_update(other)
    assert "restaurant-stars" in [each.name for each in client.models.list()]
    assert all(len(each.name) < 60 for each in client.models.list()), "anonymous models are not listed"


def test_code_conda_file_and_a_custom_model_are_brought_along(
    sandbox: LocalSandbox, client: MLClient, tmp_path: Path
) -> None:
    for name, text in {
        "model/weights.txt": "7",
        "src/score.py": SCRIPT,
        "conda.yml": "name: x\ndependencies: [python=3.11]\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    file = described(
        tmp_path,
        "teal",
        "model: {path: model}\ncode_configuration: {code: src, scoring_script: score.py}\n"
        "environment: {image: mcr.microsoft.com/x, conda_file: conda.yml}\n"
        "liveness_probe: {initial_delay: 30, failure_threshold: 5}\nrequest_settings: {request_timeout_ms: 3000}",
    )
    made = deploy(client, file)
    assert (made.liveness_probe.initial_delay, made.request_settings.request_timeout_ms) == (30, 3000)
    assert "hello from init" in client.online_deployments.get_logs("teal", EP, 50)
    code = made.code_configuration.code
    assert deploy(client, file).code_configuration.code == code, "the same files are the same code"


def test_code_whose_init_fails_fails_the_deployment(client: MLClient, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "score.py").write_text("def init():\n    raise ValueError('no weights')\ndef run(raw): ...\n")
    (tmp_path / "model.txt").write_text("7")
    file = described(
        tmp_path,
        "red",
        "model: {path: model.txt}\ncode_configuration: {code: src, scoring_script: score.py}\n"
        "environment: {image: mcr.microsoft.com/x}",
    )
    with pytest.raises(HttpResponseError, match=r"User container has crashed or terminated: .*no weights"):
        deploy(client, file)
    assert "ValueError: no weights" in client.online_deployments.get_logs("red", EP, 50)
    client.online_deployments.begin_delete("red", EP).result()


def test_a_model_comes_from_a_registry(client: MLClient, tmp_path: Path) -> None:
    model = "model: azureml://registries/restaurants/models/restaurant-stars/versions/{}"
    made = deploy(client, described(tmp_path, "registry", model.format(1)))
    assert made.model == "azureml://registries/restaurants/models/restaurant-stars/versions/1"
    with pytest.raises(HttpResponseError, match="does not exist: register it first"):
        deploy(client, described(tmp_path, "registry", model.format(9)))


def test_a_kubernetes_endpoint_takes_kubernetes_deployments(client: MLClient, tmp_path: Path) -> None:
    file = tmp_path / "endpoint.yml"
    file.write_text("name: stars-on-k8s\ncompute: azureml:kubernetes\nauth_mode: aml_token\n")
    made = client.online_endpoints.begin_create_or_update(load_online_endpoint(file)).result()
    assert (made.compute.rpartition("/")[2], made.kind) == ("kubernetes", "K8S")
    file.write_text(
        "type: kubernetes\nname: blue\nendpoint_name: stars-on-k8s\ninstance_count: 1\n"
        "model: azureml://registries/restaurants/models/restaurant-stars/versions/1\n"
        "scale_settings: {type: target_utilization, min_instances: 1, max_instances: 3}\n"
    )
    with pytest.raises(Exception, match="Registry reference for models is not supported"):
        load_online_deployment(file)
    file.write_text(
        file.read_text().replace("azureml://registries/restaurants/models/", "azureml:").replace("/versions/", ":")
    )
    client.models.create_or_update(
        Model(name="restaurant-stars", version="1", path=SAMPLES / "mlflow" / "v1", type="mlflow_model")
    )
    blue = deploy(client, file)
    assert (blue.scale_settings.max_instances, blue.resources.requests.cpu) == (3, "100m")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("plain", "no flavors here", "is not an MLflow model"),
        ("strange", "flavors: {sklearn: {}}", "no flavor python_function"),
        (
            "needy",
            "flavors: {python_function: {loader_module: mlflow.sklearn}}",
            "sandbox: not modelled: installing the model's own requirements",
        ),
    ],
)
def test_a_folder_that_cannot_be_served_is_told(
    client: MLClient, tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text(text)
    with pytest.raises(HttpResponseError, match=words):
        deploy(client, described(tmp_path, name, "model: {path: model, type: mlflow_model}"))


def test_the_store_opens_with_its_signature_only(sandbox: LocalSandbox, client: MLClient) -> None:
    address = sandbox.call(lambda cloud: cloud.assets.files().address("azureml-blobstore"))
    signature = sandbox.call(lambda cloud: cloud.assets.files().signature)
    with httpx.Client(verify=client_context(sandbox), trust_env=False) as http:
        assert http.put(f"{address}/x", content=b"1").status_code == 403
        assert http.put(f"{address}/a/b?{signature}", content=b"1").status_code == 201
        assert http.get(f"{address}/a/b?{signature}").content == b"1"
        assert http.get(f"{address}/nothing?{signature}").headers["x-ms-error-code"] == "BlobNotFound"
        assert http.put(f"{address}/..%2F..%2Fout?{signature}", content=b"1").status_code == 400
        for number, part in (("QQ==", b"one "), ("Qg==", b"two")):
            assert http.put(f"{address}/c?{signature}&comp=block&blockid={number}", content=part).status_code == 201
        listed = "<BlockList><Latest>QQ==</Latest><Latest>Qg==</Latest></BlockList>"
        assert http.put(f"{address}/c?{signature}&comp=blocklist", content=listed).status_code == 201
        assert http.get(f"{address}/c?{signature}").content == b"one two"


def client_context(sandbox: LocalSandbox) -> Any:
    import ssl

    return ssl.create_default_context(cafile=sandbox.ca_file)


def test_a_dockerfile_is_refused_in_a_sentence(client: MLClient, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "mlflow" / "v1", tmp_path / "model")
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "score.py").write_text("")
    file = described(
        tmp_path, "docker", "model: {path: model, type: mlflow_model}\nenvironment: {build: {path: image}}"
    )
    with pytest.raises(HttpResponseError, match="sandbox: not modelled: environments built from a Dockerfile"):
        deploy(client, file)


def test_code_is_found_again_by_its_content(client: MLClient, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("print(1)")
    made = client._code.create_or_update(Code(path=tmp_path))
    assert client._code.create_or_update(Code(path=tmp_path)).id == made.id
