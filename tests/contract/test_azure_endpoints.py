"""Endpoints and traffic: the real azure-ai-ml over HTTPS, against the sandbox and against scripted answers."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from rollout.azure.cloud import make_credential
from rollout.azure.connection import Azure, endpoints_of
from rollout.azure.endpoints import AzureEndpoints
from rollout.errors import ConflictError, RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.sandbox import seed
from rollout.sandbox.faults import ArmFault
from rollout.sandbox.resources import Actor
from rollout.settings import Credential, Workspace
from rollout.world import EndpointKind, EndpointState, Split
from tests.support.azure import connected
from tests.support.sandbox import LocalSandbox, local_sandbox

NAME = "restaurant-recommender"
PAIR = frozenset({"blue", "green"})
BLUE, CANARY = Split.of({"blue": 100}), Split.of({"blue": 90, "green": 10})
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
