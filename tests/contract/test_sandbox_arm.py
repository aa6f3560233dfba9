"""The sandbox's control plane as the unmodified azure-ai-ml and azure-identity see it, over HTTPS."""

import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.constants._common import LROConfigurations
from azure.ai.ml.entities import (
    CodeConfiguration,
    KubernetesOnlineEndpoint,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)
from azure.ai.ml.exceptions import MlException
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceResponseError,
)

from rollout.sandbox.cloud import Cloud
from rollout.sandbox.resources import Asset, Timings
from tests.support.sandbox import LocalSandbox, local_sandbox

SHOP = "restaurant-recommender"
API = {"api-version": "2023-04-01-preview"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    before = LROConfigurations.POLL_INTERVAL
    LROConfigurations.POLL_INTERVAL = 0.05
    with local_sandbox(tmp_path_factory.mktemp("sandbox"), seed=True) as local:
        yield local
    LROConfigurations.POLL_INTERVAL = before


@pytest.fixture(scope="module")
def client(sandbox: LocalSandbox) -> MLClient:
    return sandbox.ml_client()


@pytest.fixture(scope="module")
def impatient(sandbox: LocalSandbox) -> MLClient:
    """A client that neither retries nor waits long."""
    return sandbox.ml_client(retry_total=0, read_timeout=1, connection_timeout=5)


@pytest.fixture(scope="module")
def rest(sandbox: LocalSandbox) -> Iterator[httpx.Client]:
    """Plain HTTPS with the service principal's token, for what the SDK hides."""
    token = sandbox.credential().get_token(f"{sandbox.address}/.default").token
    context = ssl.create_default_context(cafile=sandbox.ca_file)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(verify=context, base_url=sandbox.address, headers=headers, trust_env=False, params=API) as http:
        yield http


@pytest.fixture
def inject(sandbox: LocalSandbox, rest: httpx.Client) -> Iterator[Callable[..., None]]:
    def add(kind: str, **values: Any) -> None:
        answer = rest.post("/sandbox/faults", json={"plane": "arm", "kind": kind, **values})
        assert answer.status_code == 201, answer.text

    yield add
    rest.delete("/sandbox/faults")


@pytest.fixture(scope="module")
def green(client: MLClient) -> str:
    """A second deployment beside blue, made by the SDK."""
    made = client.online_deployments.begin_create_or_update(deployment("green", version="2")).result()
    assert made.provisioning_state == "Succeeded"
    return "green"


@pytest.fixture
def at_blue(client: MLClient, green: str) -> Iterator[str]:
    """The endpoint with all traffic on blue, before and after."""
    yield SHOP
    wait_until(lambda: client.online_endpoints.get(SHOP).provisioning_state in ("Succeeded", "Failed"))
    set_traffic(client, {"blue": 100})


def deployment(name: str, *, version: str = "1", endpoint: str = SHOP, **other: Any) -> ManagedOnlineDeployment:
    values = {
        "name": name,
        "endpoint_name": endpoint,
        "model": f"azureml:recommender:{version}",
        "environment": "azureml:recommender-env:1",
        "code_configuration": CodeConfiguration(code=f"azureml:recommender-code:{version}", scoring_script="score.py"),
        "instance_type": "Standard_DS3_v2",
        "instance_count": 1,
    }
    return ManagedOnlineDeployment(**{**values, **other})


def set_traffic(client: MLClient, traffic: dict[str, int]) -> None:
    endpoint = client.online_endpoints.get(SHOP)
    endpoint.traffic = traffic
    client.online_endpoints.begin_create_or_update(endpoint).result()
    wait_until(lambda: nonzero(client.online_endpoints.get(SHOP).traffic) == nonzero(traffic))


def nonzero(traffic: dict[str, int]) -> dict[str, int]:
    return {name: share for name, share in traffic.items() if share}


def wait_until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"


def path(sandbox: LocalSandbox, rest: str = "") -> str:
    values = sandbox.values
    return (
        f"/subscriptions/{values['subscription_id']}/resourceGroups/{values['resource_group']}/providers"
        f"/Microsoft.MachineLearningServices/workspaces/{values['workspace_name']}{rest}"
    )


def told(error: HttpResponseError) -> str:
    """Code, message and details, as a person would look for them."""
    assert error.error is not None
    return " | ".join([error.error.code, error.error.message, *(each.message for each in error.error.details)])


# Tokens


def test_the_directory_gives_a_token(sandbox: LocalSandbox) -> None:
    token = sandbox.credential().get_token(f"{sandbox.address}/.default")
    assert token.token.count(".") == 2
    assert 3000 < token.expires_on - time.time() < 3700


def test_a_wrong_secret_is_an_authentication_error(sandbox: LocalSandbox) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215") as caught:
        sandbox.credential(secret="wrong").get_token(f"{sandbox.address}/.default")
    assert caught.value.status_code is None
    assert sandbox.secret not in str(caught.value)


def test_a_service_nobody_knows_is_refused(sandbox: LocalSandbox) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS500011"):
        sandbox.credential().get_token("https://elsewhere.example/.default")


def test_a_token_for_another_service_is_401(sandbox: LocalSandbox, rest: httpx.Client) -> None:
    token = sandbox.credential().get_token("https://ml.azure.com/.default").token
    answer = rest.get(path(sandbox), headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationTokenAudience")


def test_an_expired_or_foreign_token_is_an_authentication_error(sandbox: LocalSandbox, client: MLClient) -> None:
    class Stale:
        def get_token(self, *scopes: str, **other: Any) -> Any:
            token = sandbox.credential().get_token(*scopes)
            return token._replace(token=token.token[:-4] + "AAAA")

    local = sandbox.ml_client()
    stale = MLClient(
        Stale(),
        local.subscription_id,
        local.resource_group_name,
        local.workspace_name,
        cloud=f"Local-{sandbox.address.rpartition(':')[2]}",
        connection_verify=sandbox.ca_file,
        enable_telemetry=False,
    )
    with pytest.raises(ClientAuthenticationError) as caught:
        stale.online_endpoints.get(SHOP)
    assert caught.value.status_code == 401


# The workspace and its assets


def test_the_workspace_is_there(sandbox: LocalSandbox, client: MLClient) -> None:
    workspace = client.workspaces.get(sandbox.values["workspace_name"])
    assert workspace.location == sandbox.values["region"]


def test_registered_assets_are_found_by_name_version_and_label(client: MLClient) -> None:
    assert [each.version for each in client.models.list("recommender")] == ["3", "2", "1"]
    assert "recommender" in [each.name for each in client.models.list()]
    assert client.models.get("recommender", "2").id.endswith("/models/recommender/versions/2")
    assert client.models.get("recommender", label="latest").version == "3"
    assert client.environments.get("recommender-env", "1").name == "recommender-env"
    with pytest.raises(ResourceNotFoundError):
        client.models.get("recommender", "9")


def test_long_lists_come_in_pages(sandbox: LocalSandbox, client: MLClient) -> None:
    assets = [Asset(kind="models", name="many", version=str(number)) for number in range(1, 231)]

    def register(cloud: Cloud) -> None:
        for asset in assets:
            cloud.assets.register(asset, now=cloud.now())

    sandbox.call(register)
    versions = [int(each.version) for each in client.models.list("many")]
    assert versions == list(range(230, 0, -1))


# The life of an endpoint


@pytest.mark.parametrize("auth", ["key", "aml_token"])
def test_an_endpoint_lives_and_dies(client: MLClient, auth: str) -> None:
    name = f"cafe-{auth.replace('_', '-')}"
    made = client.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name=name, auth_mode=auth, description="a café", tags={"team": "food"})
    ).result()
    assert (made.provisioning_state, made.tags, made.traffic) == ("Succeeded", {"team": "food"}, {})
    assert made.scoring_uri.endswith(f"/endpoints/{name}/score")
    opened = client.online_endpoints.get_keys(name)
    if auth == "key":
        assert len({opened.primary_key, opened.secondary_key}) == 2
    else:
        assert opened.expiry_time_utc - opened.refresh_after_time_utc == 12 * 3600
        assert len(opened.access_token) > 100
    assert name in [each.name for each in client.online_endpoints.list()]
    client.online_endpoints.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        client.online_endpoints.get(name)
    client.online_endpoints.begin_delete(name).result()


def test_a_deployment_is_made_by_reference_and_serves(
    sandbox: LocalSandbox, client: MLClient, rest: httpx.Client, green: str
) -> None:
    found = client.online_deployments.get(green, SHOP)
    assert found.model.endswith("/models/recommender/versions/2")
    assert found.code_configuration.code.endswith("/codes/recommender-code/versions/2")
    assert {each.name for each in client.online_deployments.list(SHOP)} == {"blue", "green"}
    key = client.online_endpoints.get_keys(SHOP).primary_key
    answer = rest.post(
        f"/endpoints/{SHOP}/score",
        json={"diner": "d-1"},
        headers={"Authorization": f"Bearer {key}", "azureml-model-deployment": green},
    )
    assert answer.headers["azureml-model-deployment"] == green


def test_a_deployment_is_updated_and_deleted(client: MLClient, green: str) -> None:
    client.online_deployments.begin_create_or_update(deployment("teal")).result()
    grown = client.online_deployments.begin_create_or_update(deployment("teal", instance_count=3)).result()
    assert (grown.instance_count, grown.provisioning_state) == (3, "Succeeded")
    client.online_deployments.begin_delete("teal", SHOP).result()
    with pytest.raises(ResourceNotFoundError):
        client.online_deployments.get("teal", SHOP)


def test_the_logs_of_a_deployment_are_its_own_lines(sandbox: LocalSandbox, client: MLClient, green: str) -> None:
    sandbox.call(lambda cloud: cloud.append_console(SHOP, green, "a line of the model"))
    assert client.online_deployments.get_logs(green, SHOP, 5).splitlines()[-1] == "a line of the model"
    assert client.online_deployments.get_logs(green, SHOP, 5, container_type="storage-initializer") == ""


def test_traffic_is_set_and_read_back(client: MLClient, at_blue: str) -> None:
    set_traffic(client, {"blue": 75, "green": 25})
    assert client.online_endpoints.get(at_blue).traffic == {"blue": 75, "green": 25}
    set_traffic(client, {"blue": 100, "green": 0})
    assert client.online_endpoints.get(at_blue).traffic == {"blue": 100, "green": 0}, "the SDK adds the zero"


def test_after_a_success_the_old_traffic_is_read_for_a_moment(
    sandbox: LocalSandbox, client: MLClient, at_blue: str
) -> None:
    lag = Timings().changed(read_lag=1800)  # 3 s at speed 600
    sandbox.call(lambda cloud: setattr(cloud, "timings", lag))
    endpoint = client.online_endpoints.get(at_blue)
    endpoint.traffic = {"blue": 90, "green": 10}
    done = client.online_endpoints.begin_create_or_update(endpoint).result()
    sandbox.call(lambda cloud: setattr(cloud, "timings", Timings()))
    assert (done.provisioning_state, nonzero(done.traffic)) == ("Succeeded", {"blue": 100})
    wait_until(lambda: nonzero(client.online_endpoints.get(at_blue).traffic) == {"blue": 90, "green": 10})


# What the wire says


def test_an_operation_is_told_as_azure_tells_it(sandbox: LocalSandbox, rest: httpx.Client, at_blue: str) -> None:
    slow = Timings().changed(endpoint_update=6000)  # 10 s at speed 600, unless hurried
    sandbox.call(lambda cloud: setattr(cloud, "timings", slow))
    before = rest.get(path(sandbox, f"/onlineEndpoints/{SHOP}")).json()
    body = {**before, "properties": {**before["properties"], "traffic": {"blue": 60, "green": 40}}}
    answer = rest.put(path(sandbox, f"/onlineEndpoints/{SHOP}"), json=body)
    sandbox.call(lambda cloud: setattr(cloud, "timings", Timings()))
    assert answer.status_code == 201
    assert "Retry-After" not in answer.headers
    assert answer.headers["x-ms-async-operation-timeout"] == "PT30M"
    assert answer.json()["properties"]["provisioningState"] == "Updating"
    assert answer.json()["properties"]["traffic"] == {"blue": 100}, "the old traffic"
    status, result = answer.headers["Azure-AsyncOperation"], answer.headers["Location"]
    assert "/mfeOperationsStatus/oeidp:" in status
    assert len(status) > 2500
    bare = httpx.Client(verify=ssl.create_default_context(cafile=sandbox.ca_file), headers=rest.headers)
    with bare:
        running = bare.get(status).json()
        assert (running["status"], running["endTime"]) == ("Updating", "0001-01-01T00:00:00+00:00")
        assert 0 <= running["percentComplete"] < 100
        assert bare.get(result).status_code == 202
        assert bare.get(status.replace("&s=", "&s=x")).status_code == 403
        sandbox.call(lambda cloud: cloud.hurry())
        ended = bare.get(status).json()
        assert (ended["status"], ended["percentComplete"]) == ("Succeeded", 100)
        assert bare.get(result).status_code == 204


def test_what_is_left_is_told_in_every_answer(sandbox: LocalSandbox, rest: httpx.Client) -> None:
    answer = rest.get(path(sandbox))
    assert 0 <= int(answer.headers["x-ms-ratelimit-remaining-subscription-reads"]) < 250
    assert len(answer.headers["x-ms-correlation-request-id"]) == 36


def test_a_person_is_named_as_the_last_writer(sandbox: LocalSandbox, rest: httpx.Client, at_blue: str) -> None:
    set_traffic(sandbox.ml_client("alex@example.org"), {"blue": 99, "green": 1})
    system = rest.get(path(sandbox, f"/onlineEndpoints/{SHOP}")).json()["systemData"]
    assert (system["lastModifiedBy"], system["lastModifiedByType"]) == ("alex@example.org", "User")
    assert system["createdBy"] == sandbox.values["client_id"]


def test_a_reader_reads_and_writes_nothing(sandbox: LocalSandbox, rest: httpx.Client, at_blue: str) -> None:
    """As Azure's role Reader: every write is a 403 that names the action, and so is a POST that reads keys."""
    reader = "7a1c0000-0000-4000-8000-00000000000a"
    rest.patch("/sandbox/knobs", json={"readers": [reader.upper()]})
    try:
        client = sandbox.ml_client(reader, retry_total=0)
        endpoint = client.online_endpoints.get(SHOP)
        assert client.online_deployments.list(SHOP)
        endpoint.traffic = {"blue": 90, "green": 10}
        with pytest.raises(HttpResponseError) as refused:
            client.online_endpoints.begin_create_or_update(endpoint)
        assert refused.value.status_code == 403
        assert "'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write'" in str(refused.value)
        with pytest.raises(HttpResponseError, match="onlineEndpoints/listKeys/action"):
            client.online_endpoints.get_keys(SHOP)
        with pytest.raises(HttpResponseError, match="onlineEndpoints/deployments/delete"):
            client.online_deployments.begin_delete("green", SHOP)
    finally:
        rest.patch("/sandbox/knobs", json={"readers": []})


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/subscriptions/other/resourceGroups/x/providers/y", 404, "SubscriptionNotFound"),
        ("{workspace}-other", 404, "ResourceNotFound"),
        ("{workspace}/onlineEndpoints/nobody", 404, "NotFound"),
        ("{workspace}/jobs/nothing", 501, "NotSupportedBySandbox"),
        ("{workspace}/datastores/another", 404, "NotFound"),
    ],
)
def test_an_address_without_a_thing_says_so(
    sandbox: LocalSandbox, rest: httpx.Client, address: str, status: int, code: str
) -> None:
    answer = rest.get(address.format(workspace=path(sandbox)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_request_needs_an_api_version_and_json(sandbox: LocalSandbox, rest: httpx.Client) -> None:
    without = httpx.get(
        sandbox.address + path(sandbox),
        headers=rest.headers,
        verify=ssl.create_default_context(cafile=sandbox.ca_file),
        trust_env=False,
    )
    assert without.json()["error"]["code"] == "MissingApiVersionParameter"
    garbled = rest.put(path(sandbox, "/onlineEndpoints/garbled"), content="{not json")
    assert (garbled.status_code, "not JSON" in garbled.text) == (400, True)


def test_a_service_error_has_details_and_additional_information(sandbox: LocalSandbox, rest: httpx.Client) -> None:
    error = rest.get(path(sandbox, "/onlineEndpoints/nobody")).json()["error"]
    assert error["message"] == "The specified resource was not found."
    assert error["details"][0]["code"] == "InferencingClientCallFailed"
    names = {each["type"] for each in error["additionalInfo"]}
    assert names == {"ComponentName", "Correlation", "Environment", "Location", "Time"}


def test_a_patch_that_carries_traffic_is_refused(sandbox: LocalSandbox, rest: httpx.Client, at_blue: str) -> None:
    where = path(sandbox, f"/onlineEndpoints/{SHOP}")
    refused = rest.patch(where, json={"properties": {"traffic": {"green": 100}}})
    assert (refused.status_code, "send a PUT" in refused.text) == (400, True)
    assert rest.patch(where, json={"tags": {"rollout": "25 % green"}}).status_code == 202
    sandbox.call(lambda cloud: cloud.hurry())
    assert rest.get(where).json()["tags"] == {"rollout": "25 % green"}


# Refusals, as the exceptions that callers meet


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        ({"blue": 90}, "add up to 0 or 100 percent"),
        ({"blue": 90, "purple": 10}, "do not exist in the endpoint: purple"),
    ],
)
def test_a_wrong_split_is_a_400_with_its_cause(
    client: MLClient, at_blue: str, traffic: dict[str, int], words: str
) -> None:
    endpoint = client.online_endpoints.get(at_blue)
    endpoint.traffic = traffic
    with pytest.raises(HttpResponseError) as caught:
        client.online_endpoints.begin_create_or_update(endpoint)
    assert caught.value.status_code == 400
    assert words in told(caught.value)


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ({"blue": 10}, "cannot take live traffic and mirrored traffic at the same time"),
        ({"green": 51}, "The mirrored percentage must be from 0 to 50; 51 was given"),
        ({"purple": 10}, "do not exist in the endpoint: purple"),
    ],
)
def test_mirrored_traffic_that_azure_refuses(
    client: MLClient, at_blue: str, mirror: dict[str, int], words: str
) -> None:
    endpoint = client.online_endpoints.get(at_blue)
    endpoint.mirror_traffic = mirror
    with pytest.raises(HttpResponseError) as caught:
        client.online_endpoints.begin_create_or_update(endpoint)
    assert words in told(caught.value)


def test_a_cluster_that_is_not_attached_is_a_400(sandbox: LocalSandbox, client: MLClient) -> None:
    compute = path(sandbox, "/computes/k8s")
    with pytest.raises(HttpResponseError, match="is not attached to the workspace"):
        client.online_endpoints.begin_create_or_update(KubernetesOnlineEndpoint(name="on-k8s", compute=compute))


def test_a_model_whose_files_are_not_there_is_a_400(client: MLClient) -> None:
    model = Model(name="mine", version="1", path="azureml://datastores/workspaceblobstore/paths/mine")
    with pytest.raises(HttpResponseError, match="does not exist in the workspace's blob store"):
        client.models.create_or_update(model)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": "azureml:recommender:9"}, "does not exist: register it first"),
        ({"code_configuration": None, "environment": None}, "only models of type mlflow_model"),
        ({"instance_count": 51}, "from 1 to 50"),
    ],
)
def test_a_wrong_deployment_is_a_400(client: MLClient, other: dict[str, Any], words: str) -> None:
    with pytest.raises(HttpResponseError) as caught:
        client.online_deployments.begin_create_or_update(deployment("wrong", **other))
    assert caught.value.status_code == 400
    assert words in told(caught.value)


def test_a_deployment_with_traffic_is_not_deleted(client: MLClient, at_blue: str) -> None:
    with pytest.raises(HttpResponseError, match="takes 100 percent") as caught:
        client.online_deployments.begin_delete("blue", SHOP)
    assert caught.value.status_code == 400


def test_a_bad_name_never_leaves_the_sdk(client: MLClient) -> None:
    with pytest.raises(MlException) as caught:
        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="9-lives", auth_mode="key"))
    assert not isinstance(caught.value, HttpResponseError)


def test_a_second_write_is_a_conflict(sandbox: LocalSandbox, client: MLClient, at_blue: str) -> None:
    slow = Timings().changed(endpoint_update=60_000)
    sandbox.call(lambda cloud: setattr(cloud, "timings", slow))
    endpoint = client.online_endpoints.get(at_blue)
    endpoint.traffic = {"blue": 100}
    first = client.online_endpoints.begin_create_or_update(endpoint)
    with pytest.raises(ResourceExistsError) as caught:
        client.online_endpoints.begin_create_or_update(endpoint)
    assert caught.value.status_code == 409
    with pytest.raises(ResourceExistsError, match="because it is in Updating provisioning state"):
        client.online_deployments.begin_create_or_update(deployment("late"))
    sandbox.call(lambda cloud: setattr(cloud, "timings", Timings()))
    sandbox.call(lambda cloud: cloud.hurry())
    first.wait(20)
    assert first.status() == "Succeeded"


def test_a_failed_operation_has_its_own_code_and_status_200(
    client: MLClient, at_blue: str, inject: Callable[..., None]
) -> None:
    inject("fail_operation", count=1, code="OperationCanceled", message="waiting for lock confirmation")
    endpoint = client.online_endpoints.get(at_blue)
    endpoint.traffic = {"blue": 50, "green": 50}
    poller = client.online_endpoints.begin_create_or_update(endpoint)
    with pytest.raises(HttpResponseError, match="waiting for lock confirmation") as caught:
        poller.result()
    assert caught.value.status_code == 200
    assert caught.value.error is not None
    assert caught.value.error.code == "OperationCanceled"
    after = client.online_endpoints.get(at_blue)
    assert (after.provisioning_state, nonzero(after.traffic)) == ("Failed", {"blue": 100})


def test_a_deployment_whose_script_cannot_start_fails_with_its_reason(
    sandbox: LocalSandbox, client: MLClient, rest: httpx.Client, tmp_path: Any
) -> None:
    script = "def init():\n    raise RuntimeError('no weights here')\n\ndef run(raw):\n    return raw\n"
    (tmp_path / "score.py").write_text(script, encoding="utf-8")
    body = {"kind": "codes", "name": "broken-code", "version": "1", "path": str(tmp_path)}
    assert rest.post("/sandbox/assets", json=body).status_code == 201
    broken = deployment(
        "broken", code_configuration=CodeConfiguration(code="azureml:broken-code:1", scoring_script="score.py")
    )
    poller = client.online_deployments.begin_create_or_update(broken)
    with pytest.raises(HttpResponseError, match="ResourceNotReady") as caught:
        poller.result()
    assert "no weights here" in str(caught.value)
    assert client.online_deployments.get("broken", SHOP).provisioning_state == "Failed"
    client.online_deployments.begin_delete("broken", SHOP).result()


# Faults of the control plane


def test_throttling_is_retried_after_the_time_it_names(client: MLClient, inject: Callable[..., None]) -> None:
    inject("throttle", on="reads", count=1, retry_after=0.05)
    assert client.online_endpoints.get(SHOP).name == SHOP


def test_throttling_without_an_end_is_a_429(impatient: MLClient, inject: Callable[..., None]) -> None:
    inject("throttle", on="reads", for_minutes=600)
    with pytest.raises(HttpResponseError) as caught:
        impatient.online_endpoints.get(SHOP)
    assert caught.value.status_code == 429
    assert "Retry-After" not in caught.value.response.headers


@pytest.mark.parametrize(("status", "parsed"), [(500, True), (502, False), (503, True)])
def test_a_server_error_arrives_with_its_body(
    impatient: MLClient, inject: Callable[..., None], status: int, parsed: bool
) -> None:
    inject("error", on="reads", count=1, status=status)
    with pytest.raises(HttpResponseError) as caught:
        impatient.online_endpoints.get(SHOP)
    assert caught.value.status_code == status
    assert (caught.value.error is not None) == parsed


def test_an_injected_conflict_is_not_retried(client: MLClient, at_blue: str, inject: Callable[..., None]) -> None:
    inject("conflict", count=2)
    with pytest.raises(ResourceExistsError, match="because it is in Updating provisioning state"):
        client.online_deployments.begin_create_or_update(deployment("late"))
    endpoint = client.online_endpoints.get(at_blue)
    with pytest.raises(ResourceExistsError):
        client.online_endpoints.begin_create_or_update(endpoint)
    client.online_endpoints.begin_create_or_update(endpoint).result()


def test_a_withheld_answer_is_a_write_that_happened(
    impatient: MLClient, client: MLClient, at_blue: str, inject: Callable[..., None]
) -> None:
    inject("timeout", count=1)
    endpoint = client.online_endpoints.get(at_blue)
    endpoint.traffic = {"blue": 20, "green": 80}
    with pytest.raises(ServiceResponseError):
        impatient.online_endpoints.begin_create_or_update(endpoint)
    wait_until(lambda: nonzero(client.online_endpoints.get(at_blue).traffic) == {"blue": 20, "green": 80})


def test_a_retried_write_meets_its_own_operation(
    sandbox: LocalSandbox, at_blue: str, inject: Callable[..., None]
) -> None:
    slow = Timings().changed(endpoint_update=60_000)
    sandbox.call(lambda cloud: setattr(cloud, "timings", slow))
    retrying = sandbox.ml_client(retry_total=1, read_timeout=1)
    endpoint = retrying.online_endpoints.get(at_blue)
    endpoint.traffic = {"blue": 30, "green": 70}
    inject("timeout", count=1)
    with pytest.raises(ResourceExistsError):
        retrying.online_endpoints.begin_create_or_update(endpoint)
    sandbox.call(lambda cloud: setattr(cloud, "timings", Timings()))
    sandbox.call(lambda cloud: cloud.hurry())
    wait_until(lambda: nonzero(retrying.online_endpoints.get(at_blue).traffic) == {"blue": 30, "green": 70})


def test_a_poll_that_fails_leaves_the_outcome_open(
    impatient: MLClient, client: MLClient, at_blue: str, inject: Callable[..., None]
) -> None:
    inject("error", on="polls", count=1, status=502)
    endpoint = client.online_endpoints.get(at_blue)
    endpoint.traffic = {"blue": 10, "green": 90}
    poller = impatient.online_endpoints.begin_create_or_update(endpoint)
    with pytest.raises(HttpResponseError) as caught:
        poller.result()
    assert type(caught.value.__cause__).__name__ == "BadStatus"
    wait_until(lambda: nonzero(client.online_endpoints.get(at_blue).traffic) == {"blue": 10, "green": 90})


def test_a_directory_that_is_down_is_an_authentication_error(
    sandbox: LocalSandbox, inject: Callable[..., None]
) -> None:
    inject("error", on="tokens", for_minutes=6000)
    with pytest.raises(ClientAuthenticationError, match="503"):
        sandbox.credential(retry_total=0).get_token(f"{sandbox.address}/.default")


# The sandbox's own address


def test_the_sandbox_tells_what_it_does(sandbox: LocalSandbox, rest: httpx.Client, green: str) -> None:
    status = rest.get("/sandbox/status").json()
    assert status["speed"] == sandbox.values["speed"]
    [shop] = [each for each in status["endpoints"] if each["name"] == SHOP]
    assert {each["name"] for each in shop["deployments"]} >= {"blue", "green"}
    assert status["faults"] == []


def test_knobs_are_turned_and_wrong_ones_are_named(rest: httpx.Client) -> None:
    before = rest.get("/sandbox/knobs").json()
    turned = rest.patch("/sandbox/knobs", json={"timings": {"read_lag": 4}, "delays": {"logs": [10, 20]}}).json()
    assert (turned["timings"]["read_lag"], turned["delays"]["logs"]) == ([4, 4], [10, 20])
    for wrong in ({"timings": {"nap": 1}}, {"delays": {"logs": "soon"}}, {"naps": {}}, {"readers": "me"}, [1]):
        answer = rest.patch("/sandbox/knobs", json=wrong)
        assert (answer.status_code, bool(answer.json()["error"]["message"])) == (400, True)
    assert rest.patch("/sandbox/knobs", json=before).json() == before


def test_a_wrong_fault_or_asset_is_refused(rest: httpx.Client) -> None:
    assert "kind: 'nonsense'" in rest.post("/sandbox/faults", json={"plane": "arm", "kind": "nonsense"}).text
    assert rest.delete("/sandbox/faults/999").status_code == 404
    asset = {"kind": "codes", "name": "x", "version": "1", "path": "relative"}
    assert "absolute path" in rest.post("/sandbox/assets", json=asset).text


def test_sandbox_json_is_private_and_holds_no_secret(sandbox: LocalSandbox) -> None:
    assert sandbox.file.stat().st_mode & 0o777 == 0o600
    assert sandbox.secret not in sandbox.file.read_text()


def test_what_was_asked_is_counted(client: MLClient, rest: httpx.Client) -> None:
    before = rest.get("/sandbox/calls").json()
    client.online_endpoints.get(SHOP)
    client.online_endpoints.get(SHOP)
    after = rest.get("/sandbox/calls", params={"since": before["now"]}).json()
    kinds = [call["kind"] for call in after["recent"]]
    one = "GET onlineEndpoints/{endpoint}"
    assert kinds.count(one) == 2
    assert after["counts"][one] == before["counts"].get(one, 0) + 2
    call = after["recent"][-1]
    assert (call["endpoint"], call["status"]) == (SHOP, 200)
    assert before["now"] < call["arrived"] <= call["answered"] <= after["now"]
    assert rest.get("/sandbox/calls", params={"since": "noon"}).status_code == 400
