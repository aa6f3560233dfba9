"""The sandbox's cloud under a moved clock: what it accepts, what it refuses, and when what was accepted takes effect."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import ArmFault, Faults
from rollout.sandbox.resources import Actor, Asset, Identity, Operation, State, Status, Timings
from rollout.sandbox.rules import MAX_DEPLOYMENTS, Refusal

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ROBOT = Actor(id=Identity().client_id)
ALEX = Actor(id="alex@example.org", kind="User")
FIXED = Timings().changed(endpoint_create=90, endpoint_update=20, deployment_create=582, read_lag=2)


class World:
    """A cloud whose clock the test moves."""

    def __init__(self, *, timings: Timings = FIXED, hosted: bool = False, chance: int = 7) -> None:
        self.now = START
        self.faults = Faults()
        self.cloud = Cloud(
            clock=lambda: self.now,
            chance=random.Random(chance),
            faults=self.faults,
            timings=timings,
            hosted=hosted,
        )
        for version in ("1", "2"):
            self._register("models", "recommender", version)
            self._register("codes", "recommender-code", version)
        self._register("environments", "recommender-env", "1")

    def _register(self, kind: Any, name: str, version: str) -> None:
        asset = Asset(kind=kind, name=name, version=version, path=Path(f"/models/{kind}/{version}"))
        self.cloud.assets.register(asset, now=self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def put(self, traffic: Mapping[str, int] | None = None, *, name: str = "shop", **other: Any) -> Operation:
        return self.cloud.put_endpoint(name, endpoint_body(traffic, **other), actor=other.get("actor", ROBOT))

    def deploy(self, name: str, *, endpoint: str = "shop", version: str = "1", **other: Any) -> Operation:
        body = deployment_body(self.cloud.identity, version=version, **other)
        return self.cloud.put_deployment(endpoint, name, body, actor=ROBOT)

    def shown(self, name: str = "shop") -> dict[str, int]:
        return dict(self.cloud.traffic_shown(self.cloud.endpoint(name)))

    def key(self, name: str = "shop") -> str:
        return f"Bearer {self.cloud.endpoint(name).primary_key}"


def endpoint_body(traffic: Mapping[str, int] | None = None, *, auth: str = "key", **other: Any) -> dict[str, Any]:
    other.pop("actor", None)
    tags = other.pop("tags", {})
    properties = {"authMode": auth, "traffic": dict(traffic or {}), **other}
    return {"location": "westeurope", "tags": tags, "properties": properties}


def deployment_body(identity: Identity, *, version: str = "1", instances: int = 1, **other: Any) -> dict[str, Any]:
    code = {"codeId": identity.asset_id("codes", "recommender-code", version), "scoringScript": "score.py"}
    properties = {
        "endpointComputeType": "Managed",
        "model": identity.asset_id("models", "recommender", version),
        "environmentId": identity.asset_id("environments", "recommender-env", "1"),
        "codeConfiguration": code,
        **other,
    }
    return {"location": "westeurope", "sku": {"name": "Default", "capacity": instances}, "properties": properties}


@pytest.fixture
def world() -> World:
    """An endpoint `shop` with blue (all traffic) and green (none)."""
    world = World()
    world.put()
    world.pass_time(90)
    world.deploy("blue")
    world.deploy("green", version="2")
    world.pass_time(600)
    world.put({"blue": 100})
    world.pass_time(30)
    return world


def refused(call: Any, *arguments: Any, **named: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*arguments, **named)
    return caught.value


def attempt(call: Any, *arguments: Any, **named: Any) -> Any:
    """What the call gives, or the refusal that it met."""
    try:
        return call(*arguments, **named)
    except Refusal as refusal:
        return refusal


def cause(refusal: Refusal) -> str:
    return " ".join(message for _, message in refusal.details) or refusal.message


# How operations pass


def test_an_endpoint_is_created_in_its_time_and_serves_nothing_before() -> None:
    world = World()
    operation = world.put()
    assert operation.status is Status.RUNNING
    world.pass_time(89.9)
    assert world.cloud.endpoint("shop").state is State.CREATING
    assert refused(world.cloud.route, "shop", authorization=world.key(), pinned=None).status == 404
    world.pass_time(0.1)
    assert world.cloud.endpoint("shop").state is State.SUCCEEDED
    assert world.cloud.operation(operation.id).ended == START + timedelta(seconds=90)


def test_the_old_traffic_is_shown_while_updating_and_a_moment_longer(world: World) -> None:
    operation = world.put({"blue": 75, "green": 25})
    for seconds in (0, 10, 9.9):
        world.pass_time(seconds)
        assert world.cloud.endpoint("shop").state is State.UPDATING
        assert world.shown() == {"blue": 100}
    world.pass_time(0.1)
    assert world.cloud.operation(operation.id).status is Status.SUCCEEDED
    assert world.cloud.endpoint("shop").state is State.SUCCEEDED
    assert world.shown() == {"blue": 100}, "a read lags after the success"
    world.pass_time(2)
    assert world.shown() == {"blue": 75, "green": 25}


def test_traffic_really_moves_when_the_operation_succeeds(world: World) -> None:
    world.put({"green": 100})
    world.pass_time(19)
    assert world.cloud.route("shop", authorization=world.key(), pinned=None).deployment == "blue"
    world.pass_time(1)
    assert world.cloud.route("shop", authorization=world.key(), pinned=None).deployment == "green"


def test_default_durations_are_those_of_azure() -> None:
    timings = Timings()
    world = World(timings=timings)
    created = world.put()
    world.pass_time(200)
    deployed = world.deploy("blue")
    world.pass_time(700)
    updates = []
    for _ in range(20):
        updates.append(world.put({"blue": 100}))
        world.pass_time(60)
    assert 80 <= (created.due - created.started).total_seconds() <= 100
    assert 9 * 60 <= (deployed.due - deployed.started).total_seconds() <= 10 * 60
    seconds = [(each.due - each.started).total_seconds() for each in updates]
    assert all(20 <= each <= 31 for each in seconds)
    assert len(set(seconds)) == 20, "each draws its own"


def test_a_failed_operation_leaves_everything_as_it_was(world: World) -> None:
    world.faults.add(ArmFault(kind="fail_operation", since=world.now, count=1, code="OperationCanceled", message="no"))
    operation = world.put({"blue": 50, "green": 50}, tags={"a": "b"})
    world.pass_time(30)
    ended = world.cloud.operation(operation.id)
    assert ended.status is Status.FAILED
    assert ended.trouble is not None
    assert ended.trouble.code == "OperationCanceled"
    endpoint = world.cloud.endpoint("shop")
    assert (endpoint.state, dict(endpoint.spec.traffic), dict(endpoint.spec.tags)) == (State.FAILED, {"blue": 100}, {})
    world.put({"blue": 50, "green": 50})
    world.pass_time(30)
    assert world.shown() == {"blue": 50, "green": 50}, "a failed endpoint can be written again"


def test_who_changed_it_last_is_told(world: World) -> None:
    assert world.cloud.endpoint("shop").system.modified_by == ROBOT
    world.cloud.put_endpoint("shop", endpoint_body({"green": 100}), actor=ALEX)
    system = world.cloud.endpoint("shop").system
    assert (system.created_by, system.modified_by, system.modified_at) == (ROBOT, ALEX, world.now)


def test_a_patch_changes_tags_and_nothing_else(world: World) -> None:
    world.cloud.patch_endpoint("shop", {"tags": {"rollout": "25 % green"}}, actor=ROBOT)
    world.pass_time(30)
    spec = world.cloud.endpoint("shop").spec
    assert (dict(spec.tags), dict(spec.traffic)) == ({"rollout": "25 % green"}, {"blue": 100})


# What is refused


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        ({"blue": 90}, "add up to 0 or 100 percent; 90 was given"),
        ({"blue": 60, "green": 60}, "120 was given"),
        ({"blue": 101, "green": -1}, "0 or 100"),
        ({"blue": 90, "purple": 10}, "do not exist in the endpoint: purple"),
        ({"blue": 99.5, "green": 0.5}, "whole percent"),
        ({"blue": True}, "whole percent"),
    ],
)
def test_a_wrong_split_is_refused(world: World, traffic: dict[str, Any], words: str) -> None:
    refusal = refused(world.put, traffic)
    assert (refusal.status, refusal.code, refusal.message) == (400, "BadRequest", "The request is invalid.")
    assert words in cause(refusal)
    assert world.cloud.endpoint("shop").state is State.SUCCEEDED, "nothing has begun"


def test_no_traffic_at_all_is_legal_and_takes_the_endpoint_off(world: World) -> None:
    world.put({})
    world.pass_time(30)
    refusal = refused(world.cloud.route, "shop", authorization=world.key(), pinned=None)
    assert (refusal.status, "no deployment with positive weight" in refusal.message) == (404, True)
    assert world.cloud.route("shop", authorization=world.key(), pinned="blue").deployment == "blue"


def test_names_of_deployments_are_compared_without_case(world: World) -> None:
    world.put({"BLUE": 40, "Green": 60})
    world.pass_time(30)
    assert world.shown() == {"blue": 40, "green": 60}


def test_traffic_cannot_be_set_at_creation() -> None:
    assert "while an endpoint is created" in cause(refused(World().put, {"blue": 100}))


@pytest.mark.parametrize("name", ["ab", "x" * 33, "1shop", "-shop", "shop-", "my--shop", "my_shop", "my.shop", "läden"])
def test_a_wrong_name_is_refused(world: World, name: str) -> None:
    assert f"'{name}' is invalid" in cause(refused(world.put, name=name))
    assert f"'{name}' is invalid" in cause(refused(world.deploy, name))


def test_the_quota_counts_what_is_there_and_a_fifth_more(world: World) -> None:
    world.deploy("red", instanceType="Standard_F2s_v2")  # one instance, charged as two: 4 cores
    refusal = refused(world.deploy, "teal", instanceType="Standard_F2s_v2")
    assert "Current usage/limit: 4/6. Additional needed: 4" in cause(refusal)
    assert json.loads(cause(refusal).partition("error detail: ")[2])["errors"].keys() == {"VmSize"}


def test_a_name_that_another_workspace_has_is_refused() -> None:
    world = World()
    world.cloud.taken.add("shop")
    assert "Endpoint name needs to be unique within a region" in cause(refused(world.put))


def test_a_kubernetes_endpoint_lives_on_an_attached_cluster() -> None:
    world = World()
    cluster = f"{world.cloud.identity.workspace}/computes/kubernetes"
    assert "is not attached to the workspace" in cause(
        refused(world.put, compute=cluster.replace("kubernetes", "other"))
    )
    world.put(compute=cluster)
    world.pass_time(90)
    assert "takes deployments of type Kubernetes, not Managed" in cause(refused(world.deploy, "blue"))
    world.deploy(
        "blue", endpointComputeType="Kubernetes", requestSettings={"requestTimeout": "PT5M"}, instanceType=None
    )
    world.pass_time(600)
    assert not world.cloud.route("shop", authorization=world.key(), pinned="blue").logged


def test_a_second_operation_is_a_conflict(world: World) -> None:
    world.put({"blue": 90, "green": 10})
    refusal = refused(world.put, {"blue": 100})
    assert (refusal.status, refusal.code) == (409, "Conflict")
    assert "Another operation is already in progress" in cause(refusal)
    deploy = refused(world.deploy, "red")
    assert deploy.status == 409
    assert "because it is in Updating provisioning state" in cause(deploy)
    assert refused(world.cloud.delete_endpoint, "shop", actor=ROBOT).status == 409
    assert refused(world.cloud.delete_deployment, "shop", "green", actor=ROBOT).status == 409


def test_two_deployments_may_be_written_at_a_time_but_not_one_twice(world: World) -> None:
    world.deploy("red")
    world.deploy("teal")
    assert refused(world.deploy, "red").status == 409
    assert refused(world.cloud.delete_endpoint, "shop", actor=ROBOT).status == 409
    world.put({"blue": 100})


def test_a_deployment_that_never_served_takes_no_traffic(world: World) -> None:
    world.deploy("red")
    assert "Deployment red cannot take traffic" in cause(refused(world.put, {"blue": 90, "red": 10}))


def test_an_endpoint_holds_twenty_deployments(world: World) -> None:
    for number in range(MAX_DEPLOYMENTS - 2):
        world.deploy(f"more{number}")
    refusal = refused(world.deploy, "one-too-many")
    assert (refusal.status, refusal.details[0][0]) == (400, "QuotaExceeded")


def test_a_deployment_with_traffic_is_not_deleted(world: World) -> None:
    world.put({"blue": 99, "green": 1})
    world.pass_time(30)
    assert "takes 1 percent" in cause(refused(world.cloud.delete_deployment, "shop", "green", actor=ROBOT))
    world.put({"blue": 100, "green": 0})
    world.pass_time(30)
    assert world.cloud.delete_deployment("shop", "green", actor=ROBOT) is not None
    assert "do not exist" in cause(refused(world.put, {"green": 100})), "it is on its way out"
    world.pass_time(60)
    assert [each.name for each in world.cloud.deployments("shop")] == ["blue"]
    assert dict(world.cloud.endpoint("shop").spec.traffic) == {"blue": 100}


def test_deleting_what_is_not_there_is_no_operation(world: World) -> None:
    assert world.cloud.delete_deployment("shop", "red", actor=ROBOT) is None
    assert world.cloud.delete_endpoint("cafe", actor=ROBOT) is None


def test_deleting_an_endpoint_takes_its_deployments_along(world: World) -> None:
    world.cloud.delete_endpoint("shop", actor=ROBOT)
    assert world.cloud.endpoint("shop").state is State.DELETING
    world.pass_time(60)
    assert refused(world.cloud.endpoint, "shop").status == 404
    assert refused(world.cloud.deployments, "shop").status == 404
    assert world.cloud.wanted_servers() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"compute": "/subscriptions/x/computes/k8s"}, "The compute of endpoint shop cannot be changed"),
        ({"mirrorTraffic": {"blue": 10}}, "cannot take live traffic and mirrored traffic at the same time"),
        ({"mirrorTraffic": {"green": 51}}, "The mirrored percentage must be from 0 to 50; 51 was given."),
        ({"mirrorTraffic": {"green": 5, "blue": 5}}, "Traffic can be mirrored to one deployment only."),
        ({"auth": "password"}, "authMode 'password' is not one of"),
    ],
)
def test_what_an_endpoint_cannot_have_is_said_in_a_sentence(world: World, body: dict[str, Any], words: str) -> None:
    assert words in cause(refused(world.put, {"blue": 100}, **body))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"endpointComputeType": "Kubernetes"}, "takes deployments of type Managed, not Kubernetes"),
        ({"endpointComputeType": "AKS"}, "is not one of Managed, Kubernetes"),
        ({"codeConfiguration": None}, "containers of your own"),
        ({"codeConfiguration": None, "environmentId": None}, "only models of type mlflow_model are served without"),
        ({"environmentId": None}, "environmentId is required"),
        ({"scaleSettings": {"scaleType": "TargetUtilization"}}, "autoscale setting of Azure Monitor"),
        ({"livenessProbe": {"initialDelay": 10}}, "livenessProbe.initialDelay must be an ISO 8601 duration"),
        ({"livenessProbe": {"failureThreshold": 0}}, "livenessProbe.failureThreshold must be a whole number"),
        ({"instanceType": "Standard_FOO"}, "The instance type Standard_FOO is not supported"),
        ({"instanceType": "Standard_F4s_v2"}, "Current usage/limit: 0/6. Additional needed: 8"),
        ({"codeConfiguration": {"codeId": "x"}}, "scoringScript is required"),
        ({"model": "azureml:recommender:1"}, "is not the id of a registered asset"),
        ({"model": Identity().asset_id("models", "recommender", "9")}, "does not exist"),
        ({"environmentId": Identity().asset_id("environments", "other", "1")}, "does not exist"),
        ({"requestSettings": {"requestTimeout": "PT5M"}}, "at most 180 s"),
        ({"requestSettings": {"requestTimeout": "5 seconds"}}, "ISO 8601"),
        ({"instances": 51}, "from 1 to 50"),
        ({"instances": 0}, "from 1 to 50"),
        ({"dataCollector": {"collections": {"in": {"samplingRate": 2}}}}, "samplingRate must be from 0 to 1"),
    ],
)
def test_what_a_deployment_cannot_have_is_said_in_a_sentence(world: World, body: dict[str, Any], words: str) -> None:
    assert words in cause(refused(world.deploy, "red", **body))


def test_a_patch_that_carries_traffic_is_refused_with_what_to_do(world: World) -> None:
    body = {"tags": {}, "properties": {"traffic": {"green": 100}}}
    assert "send a PUT of the whole endpoint instead" in cause(
        refused(world.cloud.patch_endpoint, "shop", body, actor=ROBOT)
    )


# Serving


def test_keys_and_tokens_open_their_own_endpoint_only(world: World) -> None:
    for wrong in (None, "", "Bearer ", "Bearer nonsense", world.key().replace("Bearer", "Basic")):
        assert refused(world.cloud.route, "shop", authorization=wrong, pinned=None).status == 401
    secondary = f"Bearer {world.cloud.endpoint('shop').secondary_key}"
    assert world.cloud.route("shop", authorization=secondary, pinned=None).deployment == "blue"


def test_an_endpoint_token_expires_after_a_day() -> None:
    world = World()
    world.put(auth="amltoken")
    world.pass_time(90)
    world.deploy("blue")
    world.pass_time(600)
    token = world.cloud.issue_token("shop")
    bearer = f"Bearer {token.value}"
    assert world.cloud.route("shop", authorization=bearer, pinned="blue").auth_type == "AMLToken"
    assert token.expires - world.now == timedelta(hours=24)
    world.pass_time(24 * 3600)
    assert refused(world.cloud.route, "shop", authorization=bearer, pinned="blue").status == 401


def test_an_endpoint_that_opens_with_keys_has_no_tokens(world: World) -> None:
    assert "has no tokens" in cause(refused(world.cloud.issue_token, "shop"))


def test_an_aad_endpoint_asks_the_directory_whom_to_believe() -> None:
    world = World()
    world.put(auth="aadtoken")
    world.pass_time(90)
    world.deploy("blue")
    world.pass_time(600)
    assert refused(world.cloud.route, "shop", authorization="Bearer good", pinned="blue").status == 401
    world.cloud.trusted_token = lambda token: token == "good"
    assert world.cloud.route("shop", authorization="Bearer good", pinned="blue").auth_type == "AADToken"
    assert refused(world.cloud.route, "shop", authorization="Bearer bad", pinned="blue").status == 401


def test_requests_are_split_by_weight(world: World) -> None:
    world.put({"blue": 75, "green": 25})
    world.pass_time(30)
    key = world.key()
    drawn = Counter(world.cloud.route("shop", authorization=key, pinned=None).deployment for _ in range(4000))
    assert set(drawn) == {"blue", "green"}
    assert 890 <= drawn["green"] <= 1110, "four standard deviations around 1000"


def test_a_zero_weight_is_never_drawn(world: World) -> None:
    world.put({"green": 0, "blue": 100})
    world.pass_time(30)
    key = world.key()
    drawn = {world.cloud.route("shop", authorization=key, pinned=None).deployment for _ in range(500)}
    assert drawn == {"blue"}


def test_a_deployment_waits_for_its_server() -> None:
    world = World(hosted=True)
    world.put()
    world.pass_time(90)
    operation = world.deploy("blue")
    world.pass_time(2000)
    assert world.cloud.deployment("shop", "blue").state is State.CREATING
    [server] = world.cloud.wanted_servers()
    assert (server.code_path, server.scoring_script) == (Path("/models/codes/1"), "score.py")
    world.cloud.server_ready("shop", "blue", server.generation)
    assert world.cloud.deployment("shop", "blue").state is State.SUCCEEDED
    assert world.cloud.operation(operation.id).ended == world.now


def test_a_server_that_cannot_start_fails_the_operation_when_its_time_is_up() -> None:
    world = World(hosted=True)
    world.put()
    world.pass_time(90)
    operation = world.deploy("blue")
    [server] = world.cloud.wanted_servers()
    world.cloud.server_failed("shop", "blue", server.generation, "ModuleNotFoundError: No module named 'torch'.")
    assert world.cloud.deployment("shop", "blue").state is State.CREATING
    world.pass_time(582)
    assert world.cloud.deployment("shop", "blue").state is State.FAILED
    trouble = world.cloud.operation(operation.id).trouble
    assert trouble is not None
    assert (trouble.code, "No module named 'torch'" in trouble.message) == ("ResourceNotReady", True)
    assert world.cloud.wanted_servers() == []


def test_the_old_server_serves_until_the_new_one_is_there() -> None:
    world = World(hosted=True)
    world.put()
    world.pass_time(90)
    world.deploy("blue")
    first = world.cloud.wanted_servers()[0].generation
    world.cloud.server_ready("shop", "blue", first)
    world.pass_time(600)
    world.deploy("blue", version="2")
    old, new = world.cloud.wanted_servers()
    assert (old.generation, old.code_path) == (first, Path("/models/codes/1"))
    assert new.code_path == Path("/models/codes/2")
    key = world.key()
    assert world.cloud.route("shop", authorization=key, pinned="blue").generation == first
    world.cloud.server_ready("shop", "blue", new.generation)
    world.pass_time(400)
    assert world.cloud.route("shop", authorization=key, pinned="blue").generation == new.generation
    assert [each.generation for each in world.cloud.wanted_servers()] == [new.generation]


def test_more_instances_need_no_new_server(world: World) -> None:
    before = world.cloud.deployment("shop", "blue").generation
    operation = world.deploy("blue", instances=3)
    assert 60 <= (operation.due - operation.started).total_seconds() <= 120
    world.pass_time(120)
    routed = world.cloud.route("shop", authorization=world.key(), pinned="blue")
    assert (routed.instances, routed.generation) == (3, before)


def test_hurry_ends_what_runs(world: World) -> None:
    world.put({"green": 100})
    world.cloud.hurry()
    assert dict(world.cloud.endpoint("shop").spec.traffic) == {"green": 100}


def test_console_lines_are_kept_bounded(world: World) -> None:
    for number in range(6000):
        world.cloud.append_console("shop", "Blue", f"line {number}")
    assert world.cloud.logs("shop", "blue", tail=2) == ["line 5998", "line 5999"]
    assert len(world.cloud.logs("shop", "blue", tail=10_000)) == 5000
    assert world.cloud.logs("shop", "blue", tail=0) == []


def test_the_same_seed_gives_the_same_cloud() -> None:
    first, second = World(chance=3), World(chance=3)
    assert first.put() == second.put()
    assert first.cloud.endpoint("shop") == second.cloud.endpoint("shop")


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"nap": 1}, "unknown timing nap"),
        ({"read_lag": "soon"}, "is no duration"),
        ({"read_lag": [3, 1]}, "longer than the longest"),
        ({"read_lag": -1}, "is no duration"),
    ],
)
def test_a_wrong_timing_is_named(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Timings().changed(**knobs)


# Whatever happens


class AnyOrder(RuleBasedStateMachine):
    """Writes, failures and time in any order. A plain model of what was last accepted stands beside the cloud."""

    @initialize()
    def start(self) -> None:
        self.world = World(timings=Timings())
        self.world.put()
        self.world.pass_time(120)
        self.before: dict[str, int] = {}
        self.pending: tuple[Operation, dict[str, int]] | None = None

    @rule(
        blue=st.integers(-5, 105),
        rest=st.sampled_from([0, 100]),
        names=st.sampled_from([("blue", "green"), ("BLUE", "red"), ("green", "nobody")]),
    )
    def write_traffic(self, blue: int, rest: int, names: tuple[str, str]) -> None:
        wish = {names[0]: blue, names[1]: rest - blue}
        busy = self.world.cloud.endpoint("shop").state.busy
        operation = attempt(self.world.put, wish)
        if isinstance(operation, Refusal):
            assert operation.status == (409 if busy else 400)
            return
        assert not busy, "two operations never run on one endpoint"
        assert all(0 <= share <= 100 for share in wish.values())
        self.pending = (operation, {name.casefold(): share for name, share in wish.items()})

    @rule(name=st.sampled_from(["blue", "green", "red"]), version=st.sampled_from(["1", "2"]))
    def write_deployment(self, name: str, version: str) -> None:
        endpoint = self.world.cloud.endpoint("shop")
        mine = [each for each in self.world.cloud.deployments("shop") if each.name == name]
        busy = endpoint.state.busy or any(each.state.busy for each in mine)
        outcome = attempt(self.world.deploy, name, version=version)
        assert isinstance(outcome, Refusal) == busy
        assert not busy or outcome.status == 409

    @rule(name=st.sampled_from(["blue", "green", "red"]))
    def delete_deployment(self, name: str) -> None:
        share = self.world.cloud.endpoint("shop").spec.traffic.get(name, 0)
        outcome = attempt(self.world.cloud.delete_deployment, "shop", name, actor=ROBOT)
        if isinstance(outcome, Refusal):
            assert outcome.status in (400, 409)
        else:
            assert outcome is None or share == 0

    @rule()
    def let_the_next_write_fail(self) -> None:
        self.world.faults.clear()
        self.world.faults.add(ArmFault(kind="fail_operation", since=self.world.now, count=1))

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0, 25.0, 100.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def totals_are_0_or_100(self) -> None:
        endpoint = self.world.cloud.endpoint("shop")
        assert sum(endpoint.spec.traffic.values()) in (0, 100)
        assert sum(self.world.shown().values()) in (0, 100)

    @invariant()
    def traffic_goes_to_deployments_that_exist(self) -> None:
        there = {each.name for each in self.world.cloud.deployments("shop")}
        assert set(self.world.cloud.endpoint("shop").spec.traffic) <= there

    @invariant()
    def what_was_accepted_takes_effect_at_its_end_and_not_before(self) -> None:
        endpoint = self.world.cloud.endpoint("shop")
        current = {name: share for name, share in endpoint.spec.traffic.items() if share}
        if self.pending is not None:
            operation = self.world.cloud.operation(self.pending[0].id)
            if operation.status is Status.SUCCEEDED:
                self.before = {name: share for name, share in self.pending[1].items() if share}
            if operation.status is not Status.RUNNING:
                self.pending = None
        assert current == self.before
        assert endpoint.state.busy == (self.pending is not None)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
