"""Which cloud, who we are, what a connection leaves behind on the terminal, and the role it needs."""

import json
import logging
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from rollout.azure.azure_ml import import_azure_ml
from rollout.azure.cloud import CLOUDS, Cloud, cloud_of, make_credential, sandbox_cloud
from rollout.azure.connection import connect, endpoints_of
from rollout.clock import WallClock
from rollout.errors import SettingsError
from rollout.settings import Cloud as CloudSettings
from rollout.settings import Credential, Workspace
from rollout.world import Split
from tests.support.azure import AnyToken, connected
from tests.support.sandbox import LocalSandbox, local_sandbox
from tests.support.scripted import Answer, Scripted, scripted

ROOT = Path(__file__).parent.parent.parent
GUID = "11111111-2222-3333-4444-555555555555"
WORKSPACE = Workspace(
    subscription_id=GUID, resource_group="rg", workspace_name="ws", region="West Europe", log_workspace=GUID
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("cloud"), seed=True) as local:
        yield local


# --- clouds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLOUDS)
def test_our_addresses_are_those_of_azure_ai_ml(name: str) -> None:
    import_azure_ml()
    from azure.ai.ml._azure_environments import _environments

    known = _environments[name]
    assert CLOUDS[name].name == name
    assert CLOUDS[name].resource_manager == known["resource_manager"].rstrip("/")
    assert CLOUDS[name].authority == known["active_directory"].rstrip("/")


def test_metrics_are_read_where_the_region_is() -> None:
    assert CLOUDS["AzureCloud"].metrics_address("West Europe") == "https://westeurope.metrics.monitor.azure.com"
    assert (
        CLOUDS["AzureUSGovernment"].metrics_address("usgovvirginia") == "https://usgovvirginia.metrics.monitor.azure.us"
    )


def test_the_settings_name_the_cloud(sandbox: LocalSandbox) -> None:
    assert cloud_of(CloudSettings()) is CLOUDS["AzureCloud"]
    local = cloud_of(CloudSettings(name="sandbox", sandbox="s.json"), sandbox.values)
    assert local.ca_file == sandbox.ca_file
    assert {local.resource_manager, local.authority, local.logs, local.metrics_address("x")} == {sandbox.address}


@pytest.mark.parametrize("content", [None, {}, {"address": "https://127.0.0.1:1"}])
def test_a_file_that_is_no_sandboxs_is_refused(content: Any) -> None:
    with pytest.raises(SettingsError, match=r"s\.json is not the file of a running sandbox: start one with"):
        cloud_of(CloudSettings(name="sandbox", sandbox="s.json"), content)


def test_two_sandboxes_never_share_a_name() -> None:
    one, two = (sandbox_cloud(address=f"https://127.0.0.1:{port}/", ca_file="ca.pem") for port in (1, 2))
    assert one.name != two.name  # azure-ai-ml would send everything of the second to the first
    with pytest.raises(SettingsError, match="is not an https address"):
        sandbox_cloud(address="http://127.0.0.1:1", ca_file="ca.pem")


def test_time_outs_and_retries_are_ours() -> None:
    options = CLOUDS["AzureCloud"].options()
    assert options["connection_timeout"] == 5
    assert options["read_timeout"] == 20
    assert (options["retry_total"], options["retry_status"]) == (1, 0)
    assert "connection_verify" not in options  # the system's certificates
    assert "use_env_settings" not in options  # a proxy of the environment is used


# --- credentials -------------------------------------------------------------------------------------------------------


def test_every_kind_of_credential_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = tmp_path / "identity.pem"
    pem.write_bytes(
        trustme.CA().issue_cert("rollout", key_type=trustme.KeyType.RSA).private_key_and_cert_chain_pem.bytes()
    )
    monkeypatch.setenv("AZURE_TENANT_ID", GUID)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    ids = {"tenant_id": GUID, "client_id": GUID}
    kinds: dict[str, dict[str, Any]] = {
        "default": {},
        "managed_identity": {"client_id": GUID},
        "workload_identity": {"client_id": GUID},
        "client_secret": {**ids, "secret_env": "SECRET"},
        "certificate": {**ids, "certificate_file": str(pem)},
    }
    for kind, fields in kinds.items():
        wanted = Credential.model_validate({"type": kind, **fields})
        credential = make_credential(CLOUDS["AzureUSGovernment"], wanted, secret="s")
        assert callable(credential.get_token)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("certificate", {"certificate_file": "no-such.pem"}),
        ("workload_identity", {}),
        ("client_secret", {"secret_env": "S"}),
    ],
)
def test_a_credential_that_cannot_work_is_a_mistake_in_the_settings(
    kind: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE", raising=False)
    wanted = Credential.model_validate({"type": kind, "tenant_id": GUID, "client_id": GUID, **fields})
    with pytest.raises(SettingsError, match=f"The credential {kind} cannot be used: "):
        make_credential(CLOUDS["AzureCloud"], wanted)


# --- connections -------------------------------------------------------------------------------------------------------


def _connect(cloud: Cloud, **workspaces: Workspace) -> Any:
    wanted = Credential.model_validate(
        {"type": "client_secret", "tenant_id": GUID, "client_id": GUID, "secret_env": "S"}
    )
    return connect(
        cloud=cloud, credential=wanted, secret="s", workspaces=workspaces, clock=WallClock(), chance=random.Random(1)
    )


def test_sources_are_keyed_by_what_azure_bills() -> None:
    other = WORKSPACE.model_copy(update={"workspace_name": "ws2"})
    quiet = WORKSPACE.model_copy(update={"region": "northeurope", "metrics": "none"})
    azure = _connect(CLOUDS["AzureCloud"], prod=WORKSPACE, stage=other, dev=quiet)
    assert set(azure.endpoints) == {"prod", "stage", "dev"}
    assert set(azure.logs) == {GUID}
    assert set(azure.metrics) == {(GUID, "westeurope")}
    azure.close()
    azure.close()


def test_one_cloud_per_process() -> None:
    first = _connect(CLOUDS["AzureCloud"], prod=WORKSPACE)
    same = _connect(CLOUDS["AzureCloud"], prod=WORKSPACE)
    with pytest.raises(SettingsError, match="This process is connected to AzureCloud: AzureChinaCloud needs a process"):
        _connect(CLOUDS["AzureChinaCloud"], prod=WORKSPACE)
    first.close()
    same.close()
    _connect(CLOUDS["AzureChinaCloud"], prod=WORKSPACE).close()


def test_a_connection_that_fails_leaves_the_process_free() -> None:
    wanted = Credential.model_validate(
        {"type": "certificate", "tenant_id": GUID, "client_id": GUID, "certificate_file": "no-such.pem"}
    )
    with pytest.raises(SettingsError):
        connect(
            cloud=CLOUDS["AzureChinaCloud"],
            credential=wanted,
            workspaces={},
            clock=WallClock(),
            chance=random.Random(1),
        )
    _connect(CLOUDS["AzureCloud"]).close()


def test_what_azure_ai_ml_logs_goes_into_the_logging_tree(
    sandbox: LocalSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(sandbox):
        for name in [name for name in logging.root.manager.loggerDict if name.startswith("azure.ai.ml")]:
            logger = logging.getLogger(name)
            assert logger.propagate, name
            assert not [each for each in logger.handlers if type(each) is logging.StreamHandler], name
        logging.getLogger("azure.ai.ml._utils._endpoint_utils").warning("heard")
    assert "heard" in caplog.text


QUIET = """
import json, random, sys, threading
from pathlib import Path
import rollout.azure.connection as room
imported_early = "azure.ai.ml" in sys.modules
from rollout.azure.cloud import cloud_of
from rollout.clock import WallClock
from rollout.errors import RolloutError
from rollout.settings import Cloud, Settings, with_sandbox
from rollout.world import Split

values = json.loads(Path(sys.argv[1]).read_text())
settings = with_sandbox(Settings(cloud=Cloud(name="sandbox", sandbox=sys.argv[1])), values)
azure = room.connect(
    cloud=cloud_of(settings.cloud, values), credential=settings.credential, workspaces=settings.workspaces,
    secret=Path(values["client_secret_file"]).read_text(), clock=WallClock(), chance=random.Random(1),
)
port, name = azure.endpoints["sandbox"], "restaurant-recommender"
port.list(), port.get(name), port.deployments(name)
options = {"pair": frozenset({"blue", "red"}), "replacing": None, "note": "x", "still_ours": lambda: True}
try:
    port.set_traffic(name, Split.of({"blue": 90, "red": 10}), **options)
except RolloutError as error:
    refused = error.message
port.set_traffic(name, Split.of({"blue": 100}), **options)
for source in (*azure.logs.values(), *azure.metrics.values()):
    source.read([port.get(name).resource_id], start=29000000, end=29000002)
told = {"imported_early": imported_early, "refused": refused, "threads": [each.name for each in threading.enumerate()]}
Path(sys.argv[2]).write_text(json.dumps(told))
"""


def test_a_proxy_of_the_environment_is_not_asked_for_a_sandbox(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with connected(sandbox) as azure:
        state = azure.endpoints["sandbox"].get("restaurant-recommender")
        assert state is not None
        for source in (*azure.logs.values(), *azure.metrics.values()):
            assert source.read([state.resource_id], start=29_000_000, end=29_000_002).cells == {}


def test_the_environment_is_left_as_it_was(sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "Somewhere")  # would win, and does not exist
    monkeypatch.setenv("AZUREML_DEV_URL_MFE", "https://127.0.0.1:9/mferp/managementfrontend")  # would be talked to
    monkeypatch.delenv("ARM_CLOUD_METADATA_URL", raising=False)
    before = dict(os.environ)
    with connected(sandbox) as azure:
        assert set(azure.endpoints["sandbox"].list().endpoints) == {"restaurant-recommender"}
    assert dict(os.environ) == before


def test_nothing_is_printed_and_nothing_keeps_the_process_alive(sandbox: LocalSandbox, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = [sys.executable, "-c", QUIET, str(sandbox.file), str(told)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    result = json.loads(told.read_text())
    assert not result["imported_early"]  # four seconds that only a connection pays
    assert "red" in result["refused"]
    assert result["threads"] == ["MainThread"]


# --- the role ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Scripted]:
    with scripted(tmp_path) as play:
        yield play


def test_the_role_allows_what_is_asked_and_nothing_else(server: Scripted) -> None:
    cloud = sandbox_cloud(address=server.address, ca_file=server.ca_file)
    port = endpoints_of(cloud, AnyToken(), WORKSPACE, name="prod")
    provider = f"/subscriptions/{GUID}/providers/Microsoft.MachineLearningServices"
    status = f"{server.address}{provider}/locations/westeurope/mfeOperationsStatus/o?t=1"
    endpoint = {"id": "x", "name": "menu", "properties": {"provisioningState": "Succeeded", "traffic": {"blue": 100}}}
    server.answers(
        Answer(body={"value": []}),
        Answer(body=endpoint),
        Answer(body={"value": []}),
        Answer(body=endpoint),
        Answer(status=201, body=endpoint, headers={"Azure-AsyncOperation": status}),
        Answer(body=endpoint),
        Answer(body={"status": "Succeeded"}),
    )
    port.list()
    port.get("menu")
    port.deployments("menu")
    options: dict[str, Any] = {"pair": frozenset({"blue"}), "replacing": None, "note": None, "still_ours": lambda: True}
    port.set_traffic("menu", Split.of({"blue": 100}), **options)
    port.get("menu")
    port.close()
    role = json.loads((ROOT / "deploy" / "role.json").read_text())
    assert len(server.asked) == 7
    assert set(role["Actions"]) == {_action(asked.method, asked.path) for asked in server.asked}
    assert role["NotActions"] == role["DataActions"] == role["NotDataActions"] == []
    described = (ROOT / "docs" / "azure.md").read_text()
    assert all(f"`{action}`" in described for action in role["Actions"])


def test_the_role_for_capacity_is_described() -> None:
    role = json.loads((ROOT / "deploy" / "role-capacity.json").read_text())
    described = (ROOT / "docs" / "azure.md").read_text()
    assert all(f"`{action}`" in described for action in role["Actions"])
    assert role["NotActions"] == role["DataActions"] == role["NotDataActions"] == []


def _action(method: str, path: str) -> str:
    """The action that Azure Resource Manager checks: the resource's types, and what is done to it."""
    provider, *rest = re.split(r"[/?]", path.partition("/providers/")[2])
    segments = rest[: rest.index("api-version")] if "api-version" in rest else rest
    types = [each for each in segments[::2] if each and "=" not in each]
    return "/".join([provider, *types, "write" if method == "PUT" else "read"])
