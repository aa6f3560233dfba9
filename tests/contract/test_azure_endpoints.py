"""Endpoints and traffic: the real azure-ai-ml over HTTPS, against the sandbox and against scripted answers."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from rollout.azure.cloud import make_credential, sandbox_cloud
from rollout.azure.connection import Azure, endpoints_of
from rollout.azure.endpoints import AzureEndpoints
from rollout.errors import ConflictError, RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.sandbox import seed
from rollout.sandbox.faults import ArmFault
from rollout.sandbox.resources import Actor
from rollout.settings import Credential, Workspace
from rollout.world import EndpointKind, EndpointState, Split
from tests.support.azure import AnyToken, connected
from tests.support.sandbox import LocalSandbox, local_sandbox
from tests.support.scripted import Answer, Scripted, scripted

NAME = "restaurant-recommender"
PAIR = frozenset({"blue", "green"})
BLUE, CANARY = Split.of({"blue": 100}), Split.of({"blue": 90, "green": 10})
TYPE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
PERSON = Actor(id="ana@example.com", kind="User")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("arm"), speed=120, seed=True) as local:
        for name in ("green", "purple"):
            _deploy(local, name)
        yield local


@pytest.fixture(scope="module")
def azure(sandbox: LocalSandbox) -> Iterator[Azure]:
    with connected(sandbox, read_timeout=1.0) as connection:
        yield connection


@pytest.fixture
def endpoints(sandbox: LocalSandbox, azure: Azure) -> Iterator[AzureEndpoints]:
    """The port, with all traffic on blue; faults are cleared afterwards."""
    port = azure.endpoints["sandbox"]
    assert isinstance(port, AzureEndpoints)
    _by_hand(sandbox, {"blue": 100})
    yield port
    sandbox.call(lambda cloud: cloud.faults.clear())


def _deploy(local: LocalSandbox, name: str) -> None:
    values = seed._read(seed.SAMPLES / "green-v2.yml")
    body = seed.deployment_body(values, local.sandbox.cloud.identity)
    local.call(lambda cloud: cloud.put_deployment(NAME, name, body, actor=Actor(id=cloud.identity.client_id)))
    _until(local, lambda cloud: cloud.deployment(NAME, name).state == "Succeeded")


def _by_hand(local: LocalSandbox, traffic: dict[str, int], *, tags: dict[str, str] | None = None) -> None:
    """What a person does in the Studio."""

    def put(cloud: Any) -> None:
        body = seed.endpoint_body(seed._read(seed.SAMPLES / "endpoint.yml"), cloud.identity)
        body["properties"]["traffic"] = traffic
        body["properties"]["description"] = "what ana wrote"
        body["tags"] = tags or {"team": "food"}
        cloud.put_endpoint(NAME, body, actor=PERSON)

    _until(local, lambda cloud: not cloud.endpoint(NAME).state.busy)
    local.call(put)
    _until(local, lambda cloud: dict(cloud.traffic_shown(cloud.endpoint(NAME))) == traffic)


def _until(local: LocalSandbox, condition: Callable[[Any], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        local.call(lambda cloud: cloud.hurry())
        if local.call(condition):
            return
        pause.wait(0.02)
    raise TimeoutError("the sandbox did not get there")


def _settled(local: LocalSandbox, endpoints: AzureEndpoints, shown: Split) -> EndpointState:
    _until(local, lambda cloud: Split.of(cloud.traffic_shown(cloud.endpoint(NAME))) == shown)
    state = endpoints.get(NAME)
    assert state is not None
    return state


def _set(endpoints: AzureEndpoints, split: Split, **more: Any) -> None:
    options: dict[str, Any] = {
        "pair": PAIR,
        "replacing": None,
        "note": "10 % green; pause first",
        "still_ours": lambda: True,
    }
    endpoints.set_traffic(NAME, split, **(options | more))


def _inject(local: LocalSandbox, kind: Any, **more: Any) -> None:
    local.call(lambda cloud: cloud.faults.add(ArmFault(kind=kind, since=cloud.now(), **({"count": 1} | more))))


# --- reading -----------------------------------------------------------------------------------------------------------


def test_a_listing_shows_split_and_state(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    listing = endpoints.list()
    assert set(listing.endpoints) == {NAME}
    assert listing.broken == {}
    state = listing.endpoints[NAME]
    assert state == endpoints.get(NAME)
    assert (state.state, state.traffic, state.kind, state.auth_mode) == ("Succeeded", BLUE, EndpointKind.MANAGED, "key")
    assert state.resource_id.endswith(f"/onlineEndpoints/{NAME}")
    assert state.tags == {"team": "food"}
    assert state.last_modified_by == PERSON.id
    assert state.last_modified_at is not None


def test_deployments_are_pinned_to_what_they_serve(endpoints: AzureEndpoints) -> None:
    found = endpoints.deployments(NAME)
    assert set(found) == {"blue", "green", "purple"}
    pin = found["green"].pin
    assert (pin.model or "").endswith("/models/recommender/versions/2")
    assert (pin.environment or "").endswith("/environments/recommender-env/versions/1")
    assert (pin.code or "").endswith("/codes/recommender-code/versions/2/score.py")
    assert datetime.fromisoformat(pin.modified_at or "").tzinfo is not None
    assert pin.instances == 2
    assert found["green"].state == "Succeeded"


def test_what_does_not_exist_is_told_from_what_cannot_be_read(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    assert endpoints.get("no-such-endpoint") is None
    assert endpoints.deployments("no-such-endpoint") == {}
    _inject(sandbox, "error", on="reads", status=502)
    with pytest.raises(UnavailableError, match="502"):
        endpoints.get("no-such-endpoint")


def test_a_workspace_that_is_not_there_is_a_persons_business(sandbox: LocalSandbox, azure: Azure) -> None:
    for field in ("workspace_name", "resource_group"):
        workspace = _workspace(sandbox, **{field: "elsewhere"})
        port = endpoints_of(azure.cloud, sandbox.credential(), workspace, name="prod")
        with pytest.raises(RefusedError, match="elsewhere"):
            port.get(NAME)
        with pytest.raises(RefusedError, match="Cannot list the endpoints of workspace prod: Azure answered 404"):
            port.list()
        port.close()


# --- writing -----------------------------------------------------------------------------------------------------------


def test_traffic_is_begun_to_move_and_nothing_is_waited_for(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    before = set(threading.enumerate())
    _set(endpoints, CANARY)
    assert set(threading.enumerate()) == before  # no poller of the SDK's
    state = endpoints.get(NAME)
    assert state is not None
    assert (state.state, state.traffic) == ("Updating", BLUE)  # the old traffic is shown meanwhile
    state = _settled(sandbox, endpoints, CANARY)
    assert (state.state, state.traffic, state.failure) == ("Succeeded", CANARY, None)
    assert state.tags == {"team": "food", "rollout": "10 % green; pause first"}
    assert state.last_modified_by == sandbox.values["client_id"]
    kept = sandbox.call(lambda cloud: cloud.endpoint(NAME).spec)
    assert (kept.description, kept.identity["type"]) == ("what ana wrote", "SystemAssigned")
    assert set(kept.properties) <= {"AzureAsyncOperationUri"}  # Azure's own; nothing was added by an SDK


def test_without_a_note_the_tag_is_taken_off(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    _by_hand(sandbox, {"blue": 90, "green": 10}, tags={"team": "food", "Rollout": "10 % green"})
    _set(endpoints, BLUE, note=None)
    assert _settled(sandbox, endpoints, BLUE).tags == {"team": "food"}


def test_a_third_deployment_is_never_zeroed(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    _by_hand(sandbox, {"blue": 80, "green": 10, "purple": 10})
    with pytest.raises(RefusedError, match="purple is not part of this rollout"):
        _set(endpoints, CANARY)
    assert _not_written(sandbox)


def test_a_person_who_was_faster_wins(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    _by_hand(sandbox, {"blue": 50, "green": 50})
    with pytest.raises(ConflictError, match=r"somebody has just made it blue 50 % \+ green 50 %"):
        _set(endpoints, CANARY, replacing=frozenset({BLUE}))
    assert _not_written(sandbox)
    _set(endpoints, BLUE, replacing=None)  # on the way back to stable any split is replaced
    assert _settled(sandbox, endpoints, BLUE).traffic == BLUE


def test_a_lost_lease_stops_the_request_before_it_leaves(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    with pytest.raises(ConflictError, match="taken its rollout over"):
        _set(endpoints, CANARY, still_ours=lambda: False)
    assert _not_written(sandbox)


def test_nothing_is_sent_while_an_operation_runs(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    _set(endpoints, CANARY)
    with pytest.raises(ConflictError, match="the endpoint is Updating"):
        _set(endpoints, BLUE)
    assert _settled(sandbox, endpoints, CANARY).traffic == CANARY


def test_one_write_at_a_time(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    asked, go = threading.Event(), threading.Event()

    def still_ours() -> bool:
        asked.set()
        return go.wait(20)

    first = threading.Thread(target=_set, args=(endpoints, CANARY), kwargs={"still_ours": still_ours})
    first.start()
    assert asked.wait(20)
    with pytest.raises(ConflictError, match="a write to it is on its way"):
        _set(endpoints, BLUE)
    go.set()
    first.join()
    assert _settled(sandbox, endpoints, CANARY).traffic == CANARY


def test_an_unknown_deployment_is_refused_in_azures_words(endpoints: AzureEndpoints) -> None:
    with pytest.raises(RefusedError, match=r"400 BadRequest: .*do not exist in the endpoint: red"):
        _set(endpoints, Split.of({"blue": 90, "red": 10}))


def test_an_endpoint_that_is_gone_is_refused(endpoints: AzureEndpoints) -> None:
    with pytest.raises(RefusedError, match="workspace sandbox has no such endpoint"):
        endpoints.set_traffic("gone", BLUE, pair=PAIR, replacing=None, note=None, still_ours=lambda: True)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ({"kind": "conflict"}, ConflictError, "409"),
        ({"kind": "error", "status": 500}, UnavailableError, "not known"),
        ({"kind": "error", "status": 502}, UnavailableError, "502"),
        ({"kind": "error", "status": 503}, UnavailableError, "503"),
        ({"kind": "throttle", "retry_after": 309}, ThrottledError, "429"),
        ({"kind": "throttle"}, ThrottledError, "429"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_write_is_sent_once_and_never_repeated(
    endpoints: AzureEndpoints, sandbox: LocalSandbox, fault: dict[str, Any], error: type[RolloutError], words: str
) -> None:
    _inject(sandbox, **fault)
    with pytest.raises(error, match=words) as caught:
        _set(endpoints, CANARY)
    assert type(caught.value) is error
    if isinstance(caught.value, ThrottledError):
        assert caught.value.retry_after == fault.get("retry_after")
    assert _not_written(sandbox)  # the fault hits once: a second try would have gone through


def test_an_accepted_write_whose_answer_is_lost_is_unknown(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    _inject(sandbox, "timeout")
    with pytest.raises(UnavailableError, match="Whether Azure did it is not known"):
        _set(endpoints, CANARY)
    assert _settled(sandbox, endpoints, CANARY).traffic == CANARY


def test_why_an_operation_failed_is_told_at_the_next_look(endpoints: AzureEndpoints, sandbox: LocalSandbox) -> None:
    _inject(sandbox, "fail_operation", code="ResourceNotReady", message="The pods did not come up")
    _set(endpoints, CANARY)
    _until(sandbox, lambda cloud: not cloud.endpoint(NAME).state.busy)
    assert endpoints.list().endpoints[NAME].failure == "ResourceNotReady: The pods did not come up"
    state = endpoints.get(NAME)
    assert state is not None
    assert state.failure is not None  # remembered, not asked again
    _set(endpoints, CANARY)
    assert _settled(sandbox, endpoints, CANARY).failure is None


@pytest.mark.parametrize("kind", ["conflict", "throttle", "error"])
def test_reads_are_not_repeated_after_an_answer(endpoints: AzureEndpoints, sandbox: LocalSandbox, kind: str) -> None:
    _inject(sandbox, kind, on="reads", retry_after=309 if kind == "throttle" else None)
    with pytest.raises(RolloutError):
        endpoints.list()
    assert set(endpoints.list().endpoints) == {NAME}


def _not_written(local: LocalSandbox) -> bool:
    endpoint = local.call(lambda cloud: cloud.endpoint(NAME))
    return not endpoint.state.busy and endpoint.system.modified_by == PERSON


# --- who we are --------------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_told_without_repeating_it(sandbox: LocalSandbox, azure: Azure) -> None:
    credential = sandbox.credential(secret="wrong-secret-value")
    port = endpoints_of(azure.cloud, credential, _workspace(sandbox), name="prod")
    with pytest.raises(RefusedError) as caught:
        port.list()
    assert "AADSTS7000215" in caught.value.message
    assert "Check `credential` in the settings" in caught.value.message
    assert "wrong-secret-value" not in caught.value.message
    port.close()


def test_a_directory_that_is_down_heals_with_time(sandbox: LocalSandbox, azure: Azure) -> None:
    _inject(sandbox, "error", on="tokens", count=20)
    nobody = replace(azure.cloud, authority="https://127.0.0.1:9")
    for cloud, words in ((azure.cloud, "503"), (nobody, "no token for this identity")):
        port = endpoints_of(
            cloud, make_credential(cloud, _identity(sandbox), secret="x"), _workspace(sandbox), name="prod"
        )
        with pytest.raises(UnavailableError, match=words) as caught:
            port.list()
        assert "Check `credential`" in caught.value.message
        port.close()
    sandbox.call(lambda cloud: cloud.faults.clear())


def _identity(local: LocalSandbox) -> Credential:
    ids = {name: local.values[name] for name in ("tenant_id", "client_id")}
    return Credential.model_validate({"type": "client_secret", "secret_env": "SECRET", **ids})


def _workspace(local: LocalSandbox, **more: Any) -> Workspace:
    fields = ("subscription_id", "resource_group", "workspace_name", "region", "log_workspace")
    return Workspace.model_validate({name: local.values[name] for name in fields} | more)


# --- against scripted answers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    with scripted(tmp_path_factory.mktemp("scripted")) as play:
        yield play


@pytest.fixture
def port(server: Scripted) -> Iterator[AzureEndpoints]:
    server.script.clear()
    server.asked.clear()
    made = _scripted_port(server, AnyToken())
    yield made
    made.close()


def _scripted_port(server: Scripted, identity: Any) -> AzureEndpoints:
    cloud = sandbox_cloud(address=server.address, ca_file=server.ca_file)
    ids = {"subscription_id": f"{1:036}".replace("0", "a"), "log_workspace": "x"}
    workspace = Workspace.model_construct(
        resource_group="rg", workspace_name="ws", region="westeurope", metrics="none", **ids
    )
    return endpoints_of(cloud, identity, workspace, name="prod")


def wire(name: str = NAME, **properties: Any) -> dict[str, Any]:
    """An endpoint as Azure writes it, with fields of a later version than any that we know."""
    return {
        "id": f"/subscriptions/s/resourceGroups/rg/providers/{TYPE.rpartition('/')[0]}/ws/onlineEndpoints/{name}",
        "name": name,
        "type": TYPE,
        "location": "westeurope",
        "tags": {"team": "food"},
        "kind": "Managed",
        "sku": None,
        "identity": {
            "type": "SystemAssigned,UserAssigned",
            "principalId": "p",
            "tenantId": "t",
            "userAssignedIdentities": {"/ids/one": {"principalId": "q", "clientId": "c"}},
        },
        "systemData": {
            "createdAt": "2026-11-01T10:00:00Z",
            "lastModifiedAt": "2026-11-02T10:00:00.1234567Z",
            "lastModifiedBy": "ana",
        },
        "futureField": {"kept": True},
        "properties": {
            "authMode": "AMLToken",
            "description": "recommends",
            "properties": {"AzureAsyncOperationUri": "https://x", "createdBy": "ana"},
            "provisioningState": "Succeeded",
            "scoringUri": "https://score",
            "swaggerUri": "https://swagger",
            "compute": None,
            "publicNetworkAccess": "Disabled",
            "traffic": {"blue": 100, "green": 0},
            "mirrorTraffic": {"green": 10},
            "futureProperty": [1, 2],
        }
        | properties,
    }


def test_everything_that_azure_showed_goes_back(port: AzureEndpoints, server: Scripted) -> None:
    operation = f"{server.address}/operation?t=1&c=%2Babc%3D%3D&s=sig"
    server.answers(Answer(body=wire()), Answer(status=201, body=wire(), headers={"Azure-AsyncOperation": operation}))
    _set(port, CANARY)
    assert [asked.method for asked in server.asked] == ["GET", "PUT"]  # one read, one write
    sent, shown = server.asked[1].body, wire()
    assert sent.pop("properties") == {
        "authMode": "AMLToken",
        "description": "recommends",
        "properties": shown["properties"]["properties"],
        "publicNetworkAccess": "Disabled",
        "traffic": {"blue": 90, "green": 10},
        "mirrorTraffic": {"green": 10},
        "futureProperty": [1, 2],
    }
    assert sent.pop("tags") == {"team": "food", "rollout": "10 % green; pause first"}
    assert sent.pop("identity") == {"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {"/ids/one": {}}}
    assert sent == {"location": "westeurope", "kind": "Managed", "sku": None, "futureField": {"kept": True}}


def test_how_a_write_ended_is_asked_once_at_its_signed_address(port: AzureEndpoints, server: Scripted) -> None:
    path = "/operation?t=1&c=%2Babc%3D%3D&s=sig"
    accepted = Answer(status=201, body=wire(), headers={"Azure-AsyncOperation": f"{server.address}{path}"})
    server.answers(
        Answer(body=wire()),
        accepted,
        Answer(body=wire(provisioningState="Updating")),
        Answer(body=wire()),
        Answer(body={"status": "Failed", "error": {"code": "OutOfCapacity", "message": "No room"}}),
        Answer(body=wire()),
    )
    _set(port, CANARY)
    assert [_failure(port), _failure(port), _failure(port)] == [
        None,
        "OutOfCapacity: No room",
        "OutOfCapacity: No room",
    ]
    assert [asked.path for asked in server.asked if "operation" in asked.path] == [path]


def test_an_operation_that_cannot_be_read_hides_nothing(port: AzureEndpoints, server: Scripted) -> None:
    accepted = Answer(status=201, body=wire(), headers={"Azure-AsyncOperation": f"{server.address}/operation"})
    server.answers(Answer(body=wire()), accepted)
    _set(port, CANARY)
    for _ in range(5):
        server.answers(Answer(body=wire()), Answer(status=404, body={"error": {"code": "Gone"}}))
        assert _failure(port) is None
        server.script.clear()
    assert sum("operation" in asked.path for asked in server.asked) == 3  # then it is given up


def _failure(port: AzureEndpoints) -> str | None:
    state = port.get(NAME)
    assert state is not None
    return state.failure


def test_reads_cost_one_request_each(port: AzureEndpoints, server: Scripted) -> None:
    page = Answer(
        body={"value": [wire("one")], "nextLink": f"{server.address}/next?$skip=1&api-version=2022-02-01-preview"}
    )
    server.answers(page, Answer(body={"value": [wire("Two")]}), Answer(body=wire()), Answer(body={"value": []}))
    assert set(port.list().endpoints) == {"one", "two"}
    assert len(server.asked) == 2  # one for each page
    port.get(NAME)
    port.deployments(NAME)
    assert len(server.asked) == 4


MALFORMED: list[Any] = [
    None,
    7,
    {"name": "nothing-else"},
    wire("no-properties") | {"properties": None},
    wire("odd-traffic", traffic={"blue": "all"}),
    wire("half-percent", traffic={"blue": 99.5}),
    wire("traffic-list", traffic=[["blue", 100]]),
    wire("no-state", provisioningState=None),
]


def test_one_malformed_endpoint_blinds_no_other(port: AzureEndpoints, server: Scripted) -> None:
    for position, item in enumerate(MALFORMED, start=1):
        server.answers(
            Answer(
                body={
                    "value": [wire("first"), item, wire("last") | {"systemData": None, "tags": None, "identity": None}]
                }
            )
        )
        listing = port.list()
        assert set(listing.endpoints) == {"first", "last"}, item
        (name,) = listing.broken
        assert name in {"item 2 of the list", (item or {}).get("name") if isinstance(item, dict) else None}, position
        assert listing.broken[name].startswith("Azure's description of it cannot be used: ")
    server.answers(Answer(body=MALFORMED[3]))
    with pytest.raises(RefusedError, match="cannot be used: properties is None, not a mapping"):
        port.get(NAME)


def test_one_malformed_deployment_blinds_no_other(port: AzureEndpoints, server: Scripted) -> None:
    good = {"name": "Blue", "properties": {"provisioningState": "Succeeded", "model": {"assetId": "m:1"}}}
    server.answers(Answer(body={"value": [None, {"name": "green", "properties": None}, good]}))
    found = port.deployments(NAME)
    assert set(found) == {"blue"}
    assert found["blue"].pin.model == "m:1"
    assert found["blue"].pin.instances is None


def test_an_endpoint_is_read_as_azure_writes_it(port: AzureEndpoints, server: Scripted) -> None:
    server.answers(Answer(body=wire(compute="/aks")))
    state = port.get(NAME)
    assert state is not None
    assert state.traffic == BLUE
    assert state.mirror_traffic == Split.of({"green": 10})
    assert (state.kind, state.auth_mode, state.scoring_uri) == (EndpointKind.KUBERNETES, "aml_token", "https://score")
    assert state.last_modified_at == datetime(2026, 11, 2, 10, 0, 0, 123456, tzinfo=UTC)


def test_the_lease_is_looked_at_when_the_token_is_there(server: Scripted) -> None:
    server.script.clear()
    order: list[str] = []

    class Noted(AnyToken):
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            order.append("token")
            return AccessToken("stale", 0)  # so that each request asks for a new one

    def still_ours() -> bool:
        order.append("ours?")
        return True

    server.answers(Answer(body=wire()), Answer(status=201, body=wire()))
    made = _scripted_port(server, Noted())
    _set(made, CANARY, still_ours=still_ours)
    made.close()
    assert order == ["token", "token", "ours?"]


FORBIDDEN = {
    "error": {
        "code": "AuthorizationFailed",
        "message": "The client 'c' does not have authorization to perform action 'write'",
    }
}


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(status=403, body=FORBIDDEN), RefusedError, "deploy/role.json"),
        (Answer(status=401, body={"error": {"code": "InvalidAuthenticationToken"}}), RefusedError, "401"),
        (Answer(status=408, body={}), UnavailableError, "408"),
        (
            Answer(
                status=400,
                body={"error": {"code": "UserError", "message": "because it is in Updating provisioning state"}},
            ),
            ConflictError,
            "400",
        ),
        (Answer(broken=True), UnavailableError, "no answer"),
        (Answer(status=502, raw=b"<html>"), UnavailableError, "502"),
        (
            Answer(
                status=400,
                body={
                    "error": {
                        "code": "BadRequest",
                        "message": "The request is invalid.",
                        "details": [{"code": "X", "message": "Sum is 90"}],
                    }
                },
            ),
            RefusedError,
            "The request is invalid; Sum is 90",
        ),
    ],
    ids=["403", "401", "408", "busy", "broken", "html", "details"],
)
def test_answers_to_a_write(
    port: AzureEndpoints, server: Scripted, answer: Answer, error: type[RolloutError], words: str
) -> None:
    server.answers(Answer(body=wire()), answer)
    with pytest.raises(error, match=words) as caught:
        _set(port, CANARY)
    assert type(caught.value) is error
    assert f"Cannot set the traffic of {NAME} to blue 90 % + green 10 %: " in caught.value.message
    assert len(server.asked) == 2
