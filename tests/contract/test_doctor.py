"""`rollout doctor` through the real SDKs against the sandbox: what it finds, what it costs, what one refusal hides."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from rollout.sandbox.access import Access
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import ArmFault, MonitorFault
from tests.contract.test_sandbox_assets import client_context
from tests.support.own_process import BRISK, Commands, commands_for
from tests.support.sandbox import LocalSandbox, local_sandbox

NAME = "restaurant-recommender"
Look = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    """The sample endpoint with blue at 100 %, and a minute's rows in the logs."""
    with local_sandbox(tmp_path_factory.mktemp("sandbox"), speed=60, seed=True, timings=BRISK) as local:
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
    found = look(NAME, code=1)
    assert found["told"]["counts"]["problem"] == 0
    assert "client_secret: application 7a1c0000-0000-4000-8000-000000000002" in found["credential"]["sentence"]
    assert found["roles"]["result"] == "ok"
    assert found["log workspace"]["result"] == "ok"
    assert found["metrics"]["sentence"] == "One call reads the metrics of all endpoints (metrics: batch)."
    assert found["diagnostic setting"]["sentence"] == "rollout sends to logs."
    assert "(401 without a key, as it should); no prediction was sent" in found["scoring address"]["sentence"]
    assert found["key"]["sentence"] == "Its key was had."
    assert "vCPUs of standardDSv2Family are left in westeurope" in found["quota"]["sentence"]
    assert found["traffic"]["sentence"].startswith("Succeeded, traffic blue 100 %, 1 deployment.")
    told = rollout("doctor", code=1).out
    assert "Endpoint restaurant-recommender" in told
    assert "✔ credential" in told


def test_nothing_is_written_and_no_prediction_sent(sandbox: LocalSandbox, look: Look) -> None:
    def counts() -> dict[str, int]:
        with httpx.Client(verify=client_context(sandbox), trust_env=False) as http:
            told: dict[str, int] = http.get(f"{sandbox.address}/sandbox/calls").json()["counts"]
        return told

    before = sandbox.call(lambda cloud: len(cloud.activity))
    first = counts()
    look("--all", code=1)
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
            "insights/eventtypes/management/values/read",
            "authorization/permissions/read",
            "machinelearningservices/workspaces/onlineEndpoints/listKeys/action",
        )
    )
    sandbox.call(lambda cloud: setattr(cloud, "access", Access(denied=denied)))
    found = look(NAME, code=1)
    for check in ("diagnostic setting", "quota", "roles"):
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
    assert '--role "Monitoring Reader" --scope /subscriptions/' in found["remedy"][0]


def test_without_a_token_there_is_one_finding(sandbox: LocalSandbox, look: Look) -> None:
    inject(sandbox, lambda now: ArmFault(kind="error", on="tokens", status=503, since=now))
    told = look(NAME, code=2)["told"]
    assert [each["check"] for each in told["findings"]] == ["credential"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--all", NAME), "--all looks at every endpoint"),
        ((NAME, "--predict"), "name a policy with `probes` with -f"),
        ((NAME, "-w", "prod"), "The settings name no workspace prod: they have sandbox."),
    ],
)
def test_what_cannot_be_asked_says_why(rollout: Commands, words: tuple[str, ...], said: str) -> None:
    assert said in rollout("doctor", *words, code=5).err


def test_an_endpoint_that_is_not_there(look: Look) -> None:
    found = look("restaurant-reccomender", code=2)["endpoints"]
    assert "There is no endpoint restaurant-reccomender in the workspace" in found["sentence"]
