"""`rollout init --from-endpoint` through the real SDKs against the sandbox: what it writes is what lint and the daemon take."""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from rollout.beside import Beside
from rollout.policy import Policy, parse_policy
from rollout.sandbox.faults import MonitorFault
from rollout.sandbox.load import LoadOptions, send
from rollout.sandbox.resources import Actor
from rollout.sandbox.seed import endpoint_body
from rollout.sandbox.telemetry import Delays
from rollout.settings import parse_settings
from tests.support.own_process import BRISK, Commands
from tests.support.sandbox import LocalSandbox, local_sandbox

NAME = "restaurant-recommender"
SPEED = 600  # an hour takes six seconds
REQUEST = '{"data": [[1, 2]]}'


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    """The sample endpoint with an hour and a half of traffic."""
    with local_sandbox(tmp_path_factory.mktemp("sandbox"), speed=SPEED, seed=True, timings=BRISK) as local:
        at_once = (timedelta(0), timedelta(0))
        local.sandbox.log.delays = Delays(logs=at_once, metrics=at_once)
        send(LoadOptions(sandbox=local.values, rps=60, seconds=9, spacing="even"))
        yield local


@pytest.fixture
def person(sandbox: LocalSandbox, tmp_path: Path) -> Commands:
    """Somebody in an empty folder beside a sandbox."""
    shutil.copy(sandbox.file, tmp_path / "sandbox.json")
    return Commands(folder=tmp_path)


def init(person: Commands, *words: str, code: int = 0) -> str:
    ran = person("init", "--from-endpoint", NAME, "--sandbox", "sandbox.json", *words, code=code)
    return ran.out if code == 0 else ran.err


def policy(person: Commands, name: str = NAME) -> tuple[str, Policy]:
    file = person.folder / "policies" / f"{name}.yaml"
    text = file.read_text()
    return text, parse_policy(text, file=file.name, files=Beside(file.parent))


def test_settings_and_a_policy_from_the_endpoints_traffic(person: Commands, sandbox: LocalSandbox) -> None:
    told = init(person, "--from-last", "1d")
    written = f"Written: rollout.yaml, policies/{NAME}.yaml, policies/policy.schema.json.\n"
    assert told.startswith(f"{written}  Seen in ")
    assert f"Next: rollout doctor -n {NAME}" in told
    text, found = policy(person)
    assert "requests a minute on average, errors" in text
    assert "$schema: ./policy.schema.json" in text
    assert found.endpoint_name == NAME
    assert json.loads((person.folder / "policies/policy.schema.json").read_text())["properties"]["endpoint_name"]
    settings = (person.folder / "rollout.yaml").read_text()
    parsed = parse_settings(settings, file="rollout.yaml", environ={})
    assert parsed.workspaces["sandbox"].log_workspace == sandbox.values["log_workspace"]
    assert parsed.workspaces["sandbox"].region == "westeurope"
    assert "diagnostic setting rollout sends the traffic log there" in settings
    assert person("lint", f"policies/{NAME}.yaml").out.endswith("1 policy without mistakes.\n")
    assert "requests a minute" in person("plan", f"policies/{NAME}.yaml", "--rps", "60", "--quick").out


def test_what_is_there_stays_unless_forced(person: Commands) -> None:
    person.write("rollout.yaml", "# mine\n")
    assert "rollout.yaml is there already: write over it with --force" in init(person, code=5)
    assert (person.folder / "rollout.yaml").read_text() == "# mine\n"
    person.write(f"policies/{NAME}.yaml", "# mine, too\n")
    init(person, "--force")
    assert "mine" not in (person.folder / "rollout.yaml").read_text() + policy(person)[0]


def test_a_sample_that_is_there_stays_unless_it_is_the_same(person: Commands) -> None:
    person.write(f"policies/requests/{NAME}.json", '{"mine": 1}')
    person.write("sample.json", REQUEST)
    words = ("init", "--from-endpoint", NAME, "--sandbox", "sandbox.json", "-r")
    assert f"{NAME}.json is there already" in person(*words, "sample.json", code=5).err
    assert (person.folder / f"policies/requests/{NAME}.json").read_text() == '{"mine": 1}'
    person(*words, f"policies/requests/{NAME}.json")


def test_settings_that_are_there_are_used_and_left_alone(person: Commands) -> None:
    before = "cloud: {sandbox: sandbox.json}\n"
    person.write("rollout.yaml", before)
    told = person("init", "--from-endpoint", NAME).out
    assert told.startswith(f"Written: policies/{NAME}.yaml, ")
    assert (person.folder / "rollout.yaml").read_text() == before


def test_an_endpoint_without_a_log_is_judged_by_metrics(person: Commands, sandbox: LocalSandbox) -> None:
    def unlogged(since: object) -> MonitorFault:
        return MonitorFault(kind="gap", on="logs", endpoint=NAME, since=since)  # type: ignore[arg-type]

    number = sandbox.call(lambda cloud: cloud.faults.add(unlogged(cloud.now())))
    try:
        told = init(person)
    finally:
        sandbox.call(lambda cloud: cloud.faults.clear(number))
    assert "No diagnostic setting sends its traffic log anywhere." in told
    assert policy(person)[1].expert.evidence == ("metrics",)
    assert "# log_workspace: its customer id" in (person.folder / "rollout.yaml").read_text()


def test_a_kubernetes_endpoint_wants_a_sample(person: Commands, sandbox: LocalSandbox) -> None:
    def create(cloud) -> None:  # type: ignore[no-untyped-def]
        body = endpoint_body({}, cloud.identity)
        body["properties"]["compute"] = f"{cloud.identity.workspace}/computes/kubernetes"
        cloud.put_endpoint("stars-k8s", body, actor=Actor(id="bob"))
        cloud.hurry()

    sandbox.call(create)
    words = ("init", "--from-endpoint", "stars-k8s", "--sandbox", "sandbox.json")
    assert "which only probes can judge: name a sample with -r FILE" in person(*words, code=5).err
    assert not (person.folder / "policies").exists()
    person.write("sample.json", REQUEST)
    person(*words, "-r", "sample.json")
    found = policy(person, "stars-k8s")[1]
    assert found.expert.evidence == ("probes",)
    assert found.probes is not None
    assert json.loads(found.probes.requests[0]) == json.loads(REQUEST)
    assert person("lint", "policies/stars-k8s.yaml").out.endswith("1 policy without mistakes.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from-endpoint", NAME), "add --subscription ID -g RESOURCE-GROUP -w WORKSPACE"),
        (("--from-endpoint", NAME, "--sandbox", "none.json"), "No sandbox has written none.json"),
        (("--from-endpoint", "menu", "--sandbox", "sandbox.json"), "Cannot read endpoint menu of workspace"),
        (("--from-endpoint", NAME, "--sandbox", "sandbox.json", "--from-last", "a week"), "--from-last: "),
    ],
)
def test_what_cannot_be_begun_says_why(person: Commands, words: tuple[str, ...], said: str) -> None:
    assert said in person("init", *words, code=5).err
    assert not (person.folder / "rollout.yaml").exists()
