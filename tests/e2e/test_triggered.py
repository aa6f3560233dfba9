"""Triggers from end to end: a deployment appears, and its rollout begins without anybody asking."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from rollout.sandbox.seed import SAMPLES
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

POLICY = """\
endpoint_name: {endpoint}
alerts: [team-ml]
steps: [{{traffic: 50%, bake: 4m}}, {{traffic: 100%, bake: 4m}}]
min_requests: 20
checks: {{latency_p95: off}}
when: {{suspicion: hold}}
trigger: {{deployment: {{tags: {{rollout: auto}}}}}}
"""
AUTO = {"rollout": "auto"}


def _trigger(stage: Stage) -> Mapping[str, Any]:
    """What the daemon says of the endpoint's trigger."""
    found = stage.daemon.client.get("/v1/triggers", endpoint=stage.endpoint)["triggers"]
    return found[0] if found else {"since": None, "looked_at": None, "starts": ()}


def _looks_again(stage: Stage) -> None:
    """Until a look has ended that began after now."""
    seen = stage.daemon.client.get("/v1/triggers")["now"]
    stage.until(lambda: (_trigger(stage)["looked_at"] or "") > seen, "the next look", ended=True)


@side_by_side(rps=12)
def test_triggered_by_a_tag(stage: Stage) -> None:
    """A tagged deployment is rolled out once: not again after its roll back, nor when it is scaled; a new version is."""
    stage.serve("blue")
    file = stage.daemon.home / "policies" / f"{stage.endpoint}.yaml"
    file.write_text(POLICY.format(endpoint=stage.endpoint), encoding="utf-8")
    stage.until(lambda: _trigger(stage)["since"], "the first look")
    assert stage.rollouts() == []

    stage.alex.deploy(stage.endpoint, "green", tags=AUTO)
    stage.until(stage.rollouts, "the trigger starts a rollout")
    assert stage.view()["started_by"] == "a trigger (deployment green)"
    stage.until_confirmed(50)
    stage.inject("errors", deployment="green", share=0.5)
    stage.wait_again()
    stage.ending().check(code=2, phase="rolled_back", traffic={"blue": 100})

    stage.alex.deploy(stage.endpoint, "green", tags=AUTO, instance_count=2)
    _looks_again(stage)
    assert len(stage.rollouts()) == 1
    stage.alex.deploy(stage.endpoint, "green", sample="blue-v1.yml", tags=AUTO)
    stage.until(lambda: len(stage.rollouts()) == 2, "the new version's rollout", ended=True)
    assert stage.view()["candidate"] == "green"

    shown = stage.ask("triggers")
    assert f"{stage.endpoint} in sandbox" in shown
    assert shown.count("deployment green  started") == 2, shown
    assert "deployment blue  known\n    it serves" in shown
    stage.ask("abort", "--reason", "the story is told")


PROBED = """\
endpoint_name: {endpoint}
steps: [{{traffic: 50%, bake: 30m}}, {{traffic: 100%, bake: 30m}}]
checks: {{latency_p95: off}}
expert: {{evidence: [probes], early: false}}
probes: {{requests: ['{request}']}}
trigger:
  deployment: {{tags: {{rollout: auto}}}}
  schedule: {{expression: "* * * * *", time_zone: Europe/Paris}}
  when_busy: replace
"""


@side_by_side(rps=0)
def test_scheduled_then_replaced(stage: Stage) -> None:
    """What waits is rolled out when the time comes; what appears then takes its place, after the traffic is back."""
    stage.serve("blue")
    request = json.dumps(json.loads((SAMPLES / "requests" / "sample.json").read_text(encoding="utf-8")))
    file = stage.daemon.home / "policies" / f"{stage.endpoint}.yaml"
    file.write_text(PROBED.format(endpoint=stage.endpoint, request=request), encoding="utf-8")
    stage.until(lambda: _trigger(stage)["since"], "the first look")

    stage.alex.deploy(stage.endpoint, "green")
    stage.until(stage.rollouts, "the schedule starts a rollout")
    assert stage.view()["started_by"].startswith("a trigger (the schedule of ")
    stage.until_confirmed(50)
    stage.alex.deploy(stage.endpoint, "black", tags=AUTO)
    stage.until(lambda: len(stage.rollouts()) == 2, "the newer one's rollout", ended=True)

    new, old = stage.rollouts()
    assert (new["candidate"], old["candidate"], old["phase"]) == ("black", "green", "aborted")
    assert "deployment black takes its place (when_busy: replace)" in old["sentence"]
    stage.ask("abort", "--reason", "the story is told")
