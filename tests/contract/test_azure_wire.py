"""Endpoints and traffic on the wire: what the real azure-ai-ml sends for us, and what odd answers mean."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from socketserver import BaseRequestHandler, TCPServer
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError

from rollout.azure.arm import WorkspaceResources
from rollout.azure.cloud import Cloud, sandbox_cloud
from rollout.azure.connection import endpoints_of
from rollout.azure.endpoints import AzureEndpoints
from rollout.errors import ConflictError, RefusedError, RolloutError, UnavailableError
from rollout.settings import Workspace
from rollout.world import DeploymentState, EndpointKind, Split, Unreadable
from tests.support.azure import AnyToken
from tests.support.scripted import Answer, Scripted, scripted

NAME = "restaurant-recommender"
PAIR = frozenset({"blue", "green"})
BLUE, CANARY = Split.of({"blue": 100}), Split.of({"blue": 90, "green": 10})
TYPE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"


def _set(endpoints: AzureEndpoints, split: Split, **more: Any) -> None:
    options: dict[str, Any] = {
        "pair": PAIR,
        "replacing": None,
        "note": "10 % green; pause first",
        "still_ours": lambda: True,
    }
    endpoints.set_traffic(NAME, split, **(options | more))


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


def _scripted_port(server: Scripted, identity: Any, cloud: Cloud | None = None) -> AzureEndpoints:
    cloud = cloud or sandbox_cloud(address=server.address, ca_file=server.ca_file)
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
    assert sent == {"location": "westeurope", "kind": "Managed", "futureField": {"kept": True}}


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
    with pytest.raises(RefusedError, match="cannot be used: properties is missing"):
        port.get(NAME)


def test_one_malformed_deployment_blinds_no_other(port: AzureEndpoints, server: Scripted) -> None:
    good = {"name": "Blue", "properties": {"provisioningState": "Succeeded", "model": {"assetId": "m:1"}}}
    server.answers(Answer(body={"value": [None, {"name": "green", "properties": None}, good]}))
    found = port.deployments(NAME)
    blue = found["blue"]
    assert isinstance(blue, DeploymentState)
    assert (blue.pin.model, blue.pin.instances) == ("m:1", None)
    assert {name: state for name, state in found.items() if name != "blue"} == {
        "item 1 of the list": Unreadable(name=None, why="the deployment is missing"),
        "green": Unreadable(name="green", why="properties is missing"),
    }


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


@pytest.mark.parametrize(
    ("call", "tried"),
    [
        (lambda resources: resources.endpoint(NAME), 2),
        (lambda resources: resources.put_endpoint(NAME, wire(), before=lambda: None), 1),
    ],
    ids=["read", "write"],
)
def test_a_write_is_not_even_tried_again_on_another_connection(
    server: Scripted, call: Callable[[WorkspaceResources], object], tried: int
) -> None:
    """As a read is: whose turn it is may have changed meanwhile, and `still_ours` was asked before the first one."""
    callers: list[object] = []

    class HangUp(BaseRequestHandler):
        def handle(self) -> None:
            callers.append(self.client_address)

    with TCPServer(("127.0.0.1", 0), HangUp) as nobody:
        threading.Thread(target=nobody.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        cloud = sandbox_cloud(address=f"https://127.0.0.1:{nobody.server_address[1]}", ca_file=server.ca_file)
        made = _scripted_port(server, AnyToken(), cloud)
        with pytest.raises(ServiceRequestError):
            call(made._resources)
        made.close()
        nobody.shutdown()
    assert len(callers) == tried


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
