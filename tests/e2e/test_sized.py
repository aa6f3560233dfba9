"""The candidate is given its instances before its first request, and everything is put back at the end."""

import pytest

from rollout.sandbox.seed import SAMPLES
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

REQUEST = (SAMPLES / "requests" / "sample.json").read_text(encoding="utf-8")
#: Judged by probes alone: no live request is needed.
PROBED = (
    "min_requests: 20",
    "checks: {latency_p95: off}",
    "expert: {evidence: [probes]}",
    "probes: {request_file: sample.json, per_minute: 240}",
)


def _start(stage: Stage, *more: str) -> None:
    (stage.home / "sample.json").write_text(REQUEST, encoding="utf-8")
    stage.start(*PROBED, *more)


@side_by_side(rps=0)
def test_sized_and_put_back(stage: Stage) -> None:
    """Scaled and autoscaled like stable while it runs; as before when a person ends it."""
    stage.serve()
    stage.alex.resize(stage.endpoint, "blue", 3)
    stage.alex.autoscale(stage.endpoint, "blue", 1, 5)
    _start(stage, "capacity: match_stable", "steps: [{traffic: 50%, bake: 20m}, {traffic: 100%, bake: 20m}]")
    stage.until_confirmed(50)
    assert stage.alex.instances(stage.endpoint) == {"blue": 3, "green": 4}
    assert stage.alex.autoscaled(stage.endpoint) == {"blue": (3, 5), "green": (4, 5)}
    assert {role: each["count"] for role, each in stage.view()["instances"].items()} == {"baseline": 3, "candidate": 4}
    assert "Instances" in stage.ask("status")
    stage.ask("abort", "--reason", "seen enough")
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})
    stage.until(lambda: stage.alex.instances(stage.endpoint)["green"] == 2, "green is small again", ended=True)
    assert stage.alex.instances(stage.endpoint) == {"blue": 3, "green": 2}
    assert stage.alex.autoscaled(stage.endpoint) == {"blue": (1, 5)}


@side_by_side(rps=0)
def test_no_quota_no_traffic(stage: Stage) -> None:
    """What Azure refuses ends the rollout before any traffic moved, with its words and what to do."""
    stage.serve("blue")
    stage.alex.deploy(stage.endpoint, "green", instance_type="Standard_F2s_v2")
    _start(stage, "capacity: {instances: 3}")
    end = stage.ending()
    end.check(code=5, phase="aborted", traffic={"blue": 100})
    assert end.sentence.startswith("Not started: green needs 3 instances, and Azure refused: ")
    assert "Not enough quota available for Standard_F2s_v2" in end.sentence
    assert "ask for quota of this VM family" in end.sentence
    assert "confirmed" not in end.kinds


@side_by_side(rps=0)
def test_retired_stable(stage: Stage) -> None:
    """The old stable is deleted once the candidate holds everything."""
    stage.serve()
    _start(stage, "after: delete", "steps: [{traffic: 50%, bake: 3m}, {traffic: 100%, bake: 3m}]")
    stage.ending().check(code=0, phase="succeeded", traffic={"green": 100})
    stage.until(lambda: list(stage.alex.instances(stage.endpoint)) == ["green"], "blue is deleted", ended=True)
