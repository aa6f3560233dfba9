"""Writes beside the split: scale, delete and autoscale, the real SDK over HTTPS against the sandbox."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rollout.azure.connection import Azure
from rollout.errors import ConflictError, RefusedError
from rollout.ports import Ended, Fleet
from rollout.sandbox import seed
from rollout.sandbox.resources import Actor, State
from rollout.world import DeleteDeployment, EndpointState, Mirror, Scale, SetAutoscale, Split
from tests.support.azure import connected
from tests.support.sandbox import LocalSandbox, local_sandbox

NAME = "restaurant-recommender"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    with local_sandbox(tmp_path_factory.mktemp("fleet"), speed=120, seed=True) as local:
        _deploy(local, "green")
        yield local


@pytest.fixture(scope="module")
def azure(sandbox: LocalSandbox) -> Iterator[Azure]:
    with connected(sandbox) as connection:
        yield connection


@pytest.fixture
def fleet(azure: Azure) -> Fleet:
    return azure.fleets["sandbox"]


@pytest.fixture
def endpoint(azure: Azure) -> EndpointState:
    found = azure.endpoints["sandbox"].get(NAME)
    assert found is not None
    return found


def _deploy(local: LocalSandbox, name: str, **more: Any) -> None:
    values = seed._read(seed.SAMPLES / "green-v2.yml") | more
    body = seed.deployment_body(values, local.sandbox.cloud.identity)
    local.call(lambda cloud: cloud.put_deployment(NAME, name, body, actor=Actor(id=cloud.identity.client_id)))
    _until(local, lambda cloud: cloud.deployment(NAME, name).state == "Succeeded")


def _until(local: LocalSandbox, condition: Callable[[Any], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        local.call(lambda cloud: cloud.hurry())
        if local.call(condition):
            return
        pause.wait(0.02)
    raise AssertionError("it never came")


def always() -> bool:
    return True


def never() -> bool:
    return False


def _setting(local: LocalSandbox, deployment: str, *, minimum: str = "1") -> tuple[str, str]:
    identity = local.sandbox.cloud.identity
    body = {
        "location": identity.region,
        "properties": {
            "enabled": True,
            "targetResourceUri": identity.deployment_id(NAME, deployment),
            "profiles": [
                {"name": "usual", "capacity": {"minimum": minimum, "maximum": "5", "default": minimum}, "rules": []}
            ],
        },
    }
    group = identity.resource_group_id
    return f"{group}/providers/microsoft.insights/autoscalesettings/{deployment}-scale", json.dumps(body)


def test_scaling_changes_the_number_of_instances_and_nothing_else(
    sandbox: LocalSandbox, azure: Azure, fleet: Fleet
) -> None:
    before = sandbox.call(lambda cloud: cloud.deployment(NAME, "green"))
    operation = fleet.scale(NAME, Scale(deployment="green", instances=3), still_ours=always)
    assert operation is not None
    assert azure.endpoints["sandbox"].deployments(NAME)["green"].state == "Updating"  # type: ignore[union-attr]
    with pytest.raises(ConflictError, match="it is Updating"):
        fleet.scale(NAME, Scale(deployment="green", instances=4), still_ours=always)
    _until(sandbox, lambda cloud: cloud.deployment(NAME, "green").state is State.SUCCEEDED)
    after = sandbox.call(lambda cloud: cloud.deployment(NAME, "green"))
    assert after.spec.instances == 3
    assert after.spec.same_server(before.spec)
    assert after.generation == before.generation  # no process was replaced
    assert fleet.ended(operation) == Ended(why=None)
    assert azure.endpoints["sandbox"].deployments(NAME)["green"].pin.instances == 3  # type: ignore[union-attr]


def test_too_many_instances_are_refused_with_azures_sentence_and_the_remedy(
    sandbox: LocalSandbox, fleet: Fleet
) -> None:
    _deploy(sandbox, "small", instance_type="Standard_F2s_v2")
    words = r"give small of restaurant-recommender 3 instances: .*Not enough quota.*ask for quota"
    with pytest.raises(RefusedError, match=words):
        fleet.scale(NAME, Scale(deployment="small", instances=3), still_ours=always)
    assert sandbox.call(lambda cloud: cloud.deployment(NAME, "small").state) is State.SUCCEEDED


def test_who_has_lost_the_rollout_writes_nothing(sandbox: LocalSandbox, fleet: Fleet) -> None:
    setting, body = _setting(sandbox, "green")
    with pytest.raises(ConflictError, match="another process"):
        fleet.scale(NAME, Scale(deployment="green", instances=4), still_ours=never)
    with pytest.raises(ConflictError, match="another process"):
        fleet.set_autoscale(NAME, SetAutoscale(deployment="green", setting=setting, body=body), still_ours=never)
    with pytest.raises(ConflictError, match="another process"):
        fleet.delete(NAME, DeleteDeployment(deployment="green"), still_ours=never)
    assert sandbox.call(lambda cloud: cloud.deployment(NAME, "green").state) is State.SUCCEEDED
    assert not sandbox.call(lambda cloud: cloud.autoscale.all())


def test_an_autoscale_setting_is_written_read_and_taken_off(
    sandbox: LocalSandbox, fleet: Fleet, endpoint: EndpointState
) -> None:
    assert fleet.autoscale(endpoint) == {}
    setting, body = _setting(sandbox, "blue")
    errand = SetAutoscale(deployment="blue", setting=setting, body=body)
    assert fleet.set_autoscale(NAME, errand, still_ours=always) is None
    found = fleet.autoscale(endpoint)
    assert list(found) == ["blue"]
    assert json.loads(found["blue"].body) == json.loads(body)
    assert found["blue"].id.casefold() == setting.casefold()
    assert (
        fleet.set_autoscale(NAME, SetAutoscale(deployment="blue", setting=setting, body=None), still_ours=always)
        is None
    )
    assert fleet.autoscale(endpoint) == {}


def test_azures_refusals_of_an_autoscale_setting_are_told(sandbox: LocalSandbox, fleet: Fleet) -> None:
    setting, body = _setting(sandbox, "blue", minimum="9")
    with pytest.raises(RefusedError, match="minimum <= default <= maximum"):
        fleet.set_autoscale(NAME, SetAutoscale(deployment="blue", setting=setting, body=body), still_ours=always)
    setting, body = _setting(sandbox, "nobody")
    with pytest.raises(RefusedError, match="TargetResourceNotFound"):
        fleet.set_autoscale(NAME, SetAutoscale(deployment="nobody", setting=setting, body=body), still_ours=always)


def test_what_serves_is_not_made_small_where_it_should_be_idle(sandbox: LocalSandbox, fleet: Fleet) -> None:
    with pytest.raises(
        RefusedError, match="give blue of restaurant-recommender 1 instance: it has 100 % of the traffic"
    ):
        fleet.scale(NAME, Scale(deployment="blue", instances=1, idle=True), still_ours=always)
    assert sandbox.call(lambda cloud: cloud.deployment(NAME, "blue").state) is State.SUCCEEDED


def test_a_deployment_with_traffic_is_never_deleted_and_one_without_is(sandbox: LocalSandbox, fleet: Fleet) -> None:
    with pytest.raises(RefusedError, match="delete blue of restaurant-recommender: it has 100 % of the traffic"):
        fleet.delete(NAME, DeleteDeployment(deployment="blue"), still_ours=always)
    _deploy(sandbox, "purple")
    operation = fleet.delete(NAME, DeleteDeployment(deployment="purple"), still_ours=always)
    assert operation is not None
    _until(sandbox, lambda cloud: [each.name for each in cloud.deployments(NAME)] == ["blue", "green", "small"])
    assert fleet.ended(operation) == Ended(why=None)


def test_copies_are_sent_and_ended_and_the_live_traffic_stays(
    sandbox: LocalSandbox, azure: Azure, fleet: Fleet
) -> None:
    before = azure.endpoints["sandbox"].get(NAME)
    assert before is not None
    on, off = Mirror(deployment="green", share=10), Mirror(deployment="green", share=0)
    assert fleet.mirror(NAME, off, still_ours=lambda: True) is None  # it is off already
    _over(sandbox, fleet, fleet.mirror(NAME, on, still_ours=lambda: True))
    found = azure.endpoints["sandbox"].get(NAME)
    assert found is not None
    assert (found.mirror_traffic, found.traffic) == (Split.of({"green": 10}), before.traffic)
    assert found.tags["rollout"] == "copies to green; abort first"
    with pytest.raises(RefusedError, match="copies are sent to green already"):
        fleet.mirror(NAME, Mirror(deployment="blue", share=10), still_ours=lambda: True)
    _over(sandbox, fleet, fleet.mirror(NAME, off, still_ours=lambda: True))
    found = azure.endpoints["sandbox"].get(NAME)
    assert found is not None
    assert (found.mirror_traffic, found.traffic) == (Split(), before.traffic)
    with pytest.raises(RefusedError, match="Azure mirrors to none that is live"):
        fleet.mirror(NAME, Mirror(deployment="blue", share=10), still_ours=lambda: True)
    with pytest.raises(RefusedError, match="from 0 to 50"):
        fleet.mirror(NAME, Mirror(deployment="green", share=60), still_ours=lambda: True)


def _over(local: LocalSandbox, fleet: Fleet, operation: str | None) -> None:
    assert operation is not None
    pause = threading.Event()
    for _ in range(1000):
        local.call(lambda cloud: cloud.hurry())
        if fleet.ended(operation) is not None:
            return
        pause.wait(0.02)
    pytest.fail("The operation never ended.")
