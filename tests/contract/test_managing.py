"""`rollout endpoint`, `deployment` and `predict` through the real SDK against the sandbox: formats, refusals, no writes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout.sandbox.access import Access
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import ArmFault
from rollout.sandbox.resources import Actor, Timings
from rollout.sandbox.seed import SAMPLES
from tests.support.own_process import BRISK, Commands, commands_for
from tests.support.sandbox import LocalSandbox, local_sandbox

STARS = "name: stars\nauth_mode: key\ndescription: How many stars.\ntags: {team: food}\n"
SCRIPT = "def init():\n    print('ready')\ndef run(raw):\n    return [1]\n"
REQUEST = str(SAMPLES / "walkthrough" / "sample-request.json")
BOB = Actor(id="bob@example.com", kind="User")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("sandbox"), timings=BRISK) as local:
        yield local


@pytest.fixture(scope="module")
def rollout(sandbox: LocalSandbox, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """The endpoint `stars` with blue at 100 % is there; the folder holds two MLflow models."""
    commands = commands_for(tmp_path_factory.mktemp("person"), sandbox)
    for version in ("v1", "v2"):
        shutil.copytree(SAMPLES / "mlflow" / version, commands.folder / version)
    commands.write("endpoint.yml", STARS)
    commands.write("blue.yml", deployment("blue"))
    created = commands("endpoint", "apply", "-f", "endpoint.yml")
    assert created.out == "Endpoint stars is created.\n"
    assert "Creating endpoint stars" in created.err
    first = commands("deployment", "apply", "-f", "blue.yml")
    assert "It is the endpoint's first deployment: it gets all traffic." in first.out
    assert "Traffic: blue 100 %." in first.out
    assert "Uploading model from" in first.err
    return commands


@pytest.fixture
def timings(sandbox: LocalSandbox) -> Iterator[None]:
    """Operations that take their time until they are hurried."""
    sandbox.call(
        lambda cloud: setattr(cloud, "timings", Timings().changed(endpoint_update=60_000, deployment_create=60_000))
    )
    yield
    sandbox.call(lambda cloud: setattr(cloud, "timings", BRISK))


def deployment(name: str, rest: str = "model: {path: v1, type: mlflow_model}", *, endpoint: str = "stars") -> str:
    return f"name: {name}\nendpoint_name: {endpoint}\n{rest}\ninstance_type: Standard_DS3_v2\ninstance_count: 1\n"


def writes(sandbox: LocalSandbox) -> int:
    """How many writes the sandbox has been asked for."""
    import httpx

    from tests.contract.test_sandbox_assets import client_context

    with httpx.Client(verify=client_context(sandbox), trust_env=False) as http:
        counts = http.get(f"{sandbox.address}/sandbox/calls").json()["counts"]
    return sum(count for kind, count in counts.items() if kind.startswith(("PUT", "PATCH", "DELETE")))


def tag(sandbox: LocalSandbox, tags: dict[str, str]) -> None:
    """Somebody else gives the endpoint tags."""

    def put(cloud: Cloud) -> None:
        cloud.patch_endpoint("stars", {"tags": tags}, actor=BOB)
        cloud.hurry()

    sandbox.call(put)


# --- idempotence


def test_the_same_files_again_write_nothing(sandbox: LocalSandbox, rollout: Commands) -> None:
    before = writes(sandbox)
    assert rollout("endpoint", "apply", "-f", "endpoint.yml").out == "Endpoint stars is unchanged.\n"
    assert rollout("deployment", "apply", "-f", "blue.yml").out == "Deployment blue of stars is unchanged.\n"
    told = json.loads(rollout("deployment", "apply", "-f", "blue.yml", "--dry-run", "-o", "json").out)
    assert (told["action"], told["changes"], told["traffic"]) == ("unchanged", [], None)
    assert writes(sandbox) == before


def test_tags_and_traffic_of_others_are_kept(sandbox: LocalSandbox, rollout: Commands) -> None:
    tag(sandbox, {"team": "food", "cost": "42"})
    assert "unchanged" in rollout("endpoint", "apply", "-f", "endpoint.yml").out
    rollout.write("more.yml", STARS.replace("{team: food}", "{team: kitchen, floor: '3'}") + "traffic: {blue: 0}\n")
    shown = rollout("endpoint", "apply", "-f", "more.yml", "--dry-run").out
    assert "~ tags.team: food → kitchen" in shown
    assert "+ tags.floor: 3" in shown
    changed = rollout("endpoint", "apply", "-f", "more.yml").out
    assert "Endpoint stars is updated: tags.team, tags.floor." in changed
    assert "Traffic is left as it is, blue 100 % (the file says no traffic): --set-traffic" in changed
    view = json.loads(rollout("endpoint", "show", "stars", "-o", "json").out)
    assert view["tags"] == {"team": "kitchen", "floor": "3", "cost": "42"}
    assert view["traffic"] == {"blue": 100}
    rollout("endpoint", "apply", "-f", "endpoint.yml")


def test_a_changed_field_is_all_that_changes(rollout: Commands) -> None:
    rollout.write("blue2.yml", deployment("blue").replace("instance_count: 1", "instance_count: 2\ntags: {a: b}"))
    shown = rollout("deployment", "apply", "-f", "blue2.yml", "--dry-run").out
    assert shown.splitlines() == ["Would update deployment blue of stars", "  ~ instance_count: 1 → 2", "  + tags.a: b"]
    assert "updated: instance_count, tags.a" in rollout("deployment", "apply", "-f", "blue2.yml").out
    back = rollout("deployment", "apply", "-f", "blue.yml", "-o", "json").out
    assert [each["field"] for each in json.loads(back)["changes"]] == ["instance_count"]
    view = json.loads(rollout("deployment", "show", "-n", "stars", "-d", "blue", "-o", "json").out)
    assert (view["instance_count"], view["tags"]) == (1, {"a": "b"})


def test_a_process_of_its_own_prints_its_progress_and_nothing_else(rollout: Commands) -> None:
    rollout.write("own.yml", deployment("own") + "data_collector: {collections: {model_inputs: {enabled: 'True'}}}")
    command = [sys.executable, "-m", "rollout.cli", "deployment", "apply", "-f", "own.yml"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        command, cwd=rollout.folder, env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("Deployment own of stars is created.")
    assert [line.split(" …")[0] for line in done.stderr.splitlines()] == [
        "Uploading data asset stars-own-model_inputs:1",
        "Creating deployment own",
    ]
    rollout("deployment", "delete", "-n", "stars", "-d", "own", "--yes")


# --- formats


@pytest.mark.parametrize(("mode", "rest"), [("aml_token", ""), ("aad_token", "identity: {type: system_assigned}\n")])
def test_endpoints_open_with_tokens_too(rollout: Commands, mode: str, rest: str) -> None:
    name = mode.replace("_", "-")
    rollout.write("token.yml", f"name: {name}\nauth_mode: {mode}\n{rest}")
    rollout("endpoint", "apply", "-f", "token.yml")
    assert "unchanged" in rollout("endpoint", "apply", "-f", "token.yml").out
    rollout.write("token-blue.yml", deployment("blue", endpoint=name))
    rollout("deployment", "apply", "-f", "token-blue.yml")
    assert json.loads(rollout("predict", name, "--request-file", REQUEST).out) == [4.05, 3.26]
    assert rollout("endpoint", "delete", name, "--yes").out == f"Endpoint {name} is deleted.\n"


def test_a_custom_model_with_code_environment_probes_and_limits(rollout: Commands) -> None:
    rollout.write("src/score.py", SCRIPT)
    rollout.write("conda.yml", "name: x\ndependencies: [python=3.11]\n")
    rollout.write(
        "teal.yml",
        deployment(
            "teal",
            "model: {path: v1/data}\ncode_configuration: {code: src, scoring_script: score.py}\n"
            "environment: {image: mcr.microsoft.com/azureml/x:1, conda_file: conda.yml}\n"
            "environment_variables: {KITCHEN: open}\nscale_settings: {type: default}\n"
            "liveness_probe: {initial_delay: 30, timeout: 2}\nreadiness_probe: {period: 10}\n"
            "request_settings: {request_timeout_ms: 3000, max_concurrent_requests_per_instance: 4}",
        ),
    )
    made = rollout("deployment", "apply", "-f", "teal.yml")
    assert "It gets no traffic: rollout start moves it there in steps (now blue 100 %)." in made.out
    assert [line.split()[1] for line in made.err.splitlines() if line.startswith("Uploading")] == [
        "model",
        "environment",
        "code",
    ]
    assert "unchanged" in rollout("deployment", "apply", "-f", "teal.yml").out
    assert rollout("deployment", "logs", "-n", "stars", "-d", "teal", "--tail", "1").out == "ready\n"
    rollout.write("src/score.py", SCRIPT.replace("[1]", "[2]"))
    shown = rollout("deployment", "apply", "-f", "teal.yml", "--dry-run").out
    assert "+ upload code from" in shown
    rollout("deployment", "apply", "-f", "teal.yml")
    assert json.loads(rollout("predict", "stars", "-d", "teal", "--request-file", REQUEST).out) == [2]
    rollout("deployment", "delete", "-n", "stars", "-d", "teal", "--yes")


def test_a_registered_model_and_one_of_a_registry(rollout: Commands) -> None:
    rollout.write(
        "named.yml", deployment("named", "model: {name: stars-model, version: 1, path: v1, type: mlflow_model}")
    )
    rollout("deployment", "apply", "-f", "named.yml")
    for reference in ("azureml:stars-model:1", "azureml:stars-model@latest"):
        rollout.write("named2.yml", deployment("named", f"model: {reference}"))
        assert "unchanged" in rollout("deployment", "apply", "-f", "named2.yml").out
    rollout.write(
        "named.yml", deployment("named", "model: {name: stars-model, version: 1, path: v2, type: mlflow_model}")
    )
    refused = rollout("deployment", "apply", "-f", "named.yml", code=5).err
    assert (
        "named.yml:3:8: model: stars-model:1 is registered already with other content: raise its `version`" in refused
    )
    registry = "model: azureml://registries/restaurants/models/restaurant-stars/versions/2"
    rollout.write("named.yml", deployment("named", registry))
    changed = rollout("deployment", "apply", "-f", "named.yml", "--dry-run").out
    assert "~ model: stars-model:1 → restaurant-stars:2" in changed
    rollout("deployment", "apply", "-f", "named.yml")
    assert "unchanged" in rollout("deployment", "apply", "-f", "named.yml").out
    rollout("deployment", "delete", "-n", "stars", "-d", "named", "--yes")


def test_a_new_models_name_needs_no_version(rollout: Commands) -> None:
    rollout.write("fresh.yml", deployment("fresh", "model: {name: fresh-model, path: v1, type: mlflow_model}"))
    rollout("deployment", "apply", "-f", "fresh.yml")
    assert "fresh-model:1" in rollout("deployment", "show", "-n", "stars", "-d", "fresh").out
    assert "unchanged" in rollout("deployment", "apply", "-f", "fresh.yml").out
    rollout("deployment", "delete", "-n", "stars", "-d", "fresh", "--yes")


def test_collected_data_gets_its_assets_once(rollout: Commands) -> None:
    collector = "data_collector: {sampling_rate: 0.5, collections: {model_inputs: {enabled: 'True'}}}"
    rollout.write("collecting.yml", deployment("collecting") + collector)
    made = rollout("deployment", "apply", "-f", "collecting.yml")
    assert "Uploading data asset stars-collecting-model_inputs:1" in made.err
    assert "unchanged" in rollout("deployment", "apply", "-f", "collecting.yml").out
    rollout.write("collecting.yml", deployment("collecting") + collector.replace("0.5", "0.1"))
    shown = rollout("deployment", "apply", "-f", "collecting.yml", "--dry-run").out
    assert "~ data_collector.collections.model_inputs.samplingRate: 0.5 → 0.1" in shown
    rollout("deployment", "delete", "-n", "stars", "-d", "collecting", "--yes")


def test_kubernetes(rollout: Commands) -> None:
    rollout.write("k8s.yml", "name: on-k8s\ncompute: azureml:kubernetes\nauth_mode: key\n")
    rollout("endpoint", "apply", "-f", "k8s.yml")
    assert "unchanged" in rollout("endpoint", "apply", "-f", "k8s.yml").out
    text = "type: kubernetes\nname: blue\nendpoint_name: on-k8s\nmodel: {path: v1, type: mlflow_model}\ninstance_count: 1\n"
    resources = "resources: {requests: {cpu: '0.2', memory: 0.5Gi}}\n"
    scale = "scale_settings: {type: target_utilization, min_instances: 1, max_instances: 3}\n"
    rollout.write("k8s-blue.yml", text + resources + scale)
    rollout("deployment", "apply", "-f", "k8s-blue.yml")
    assert "unchanged" in rollout("deployment", "apply", "-f", "k8s-blue.yml").out
    assert "kubernetes" in rollout("endpoint", "list").out
    rollout.write("wrong.yml", deployment("green", endpoint="on-k8s"))
    refused = rollout("deployment", "apply", "-f", "wrong.yml", code=5).err
    assert "takes deployments of type Kubernetes, not Managed. type: write `type: kubernetes`" in refused
    rollout("endpoint", "delete", "on-k8s", "--yes")


def test_a_file_that_only_azures_reader_understands_works_too(rollout: Commands) -> None:
    rollout.write("deep.yml", f"name: deep\nproperties: {{a: {'[' * 30}1{']' * 30}}}\n")
    assert "Would create endpoint deep" in rollout("endpoint", "apply", "-f", "deep.yml", "--dry-run").out
    rollout.write("broken.yml", "name: [deep\n")
    assert "broken.yml:" in rollout("endpoint", "apply", "-f", "broken.yml", "--dry-run", code=5).err


def test_names_given_count_instead_of_the_files(rollout: Commands) -> None:
    assert rollout("endpoint", "apply", "-f", "endpoint.yml", "-n", "other").out == "Endpoint other is created.\n"
    rollout("deployment", "apply", "-f", "blue.yml", "-n", "other", "-d", "azure")
    shown = rollout("endpoint", "show", "other", "-o", "yaml").out
    assert "name: other" in shown
    assert "  azure: 100" in shown
    listed = json.loads(rollout("deployment", "list", "-n", "other", "-o", "json").out)
    assert [(each["name"], each["endpoint_name"]) for each in listed] == [("azure", "other")]
    rollout("endpoint", "delete", "other", "--yes")


def test_a_write_is_sent_again_while_azure_is_still_busy(sandbox: LocalSandbox, rollout: Commands) -> None:
    busy = {"kind": "conflict", "on": "writes"}
    sandbox.call(lambda cloud: cloud.faults.add(ArmFault(**busy, since=cloud.now(), count=2)))
    assert rollout("endpoint", "traffic", "-n", "stars", "blue=0").out == "The traffic of stars is no traffic.\n"
    number = sandbox.call(lambda cloud: cloud.faults.add(ArmFault(**busy, since=cloud.now())))
    refused = rollout("endpoint", "traffic", "-n", "stars", "blue=100", code=5).err
    assert "Another operation runs on it: wait until it has ended." in refused
    sandbox.call(lambda cloud: cloud.faults.clear(number))
    rollout("endpoint", "traffic", "-n", "stars", "blue=100")


def test_an_azure_that_does_not_answer_is_told(sandbox: LocalSandbox, rollout: Commands) -> None:
    number = sandbox.call(
        lambda cloud: cloud.faults.add(
            ArmFault(kind="error", on="reads", status=503, code="ServerBusy", since=cloud.now())
        )
    )
    told = rollout("endpoint", "show", "stars", code=5).err
    assert "Azure answered 503" in told
    assert told.rstrip().endswith("Try again.")
    sandbox.call(lambda cloud: cloud.faults.clear(number))


def test_a_reader_is_told_which_role_is_missing(sandbox: LocalSandbox, rollout: Commands) -> None:
    own = frozenset({sandbox.values["client_id"]})
    sandbox.call(lambda cloud: setattr(cloud, "access", Access(readers=own)))
    try:
        assert "stars" in rollout("endpoint", "list").out
        for words in (
            ("endpoint", "traffic", "-n", "stars", "blue=0"),
            ("predict", "stars", "--request-file", REQUEST),
        ):
            refused = rollout(*words, code=5).err
            assert "403 AuthorizationFailed" in refused
            assert "Give this identity the role AzureML Data Scientist" in refused
    finally:
        sandbox.call(lambda cloud: setattr(cloud, "access", Access()))


# --- refusals


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Standard_DS3_v2", "Standard_F4s_v2", "Additional needed: 8. instance_type: ask for quota of this VM family"),
        ("Standard_DS3_v2", "Standard_FOO", "Standard_FOO is not supported for online endpoints in this region. instance_type: "),
        ("name: blue", "name: 1blue", "bad.yml:1:7: name: "),
        ("instance_count: 1", "instance_count: 51", "instance_count: correct it."),
        ("{path: v1, type: mlflow_model}", "{path: v1/data, type: mlflow_model}", "is not an MLflow model"),
        ("{path: v1, type: mlflow_model}", "{path: v1/data}", "model: give code_configuration and environment"),
        ("{path: v1, type: mlflow_model}", "azureml:nobody:1", "does not exist: register it first. model: register it first"),
        ("instance_type: ", "instance_tipe: ", "bad.yml:4:1: instance_tipe: is no field that Azure knows: did you mean instance_t"),
        ("instance_count: 1", "scale_settings: {type: target_utilization}", "bad.yml:5:17: scale_settings: "),
        ("instance_count: 1", "instance_count: many", "bad.yml:5:17: instance_count: is not a whole number"),
        ("endpoint_name: stars", "endpoint_name: nowhere", "bad.yml:2:16: endpoint_name: workspace recommendations has no"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_the_remedy(rollout: Commands, old: str, new: str, words: str) -> None:
    text = deployment("blue").replace("name: blue", "name: bad") if old != "name: blue" else deployment("blue")
    rollout.write("bad.yml", text.replace(old, new))
    refused = rollout("deployment", "apply", "-f", "bad.yml", code=5).err
    assert words in refused
    assert "The request is invalid" not in refused


def test_an_endpoints_file_is_checked_as_closely(rollout: Commands) -> None:
    rollout.write("bad-endpoint.yml", "name: 9-bad\nauth_mode: kee\nnetwork: x\n")
    refused = rollout("endpoint", "apply", "-f", "bad-endpoint.yml", code=5).err
    for words in (
        "bad-endpoint.yml:1:7: name: begins with a letter, then letters, digits and single dashes: 3 to 32 in all",
        "bad-endpoint.yml:2:12: auth_mode: 'kee' is not one of aml_token, key, aad_token",
        "bad-endpoint.yml:3:1: network: is no field that Azure knows",
    ):
        assert words in refused
    rollout.write("bad-endpoint.yml", "name: stars\ncompute: azureml:kubernetes\n")
    refused = rollout("endpoint", "apply", "-f", "bad-endpoint.yml", code=5).err
    assert "cannot be changed. compute: give the new endpoint another name." in refused
    rollout.write("labelled.yml", deployment("label", "model: azureml:nobody@latest"))
    assert "Register it first" in rollout("deployment", "apply", "-f", "labelled.yml", code=5).err


def test_an_upload_that_is_refused_ends_and_is_told(sandbox: LocalSandbox, rollout: Commands) -> None:
    rollout.write("new-model/MLmodel", "flavors: {python_function: {loader_module: x}}")
    rollout.write("upload.yml", deployment("upload", "model: {path: new-model, type: mlflow_model}"))
    sandbox.call(lambda cloud: setattr(cloud.assets.files(), "closed", True))
    refused = rollout("deployment", "apply", "-f", "upload.yml", code=5).err
    sandbox.call(lambda cloud: setattr(cloud.assets.files(), "closed", False))
    assert "Cannot upload model from" in refused
    assert "It is the storage account that refuses: open its network to this machine" in refused


def test_a_name_that_is_taken(sandbox: LocalSandbox, rollout: Commands) -> None:
    sandbox.call(lambda cloud: cloud.taken.add("popular"))
    rollout.write("popular.yml", "name: popular\n")
    refused = rollout("endpoint", "apply", "-f", "popular.yml", code=5).err
    assert "Endpoint name needs to be unique within a region. Try some other name. name: choose another." in refused


def test_a_failed_create_shows_the_console_and_can_be_tried_again(rollout: Commands) -> None:
    rollout.write("broken/score.py", "def init():\n    raise ValueError('no weights')\ndef run(raw): ...\n")
    rest = "model: {path: v1}\ncode_configuration: {code: broken, scoring_script: score.py}\nenvironment: {image: x/y}"
    rollout.write("broken.yml", deployment("broken", rest))
    failed = rollout("deployment", "apply", "-f", "broken.yml", code=5).err
    assert "ResourceNotReady: User container has crashed or terminated" in failed
    assert "Its console ends:" in failed
    assert "ValueError: no weights" in failed
    rollout.write("broken/score.py", SCRIPT)
    again = rollout("deployment", "apply", "-f", "broken.yml")
    assert "Its last operation failed: it is written again." in again.out
    rollout("deployment", "delete", "-n", "stars", "-d", "broken", "--yes")


def test_a_failed_image_build_is_told_with_its_remedy(sandbox: LocalSandbox, rollout: Commands) -> None:
    def break_next(cloud: Cloud) -> None:
        message = "The image build failed: ResolvePackageNotFound: scikit-lern."
        cloud.faults.add(
            ArmFault(kind="fail_operation", since=cloud.now(), count=1, code="ImageBuildFailure", message=message)
        )

    rollout.write("image.yml", deployment("image"))
    sandbox.call(break_next)
    failed = rollout("deployment", "apply", "-f", "image.yml", code=5).err
    assert "scikit-lern. environment: correct the environment's image or conda file." in failed
    rollout("deployment", "delete", "-n", "stars", "-d", "image", "--yes")


def test_what_is_not_there_is_told_with_what_to_do(rollout: Commands) -> None:
    assert "has no endpoint nobody" in rollout("endpoint", "show", "nobody", code=5).err
    assert "has no deployment red" in rollout("deployment", "logs", "-n", "stars", "-d", "red", code=5).err
    assert "There is no file no.yml" in rollout("endpoint", "apply", "-f", "no.yml", code=5).err
    assert "names no workspace x" in rollout("endpoint", "list", "-w", "x", code=5).err


# --- traffic, rollouts, deletes


def test_traffic_by_hand_and_all_traffic(rollout: Commands) -> None:
    rollout.write("green.yml", deployment("green", "model: {path: v2, type: mlflow_model}"))
    rollout("deployment", "apply", "-f", "green.yml")
    assert rollout("endpoint", "traffic", "-n", "stars", "blue=90 green=10").out == (
        "The traffic of stars is blue 90 % + green 10 %.\n"
    )
    assert (
        "it has 10 % of the traffic"
        in rollout("deployment", "delete", "-n", "stars", "-d", "green", "--yes", code=5).err
    )
    assert "add up to 90 %" in rollout("endpoint", "traffic", "-n", "stars", "blue=90", code=5).err
    unknown = rollout("endpoint", "traffic", "-n", "stars", "blue=90", "pink=10", code=5).err
    assert "do not exist in the endpoint: pink" in unknown
    assert "Traffic: green 100 %." in rollout("deployment", "apply", "-f", "green.yml", "--all-traffic").out
    assert "unchanged" in rollout("deployment", "apply", "-f", "green.yml", "--all-traffic").out
    rollout.write("split.yml", STARS + "traffic: {blue: 100}\n")
    assert "Traffic: blue 100 %." in rollout("endpoint", "apply", "-f", "split.yml", "--set-traffic").out
    rollout("deployment", "delete", "-n", "stars", "-d", "green", "--yes")
    listed = rollout("deployment", "list", "-n", "stars").out
    assert "green" not in listed
    assert "blue" in listed


def test_while_a_rollout_runs_its_endpoint_is_left_alone(sandbox: LocalSandbox, rollout: Commands) -> None:
    tag(sandbox, {"team": "food", "rollout": "25 % green; pause first"})
    try:
        before = writes(sandbox)
        for words in (
            ("deployment", "apply", "-f", "gold.yml", "--all-traffic"),
            ("endpoint", "traffic", "-n", "stars", "blue=0"),
            ("endpoint", "delete", "stars", "--yes"),
            ("endpoint", "apply", "-f", "gold-endpoint.yml"),
        ):
            rollout.write("gold.yml", deployment("gold"))
            rollout.write("gold-endpoint.yml", STARS.replace("How many stars.", "Changed."))
            refused = rollout(*words, code=5).err
            assert "a rollout runs on stars (25 % green; pause first)" in refused
        assert writes(sandbox) == before
        assert "unchanged" in rollout("endpoint", "apply", "-f", "endpoint.yml").out
    finally:
        tag(sandbox, {"team": "food"})


def test_no_wait_returns_at_once_and_the_next_apply_waits(
    sandbox: LocalSandbox, rollout: Commands, timings: None
) -> None:
    rollout.write("slow.yml", deployment("slow"))
    assert "is being created" in rollout("deployment", "apply", "-f", "slow.yml", "--no-wait").out
    assert "Creating" in rollout("deployment", "list", "-n", "stars").out
    busy = rollout("deployment", "delete", "-n", "stars", "-d", "slow", "--yes", code=5).err
    assert "Another operation runs on it: wait until it has ended." in busy
    sandbox.call(lambda cloud: setattr(cloud, "timings", BRISK))

    def hurry(cloud: Cloud) -> bool:
        cloud.hurry()
        return cloud.deployment("stars", "slow").state == "Succeeded"

    while not sandbox.call(hurry):
        pass
    assert "unchanged" in rollout("deployment", "apply", "-f", "slow.yml").out
    rollout("deployment", "delete", "-n", "stars", "-d", "slow", "--yes")


def test_nobody_is_asked_in_a_pipe(rollout: Commands) -> None:
    assert "Nobody can be asked here: say so with --yes." in rollout("endpoint", "delete", "stars", code=5).err


# --- predictions


def test_a_prediction_and_what_is_wrong_with_one(sandbox: LocalSandbox, rollout: Commands) -> None:
    good = rollout("predict", "stars", "--request-file", REQUEST)
    assert json.loads(good.out) == [4.05, 3.26]
    assert good.err.startswith("blue answered in ")
    told = json.loads(rollout("predict", "-n", "stars", "--request-file", REQUEST, "-o", "json").out)
    assert (told["status"], told["deployment"], told["answer"], told["problem"]) == (200, "blue", [4.05, 3.26], None)
    rollout.write("wrong.json", '{"rows": []}')
    wrong = rollout("predict", "stars", "--request-file", "wrong.json", code=5).err
    assert "Deployment blue answered 424, the model answered 400" in wrong
    assert "rollout deployment logs -n stars -d blue" in wrong
    rollout.write("no.json", "{")
    assert "no.json is not JSON" in rollout("predict", "stars", "--request-file", "no.json", code=5).err
    nobody = rollout("predict", "stars", "-d", "nobody", "--request-file", REQUEST, code=5).err
    assert "answered 404: Endpoint stars has no deployment nobody" in nobody
    rollout("endpoint", "traffic", "-n", "stars", "blue=0")
    assert "no deployment with positive weight" in rollout("predict", "stars", "--request-file", REQUEST, code=5).err
    rollout("endpoint", "traffic", "-n", "stars", "blue=100")


@pytest.mark.parametrize(
    ("script", "settings", "words"),
    [
        ("import time\ndef init(): ...\ndef run(raw):\n    time.sleep(30)\n", "{request_timeout_ms: 200}", "answered 408"),
        ("def init(): ...\ndef run(raw):\n    raise ValueError\n", "{request_timeout_ms: 5000}", "424, the model answered 500"),
    ],
)  # fmt: skip
def test_a_model_that_fails_is_explained(rollout: Commands, script: str, settings: str, words: str) -> None:
    rollout.write("failing/score.py", script)
    rest = "model: {path: v1}\ncode_configuration: {code: failing, scoring_script: score.py}\nenvironment: {image: x/y}"
    rollout.write("failing.yml", deployment("failing", f"{rest}\nrequest_settings: {settings}"))
    rollout("deployment", "apply", "-f", "failing.yml")
    assert words in rollout("predict", "stars", "-d", "failing", "--request-file", REQUEST, code=5).err
    rollout("deployment", "delete", "-n", "stars", "-d", "failing", "--yes")
