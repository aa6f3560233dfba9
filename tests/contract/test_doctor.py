"""`rollout doctor` through the real SDKs against the sandbox: what it finds, what it costs, what one refusal hides."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import yaml

from rollout.azure.cloud import cloud_of
from rollout.azure.examining.examiner import Wanted, examiner
from rollout.azure.examining.facts import Cause, Unread
from rollout.azure.examining.reaching import reach
from rollout.clock import WallClock
from rollout.sandbox.access import Access
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import ArmFault, MonitorFault
from rollout.sandbox.load import LoadOptions, send
from rollout.sandbox.resources import Actor, State
from rollout.sandbox.seed import SAMPLES, deployment_body, endpoint_body
from rollout.sandbox.telemetry import Delays
from rollout.settings import parse_settings, with_sandbox
from tests.contract.test_sandbox_assets import client_context
from tests.support.own_process import BRISK, Commands, commands_for
from tests.support.sandbox import LocalSandbox, local_sandbox

NAME = "restaurant-recommender"
Look = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    """The sample endpoint with blue at 100 %, and a few minutes' rows in the logs."""
    with local_sandbox(tmp_path_factory.mktemp("sandbox"), speed=10, seed=True, timings=BRISK) as local:
        at_once = (timedelta(0), timedelta(0))
        local.sandbox.log.delays = Delays(logs=at_once, metrics=at_once)
        send(LoadOptions(sandbox=local.values, rps=40, seconds=5, spacing="even"))
        yield local


@pytest.fixture(scope="module")
def rollout(sandbox: LocalSandbox, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return commands_for(tmp_path_factory.mktemp("machine"), sandbox)


@pytest.fixture
def look(rollout: Commands, sandbox: LocalSandbox) -> Iterator[Look]:
    """Run doctor; the findings by check, of the workspace and of the endpoint."""

    def run(*words: str, code: int) -> dict[str, Any]:
        told = json.loads(rollout("doctor", *words, "-o", "json", code=code).out)
        return {each["check"]: each for each in told["findings"]} | {"told": told}

    yield run
    sandbox.call(lambda cloud: (cloud.faults.clear(), setattr(cloud, "access", Access())))


def inject(sandbox: LocalSandbox, make: Callable[[datetime], Any]) -> None:
    def add(cloud: Cloud) -> None:
        cloud.faults.add(make(cloud.now()))

    sandbox.call(add)


def test_a_workspace_as_it_should_be(rollout: Commands, look: Look) -> None:
    found = look(NAME, code=0)
    assert found["told"]["worst"] == "ok"
    assert "client_secret: application 7a1c0000-0000-4000-8000-000000000002" in found["credential"]["sentence"]
    assert found["roles"]["result"] == "ok"
    assert found["log workspace"]["result"] == "ok"
    assert found["metrics"]["sentence"] == "One call reads the metrics of all endpoints (metrics: batch)."
    assert found["diagnostic setting"]["sentence"] == "rollout sends to logs."
    assert "(401 without a key, as it should); no prediction was sent" in found["scoring address"]["sentence"]
    assert found["key"]["sentence"] == "Its key can be read."
    assert "vCPUs of standardDSv2Family are left in westeurope" in found["quota"]["sentence"]
    assert "rows a day" in found["log volume"]["sentence"]
    assert found["autoscale"]["sentence"].startswith("No autoscale setting targets its deployments")
    assert found["other writers"]["sentence"].startswith("Nobody but this identity wrote to it in 7 days")
    assert found["traffic"]["sentence"].startswith("Succeeded, traffic blue 100 %, 1 deployment.")
    told = rollout("doctor").out
    assert "Endpoint restaurant-recommender" in told
    assert "✔ credential" in told


def test_nothing_is_written_and_no_prediction_sent(sandbox: LocalSandbox, look: Look) -> None:
    def counts() -> dict[str, int]:
        with httpx.Client(verify=client_context(sandbox), trust_env=False) as http:
            told: dict[str, int] = http.get(f"{sandbox.address}/sandbox/calls").json()["counts"]
        return told

    before = sandbox.call(lambda cloud: len(cloud.activity))
    first = counts()
    look("--all", code=0)
    asked = {kind: count - first.get(kind, 0) for kind, count in counts().items()}
    assert sandbox.call(lambda cloud: len(cloud.activity)) == before
    assert not [kind for kind, count in asked.items() if count and kind.startswith(("PUT", "PATCH", "DELETE"))]
    assert sum(asked.values()) < 60


def test_a_missing_diagnostic_setting_comes_with_the_command(sandbox: LocalSandbox, look: Look) -> None:
    inject(sandbox, lambda now: MonitorFault(kind="gap", on="logs", endpoint=NAME, since=now))
    found = look(NAME, code=2)["diagnostic setting"]
    assert found["result"] == "problem"
    (command,) = found["remedy"]
    assert command.startswith("az monitor diagnostic-settings create --name rollout --resource /subscriptions/")
    assert f"/onlineEndpoints/{NAME} --workspace /subscriptions/" in command
    assert command.endswith("""--logs '[{"category": "AmlOnlineEndpointTrafficLog", "enabled": true}]'""")


def test_every_endpoint_without_a_setting_gets_its_command(sandbox: LocalSandbox, rollout: Commands) -> None:
    def create(cloud: Cloud) -> None:
        for name in ("menu", "prices"):
            cloud.put_endpoint(name, endpoint_body({}, cloud.identity), actor=Actor(id="bob"))
            cloud.hurry()
            cloud.faults.add(MonitorFault(kind="gap", on="logs", endpoint=name, since=cloud.now()))

    sandbox.call(create)
    told = json.loads(rollout("doctor", "--all", "-o", "json", code=2).out)
    commands = [line for each in told["findings"] for line in each["remedy"] if "diagnostic-settings create" in line]
    assert [command.partition("/onlineEndpoints/")[2].split()[0] for command in commands] == ["menu", "prices"]
    for name in ("menu", "prices"):
        sandbox.call(lambda cloud, name=name: cloud.delete_endpoint(name, actor=Actor(id="bob")))
    sandbox.call(lambda cloud: (cloud.faults.clear(), cloud.hurry()))


def test_a_pipeline_that_deploys_with_all_traffic_is_named(sandbox: LocalSandbox, look: Look) -> None:
    """What `az ml online-deployment create --all-traffic` sends, by another service principal."""
    token = sandbox.credential("old-pipeline").get_token(f"{sandbox.address}/.default").token
    identity = sandbox.sandbox.cloud.identity
    blue = yaml.safe_load((SAMPLES / "blue-v1.yml").read_text())

    def put(path: str, body: dict[str, Any]) -> None:
        with httpx.Client(verify=client_context(sandbox), trust_env=False) as http:
            headers = {"Authorization": f"Bearer {token}"}
            address = f"{sandbox.address}{path}?api-version=2024-10-01"
            assert http.put(address, json=body, headers=headers).status_code == 201

    put(identity.deployment_id(NAME, "blue"), deployment_body(blue, identity))
    sandbox.call(lambda cloud: cloud.hurry())
    body = endpoint_body({}, identity)
    body["properties"]["traffic"] = {"blue": 100}
    put(identity.endpoint_id(NAME), body)
    sandbox.call(lambda cloud: cloud.hurry())
    found = look(NAME, code=1)["other writers"]
    assert found["result"] == "warning"
    assert found["sentence"].startswith("old-pipeline wrote deployment blue at ")
    assert "as a pipeline with --all-traffic does" in found["sentence"]
    sandbox.call(lambda cloud: cloud.activity.clear())


def mirrored(look: Look) -> str:
    sentence: str = look(NAME, code=0)["mirrored rows"]["sentence"]
    return sentence


def test_copies_are_seen_and_not_judged_too_early(sandbox: LocalSandbox, look: Look) -> None:
    identity = sandbox.sandbox.cloud.identity
    green = deployment_body(yaml.safe_load((SAMPLES / "blue-v1.yml").read_text()), identity)
    bob = Actor(id="bob")
    sandbox.call(lambda cloud: cloud.put_deployment(NAME, "green", green, actor=bob))
    deadline = time.monotonic() + 60
    while sandbox.call(lambda cloud: (cloud.hurry(), cloud.deployment(NAME, "green").state)[1]) is not State.SUCCEEDED:
        assert time.monotonic() < deadline
        threading.Event().wait(0.1)
    body = endpoint_body({}, identity)
    body["properties"] |= {"traffic": {"blue": 100}, "mirrorTraffic": {"green": 20}}
    sandbox.call(lambda cloud: (cloud.put_endpoint(NAME, body, actor=bob), cloud.hurry()))
    send(LoadOptions(sandbox=sandbox.values, rps=40, seconds=2, spacing="even"))
    assert "green gets copies of 20 %: whether they are logged cannot be told yet" in mirrored(look)
    body["properties"]["mirrorTraffic"] = {}
    sandbox.call(lambda cloud: (cloud.put_endpoint(NAME, body, actor=bob), cloud.hurry()))
    assert "Nothing is mirrored now" in mirrored(look)


def test_a_policys_sample_is_sent_only_when_asked(rollout: Commands, look: Look) -> None:
    rollout.write("sample.json", (SAMPLES / "requests" / "sample.json").read_text())
    rollout.write("policy.yaml", f"endpoint_name: {NAME}\nprobes: {{request_file: sample.json}}\n")
    assert "sample" not in look("-f", "policy.yaml", code=0)
    found = look("-f", "policy.yaml", "--predict", code=0)["sample"]
    assert found["sentence"].startswith("The policy's sample was answered by blue in ")


def test_a_missing_role_is_told_from_one_that_is_on_its_way(sandbox: LocalSandbox, look: Look) -> None:
    own = frozenset({sandbox.values["client_id"]})
    sandbox.call(lambda cloud: setattr(cloud, "access", Access(readers=own)))
    missing = look(NAME, code=2)["roles"]
    assert missing["result"] == "problem"
    assert "may not move traffic: no role here allows" in missing["sentence"]
    assert '--role "Rollout" --scope /subscriptions/' in missing["remedy"][1]
    sandbox.call(lambda cloud: setattr(cloud, "access", Access(newcomers={next(iter(own)): cloud.now()})))
    coming = look(NAME, code=1)["roles"]
    assert coming["result"] == "warning"
    assert "Role Contributor, which does, was assigned" in coming["sentence"]


def test_one_refusal_hides_nothing_else(sandbox: LocalSandbox, look: Look) -> None:
    denied = frozenset(
        f"microsoft.{each}".casefold()
        for each in (
            "insights/diagnosticSettings/read",
            "machinelearningservices/locations/usages/read",
            "insights/eventtypes/values/read",
            "authorization/permissions/read",
            "machinelearningservices/workspaces/onlineEndpoints/listKeys/action",
        )
    )
    sandbox.call(lambda cloud: setattr(cloud, "access", Access(denied=denied)))
    found = look(NAME, code=1)
    assert found["diagnostic setting"]["sentence"] == "Not readable for this identity, but rows arrive: there is one."
    for check in ("other writers", "quota", "roles"):
        assert found[check]["result"] == "warning", check
        assert "That is a role that is missing, not the network." in found[check]["sentence"]
    assert "which only probes need" in found["key"]["sentence"]
    assert found["metrics"]["result"] == found["scoring address"]["result"] == "ok"


def test_the_network_is_told_from_a_role(sandbox: LocalSandbox, look: Look) -> None:
    words = "Access to workspace was denied based on workspace private link configuration."
    inject(
        sandbox, lambda now: ArmFault(kind="error", on="reads", status=403, code="UserError", message=words, since=now)
    )
    found = look(NAME, code=2)["endpoints"]
    assert found["result"] == "problem"
    assert "private link configuration. That is the network, not a role." in found["sentence"]


def test_metrics_that_the_subscription_refuses(sandbox: LocalSandbox, look: Look) -> None:
    inject(sandbox, lambda now: MonitorFault(kind="error", on="metrics", status=401, since=now))
    found = look(NAME, code=1)["metrics"]
    assert found["result"] == "warning"
    assert "Those of one endpoint by itself can be read: it is the role on the whole subscription." in found["sentence"]
    assert '--role "Monitoring Reader" --scope /subscriptions/' in found["remedy"][0]
    own = sandbox.values["client_id"]
    sandbox.call(lambda cloud: setattr(cloud, "access", Access(newcomers={own: cloud.now()})))
    coming = look(NAME, code=1)["metrics"]
    assert "Role Contributor was assigned" in coming["sentence"]
    assert coming["remedy"] == []


def test_what_the_time_does_not_suffice_for_says_so(sandbox: LocalSandbox) -> None:
    values = sandbox.values
    settings = with_sandbox(parse_settings(f"cloud: {{sandbox: {sandbox.file}}}", file="s", environ={}), values)
    with examiner(
        cloud=cloud_of(settings.cloud, values),
        credential=settings.credential,
        secret=sandbox.secret,
        name="sandbox",
        workspace=settings.workspaces["sandbox"],
        clock=WallClock(),
    ) as found:
        facts = found.look(Wanted(seconds=-1.0))
    assert not isinstance(facts.endpoints, Unread)
    (endpoint,) = facts.endpoints.values()
    late = [facts.permissions, facts.rows, facts.batch, facts.quotas, facts.autoscale, facts.changes]
    late += [endpoint.deployments, endpoint.diagnostics, endpoint.secret, endpoint.reach.status]
    assert {each.cause for each in late if isinstance(each, Unread)} == {Cause.TIME}
    assert all(isinstance(each, Unread) for each in late)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://127.0.0.1:1/score", "No connection to 127.0.0.1 comes about"),
        ("https://stars.invalid/score", "The name stars.invalid is not known here: DNS does not resolve it."),
    ],
)
def test_why_a_scoring_address_cannot_be_reached(address: str, said: str) -> None:
    with httpx.Client(trust_env=False) as client:
        found = reach(client, address).status
    assert isinstance(found, Unread)
    assert found.cause is Cause.NETWORK
    assert found.why.startswith(said)


def test_a_certificate_that_is_not_trusted(sandbox: LocalSandbox) -> None:
    with httpx.Client(trust_env=False) as client:
        found = reach(client, f"{sandbox.address}/endpoints/{NAME}/score").status
    assert isinstance(found, Unread)
    assert "The certificate of 127.0.0.1 is not trusted here" in found.why


def test_a_log_workspace_elsewhere_is_found_by_the_setting(sandbox: LocalSandbox, look: Look) -> None:
    denied = frozenset({"microsoft.operationalinsights/workspaces/read"})
    sandbox.call(lambda cloud: setattr(cloud, "access", Access(denied=denied)))
    found = look(NAME, code=0)
    assert found["log workspace"]["sentence"].startswith("7a1c0000-0000-4000-8000-000000000005 answers: ")


def test_without_a_token_there_is_one_finding(sandbox: LocalSandbox, look: Look) -> None:
    inject(sandbox, lambda now: ArmFault(kind="error", on="tokens", status=503, since=now))
    told = look(NAME, code=2)["told"]
    assert [each["check"] for each in told["findings"]] == ["credential"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--all", NAME), "--all looks at every endpoint"),
        ((NAME, "--predict"), "name a policy with `probes` or `smoke_test` with -f"),
        ((NAME, "-w", "prod"), "The settings name no workspace prod: they have sandbox."),
    ],
)
def test_what_cannot_be_asked_says_why(rollout: Commands, words: tuple[str, ...], said: str) -> None:
    assert said in rollout("doctor", *words, code=5).err


def test_an_endpoint_that_is_not_there(look: Look) -> None:
    found = look("restaurant-reccomender", code=2)["endpoints"]
    assert "There is no endpoint restaurant-reccomender in the workspace" in found["sentence"]
