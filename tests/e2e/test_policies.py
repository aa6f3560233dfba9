"""The worked examples in `policies/`, each run through to its end; only the endpoint's name is another one.

They are written for busy endpoints. The load here is what the machine carries, so where an example asks for more requests
than that shows within a bake, the doubt that it describes comes true, and it goes on as it says.
"""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rollout.cli.app import main
from rollout.cli.client import rollout_path
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

POLICIES = Path(__file__).parents[2] / "policies"
FILES = {
    "approval.yaml",
    "approvals-and-windows.yaml",
    "blue-green.yaml",
    "canary.yaml",
    "kubernetes.yaml",
    "low-traffic.yaml",
    "mirror-first.yaml",
    "mlflow-from-registry.yaml",
    "own-checks.yaml",
    "region-waves.yaml",
    "two-lines.yaml",
}
#: Slower than other stories, for the sake of the load: what the machine cannot carry is an incident of both deployments, and
#: the rollout waits until it is over. So many requests a second are 240 a minute, and for what asks for more of them, 285.
SPEED, RPS, MORE_RPS = 20.0, 80.0, 95.0
LONG = 13 * 60  # real seconds
#: For what takes hours.
FAST = 60.0


def text_for(stage: Stage, file: str) -> str:
    """The example, for the stage's endpoint."""
    text = (POLICIES / file).read_text(encoding="utf-8")
    assert "endpoint_name: restaurant-recommender\n" in text
    for folder in ("queries", "requests"):
        shutil.copytree(POLICIES / folder, stage.home / folder, dirs_exist_ok=True)
    return text.replace("endpoint_name: restaurant-recommender\n", f"endpoint_name: {stage.endpoint}\n")


def test_every_example_is_run_through_here() -> None:
    assert {file.name for file in POLICIES.glob("*.yaml")} == FILES


@pytest.mark.parametrize("file", sorted(FILES))
def test_no_example_has_a_mistake(file: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["lint", str(POLICIES / file)])
    assert end.value.code == 0


@pytest.mark.slow
@side_by_side(rps=RPS, own_speed=SPEED)
def test_canary(stage: Stage) -> None:
    stage.serve(warm=1000)
    stage.start_text(text_for(stage, "canary.yaml"))
    end = stage.ending(within=LONG)
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    shares = ["blue 95 % + green 5 %", "blue 75 % + green 25 %", "blue 50 % + green 50 %", "blue 5 % + green 95 %"]
    confirmed = iter(end.sentences("confirmed"))
    assert all(f"Azure confirmed {share}." in confirmed for share in shares), end.kinds  # in this order


@pytest.mark.slow
@side_by_side(rps=RPS, own_speed=SPEED)
def test_blue_green(stage: Stage) -> None:
    """Everything at once; then stable is kept, and the traffic can go back to it."""
    stage.serve(warm=1000)
    stage.start_text(text_for(stage, "blue-green.yaml"))
    end = stage.ending(within=LONG)
    end.check(code=0, phase="guarding", traffic={"green": 100})
    assert end.sentences("confirmed") == ["Azure confirmed blue 10 % + green 90 %."]
    assert any("Step 1 of 1 passed" in sentence for sentence in end.sentences("promoting")), end.kinds
    stage.ask("promote", "--reason", "seen enough")
    stage.wait_again()
    stage.ending().check(code=0, phase="succeeded", traffic={"green": 100})


@pytest.mark.slow
@side_by_side(rps=RPS, own_speed=SPEED)
def test_two_lines(stage: Stage) -> None:
    stage.serve(warm=1000)
    stage.start_text(text_for(stage, "two-lines.yaml"))
    end = stage.ending(within=LONG)
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert end.sentences("confirmed")[-1] == "Azure confirmed blue 5 % + green 95 %."
    assert stage.alerts()[-1] == "succeeded"


@pytest.mark.slow
@side_by_side(rps=MORE_RPS, own_speed=SPEED)
def test_approval(stage: Stage) -> None:
    """Too few requests for its first step at this load: a person looks, and goes on; another one approves the fourth."""
    stage.serve(warm=1000)
    stage.start_text(text_for(stage, "approval.yaml"))
    stage.until_happened("waiting")
    assert "of the 1 000 requests wanted on the candidate" in stage.happened("waiting")[0]["sentence"].replace(
        "\u2009", " "
    )
    stage.ask("promote", "--reason", "the samples look good")
    asked = stage.ending(within=LONG)
    asked.check(code=3, phase="waiting", traffic={"blue": 75, "green": 25})
    assert "Step 4 (50 %) waits for an approval" in stage.alert("waiting")["sentence"]
    stage.ask("approve")
    stage.wait_again()
    end = stage.ending(within=LONG)
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert end.sentences("confirmed")[-1] == "Azure confirmed blue 10 % + green 90 %."


@pytest.mark.slow
@side_by_side(rps=20, own_speed=SPEED)
def test_kubernetes(stage: Stage) -> None:
    """No log and no metrics: what is judged is what the prober sent."""
    stage.serve(on_kubernetes=True)
    stage.start_text(text_for(stage, "kubernetes.yaml"))
    end = stage.ending(within=LONG)
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    passed = [sentence for sentence in end.sentences("progressing") if "passed" in sentence]
    assert len(passed) == 3
    assert "errors 0 % vs 0 %" in passed[-1]


@pytest.mark.slow
@side_by_side(rps=6, own_speed=SPEED)
def test_low_traffic(stage: Stage) -> None:
    """Live requests and probes, each as evidence of its own; a person approves the last step."""
    stage.serve(warm=60)
    stage.start_text(text_for(stage, "low-traffic.yaml"))
    asked = stage.ending(within=LONG)
    asked.check(code=3, phase="waiting", traffic={"blue": 50, "green": 50})
    assert {check["source"] for check in asked.view["checks"]} >= {"logs", "probes"}
    stage.ask("approve")
    stage.wait_again()
    end = stage.ending(within=LONG)
    end.check(code=0, phase="succeeded", traffic={"green": 100})


@pytest.mark.slow
@side_by_side(rps=20, own_speed=SPEED)
def test_mirror_first(stage: Stage) -> None:
    """Copies of live requests, which nobody judges; then the smoke test again, and live traffic."""
    stage.serve(warm=60)
    stage.start_text(text_for(stage, "mirror-first.yaml"))
    end = stage.ending(within=LONG)
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert len(end.sentences("mirroring")) == 2
    assert "green answered 20 of 20 requests of the smoke test" in end.sentences("progressing")[0]
    status = next(each for each in stage.scene.ask("GET", "status")["endpoints"] if each["name"] == stage.endpoint)
    assert status["mirror"] == {}
    assert status["copies"]["green"] > 0


@pytest.mark.slow
@side_by_side(rps=30, own_speed=SPEED)
def test_own_checks(stage: Stage) -> None:
    """Its queries are tried out first; then they count beside the other checks, and none of them objects."""
    stage.serve(warm=300)
    text = text_for(stage, "own-checks.yaml")
    (stage.home / "tried.yaml").write_text(text, encoding="utf-8")
    tried = stage.daemon.run("check", "try", "-f", str(stage.home / "tried.yaml"))
    assert tried.code == 0, tried
    assert [line.split()[1] for line in tried.out.splitlines() if line.startswith("Check ")] == [
        "empty_answers",
        "slow_downloads",
    ]
    stage.start_text(text)
    end = stage.ending(within=LONG)
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    roles = {check["name"]: check["role"] for check in end.view["checks"] if check["source"] == "custom"}
    assert roles == {"empty_answers": "evidence", "slow_downloads": "dry_run"}
    looks = stage.daemon.client.get(rollout_path(stage.endpoint, "export"))["exhibits"]
    shown = [source for look in looks for source in look["sources"] if source["source"] == "custom"]
    counted = [
        measure for source in shown for cell in source["candidate"].values() if cell for measure in cell["histograms"]
    ]
    assert {"custom:empty_answers", "custom:slow_downloads"} == set(counted)


@pytest.mark.slow
@side_by_side(rps=12, own_speed=FAST)
def test_region_waves(stage: Stage) -> None:
    """Three regions as three endpoints; with shorter bakes, little time between, and few requests for each."""
    names = ("recommender-weu", "recommender-neu", "recommender-eus")
    regions = [Stage(scene=stage.scene, endpoint=name, rps=12, home=stage.home) for name in names]
    try:
        for region in regions:
            region.serve(warm=100)
        text = (POLICIES / "region-waves.yaml").read_text(encoding="utf-8")
        assert "between: 2h " in text
        text = (
            text.replace("bake: 10m", "bake: 5m")
            .replace("between: 2h ", "between: 10m ")
            .replace("keep_stable: 24h", "keep_stable: 1h")
        )
        regions[0].start_text(text + "min_requests: 5\nchecks: {latency_p95: off}\n")
        end = regions[0].ending(within=LONG)
    finally:
        for region in regions:
            region.leave()
    assert end.code == 0, end.printed
    views = [region.view() for region in regions]
    assert {view["phase"] for view in views} <= {"guarding", "succeeded"}, end.printed
    assert [stage.alex.traffic(region.endpoint) for region in regions] == [{"green": 100}] * 3
    assert "Wave 2 of 2 begins: recommender-neu, recommender-eus." in end.printed
    began = [datetime.fromisoformat(view["created_at"]) for view in views]
    assert began[1] == began[2]
    assert began[1] - began[0] >= timedelta(minutes=2 * 5 + 10)


@pytest.mark.slow
@side_by_side(rps=0)
def test_mlflow_from_registry(stage: Stage) -> None:
    """Nobody starts it: version 2 is approved in the registry, created as green, tested, and promoted."""
    registry, model = "restaurants", "restaurant-stars"
    served = f"azureml://registries/{registry}/models/{model}/versions/1"
    stage.alex.create(stage.endpoint)
    stage.alex.deploy_mlflow(stage.endpoint, "blue", served)
    stage.set_traffic(blue=100)
    policies = stage.daemon.home / "policies"
    for folder in ("requests", "deployments"):
        shutil.copytree(POLICIES / folder, policies / folder, dirs_exist_ok=True)
    (policies / "mlflow.yaml").write_text(text_for(stage, "mlflow-from-registry.yaml"), encoding="utf-8")
    stage.until(lambda: "last look" in stage.run("triggers").out, "the first look", ended=True)
    assert stage.rollouts() == []

    stage.alex.approve(registry, model, "2", approved="true")
    stage.until(stage.rollouts, "the trigger starts a rollout", ended=True)
    assert stage.view()["started_by"] == f"a trigger (model {model}:2 in {registry})"
    stage.wait_again()
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert f"model {model}:2 in {registry}  started" in stage.ask("triggers")
    assert len(stage.rollouts()) == 1
