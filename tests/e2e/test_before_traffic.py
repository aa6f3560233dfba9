"""What happens before the candidate gets its first live request: nobody is hurt by what goes wrong here."""

from collections.abc import Mapping
from typing import Any

import pytest

from rollout.sandbox.seed import SAMPLES
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

REQUEST = (SAMPLES / "requests" / "sample.json").read_text(encoding="utf-8")
#: Judged by probes alone: no live request is needed.
PROBED = (
    "steps: [{traffic: 50%, bake: 3m}, {traffic: 100%, bake: 3m}]",
    "min_requests: 20",
    "checks: {latency_p95: off}",
    "expert: {evidence: [probes]}",
    "probes: {request_file: sample.json, per_minute: 240}",
)
SMOKE_TEST = "smoke_test: {request_file: sample.json, max_latency: 500ms}"


def _start(stage: Stage, *more: str) -> None:
    (stage.home / "sample.json").write_text(REQUEST, encoding="utf-8")
    stage.start(*PROBED, *more)


@side_by_side(rps=0)
def test_smoke_test_passed(stage: Stage) -> None:
    """The first step says how it went."""
    stage.serve()
    _start(stage, SMOKE_TEST)
    stage.until_confirmed(50)
    began = stage.happened("progressing")[0]["sentence"]
    assert "green answered 20 of 20 requests of the smoke test, in the shape of blue's: 95th percentile" in began
    stage.ask("abort", "--reason", "seen enough")
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})


@side_by_side(rps=0)
def test_smoke_test_failed(stage: Stage) -> None:
    """A candidate that is too slow never gets a live request."""
    stage.serve()
    stage.inject("latency", deployment="green", extra_ms=900.0)
    _start(stage, SMOKE_TEST)
    end = stage.ending()
    end.check(code=5, phase="aborted", traffic={"blue": 100})
    assert end.sentence.startswith("Not started: green answered the smoke test's requests with a 95th percentile of")
    assert "above `max_latency` 500 ms (blue:" in end.sentence
    assert "confirmed" not in end.kinds
    assert stage.alert("aborted")["sentence"] == end.sentence


DEPLOYMENT = (SAMPLES / "green-v2.yml").read_text(encoding="utf-8")
BROKEN = "def init():\n    import nltk\n\n\ndef run(raw):\n    return [1]\n"


def _beside(stage: Stage, name: str, text: str) -> None:
    file = stage.home / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


@side_by_side(rps=0)
def test_candidate_created(stage: Stage) -> None:
    """From a file that is sent with the policy; then it is tested, and gets traffic."""
    stage.serve("blue")
    _beside(stage, f"deployments/{stage.endpoint}.yml", DEPLOYMENT.replace("restaurant-recommender", stage.endpoint))
    _start(stage, SMOKE_TEST, f"candidate: {{file: deployments/{stage.endpoint}.yml}}")
    stage.until_confirmed(50)
    told = [event["sentence"] for event in stage.happened("preparing")]
    assert any(sentence.startswith("Not started yet: green is being created from deployments/") for sentence in told), (
        told
    )
    assert (
        "blue is stable, green the candidate. green answered 20 of 20" in stage.happened("progressing")[0]["sentence"]
    )
    stage.ask("abort", "--reason", "seen enough")
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})


@side_by_side(rps=0)
def test_candidate_not_created(stage: Stage) -> None:
    """A policy of the daemon's own, whose deployment brings a script that does not start: its console is in the alert."""
    stage.serve("blue")
    folder = stage.daemon.home / "policies"
    (folder / "src").mkdir(exist_ok=True)
    (folder / "src" / "score.py").write_text(BROKEN, encoding="utf-8")
    (folder / "deployments").mkdir(exist_ok=True)
    text = DEPLOYMENT.replace("azureml:recommender-code:2", "../src").replace("restaurant-recommender", stage.endpoint)
    (folder / "deployments" / "green.yml").write_text(text, encoding="utf-8")
    (folder / "sample.json").write_text(REQUEST, encoding="utf-8")
    policy = [f"endpoint_name: {stage.endpoint}", "name: broken", *PROBED, "alerts: [team-ml]"]
    lines = [*policy, "candidate: {file: deployments/green.yml}"]
    (folder / "broken.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    stage.until(lambda: "broken" in stage.daemon.run("policies").out, "the policy is loaded", ended=True)
    ran = stage.daemon.run("start", "broken", "--wait")
    assert ran.code == 5, ran
    end = stage.view()["sentence"]
    assert end.startswith(f"Not started: Cannot create deployment green of {stage.endpoint}:"), end
    assert "No module named 'nltk'" in stage.alert("aborted")["sentence"]


MIRRORED = "steps: [{mirror_traffic: 20%, bake: 2m}, {traffic: 50%, bake: 3m}, {traffic: 100%, bake: 3m}]"


def _seen(stage: Stage) -> Mapping[str, Any]:
    """The endpoint as the sandbox has it, with the copies that were sent."""
    found: list[Mapping[str, Any]] = stage.scene.ask("GET", "status")["endpoints"]
    return next(each for each in found if each["name"] == stage.endpoint)


@side_by_side(rps=10)
def test_mirrored(stage: Stage) -> None:
    """Copies first, counted by nobody; they end before the first live request."""
    stage.serve()
    (stage.home / "sample.json").write_text(REQUEST, encoding="utf-8")
    stage.start(MIRRORED, *PROBED[1:])
    stage.until(lambda: _seen(stage)["copies"].get("green", 0) > 5, "green gets copies")
    assert (_seen(stage)["mirror"], _seen(stage)["traffic"]) == ({"green": 20}, {"blue": 100})
    stage.until_confirmed(50)
    assert _seen(stage)["mirror"] == {}
    assert stage.happened("mirrored")
    assert "unjudged" in stage.alert("mirroring")["sentence"]
    stage.ask("abort", "--reason", "seen enough")
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})


@side_by_side(rps=5)
def test_mirror_taken_off(stage: Stage) -> None:
    """Whoever aborts under copies gets rid of them, too."""
    stage.serve()
    (stage.home / "sample.json").write_text(REQUEST, encoding="utf-8")
    stage.start(MIRRORED.replace("2m", "30m"), *PROBED[1:])
    stage.until(lambda: _seen(stage)["mirror"] == {"green": 20}, "Azure mirrors")
    stage.ask("abort", "--reason", "seen enough")
    stage.until(lambda: _seen(stage)["mirror"] == {}, "the mirror is off", ended=True)
    stage.ending().check(code=5, phase="aborted", traffic={"blue": 100})
