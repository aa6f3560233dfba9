"""Traffic that a person shifts by hand, judged by a daemon whose identity may only read."""

from pathlib import Path

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

#: The identity of the daemon: Reader on the workspace, and nothing else.
READER = "7a1c0000-0000-4000-8000-0000000000aa"
CREDENTIAL = """\
credential: {{type: client_secret, tenant_id: {tenant_id}, client_id: {reader}, secret_file: {client_secret_file}}}
"""
POLICY = (
    "steps: [{traffic: 50%, bake: 4m}, {traffic: 100%, bake: 4m}]",
    "min_requests: 20",
    "checks: {latency_p95: off}",
)


def only_reads(stage: Stage) -> None:
    """Give the stage a daemon of its own, whose identity Azure lets read and nothing else."""
    scene = stage.scene
    scene.ask("PATCH", "knobs", {"readers": [READER]})
    daemon = scene.new_daemon("reader")
    credential = CREDENTIAL.format(reader=READER, **{k: scene.values[k] for k in ("tenant_id", "client_secret_file")})
    with daemon.config.open("a", encoding="utf-8") as settings:
        settings.write(credential)
    stage.daemon = daemon
    daemon.start()
    daemon.answers()


def policy(stage: Stage) -> str:
    """The file of a policy that says nothing of observing."""
    file = Path(stage.home) / "observed.yaml"
    file.write_text("\n".join([f"endpoint_name: {stage.endpoint}", "alerts: [team-ml]", *POLICY, ""]), encoding="utf-8")
    return str(file)


@side_by_side(rps=12, own_speed=30)
def test_observed_with_read_rights_only(stage: Stage) -> None:
    """Alex shifts, the candidate turns bad, Alex puts it back: judged all along, and never written to."""
    only_reads(stage)
    stage.serve()
    told = stage.ask("observe", "-f", policy(stage), "--no-watch")
    assert "Observing" in told or "Preparing" in told or "Pending" in told
    stage.wait_again()
    stage.until_happened("observing")
    refused = stage.run("promote", "--full", "--reason", "now")
    assert refused.code == 5
    assert "This rollout only observes" in refused.out + refused.err

    stage.set_traffic(blue=50, green=50)
    stage.until_happened("split")
    assert "set by alex@example.org" in stage.happened("split")[0]["sentence"]
    stage.until(lambda: stage.view()["would"], "it says what it would do")
    assert stage.happened("would_go_on")[0]["sentence"].startswith(
        "Would go on to 95 %. This split (50 %) passed: errors"
    )

    stage.inject("errors", deployment="green", share=0.6)
    stage.until(lambda: (stage.view()["would"] or {}).get("act") == "roll_back", "it would roll back")
    assert stage.alex.traffic(stage.endpoint) == {"blue": 50, "green": 50}  # it has no hands
    assert "Would roll back to blue 100 %: The candidate failed: errors" in stage.alert("would_roll_back")["sentence"]

    stage.set_traffic(blue=100, green=0)
    end = stage.ending()
    end.check(code=2, phase="observed", traffic={"blue": 100})
    assert end.sentence.startswith(f"Put back by hand: the traffic of {stage.endpoint} is blue 100 % since ")
    assert "Rollout would have rolled back" in end.sentence
    assert "earlier, at " in end.sentence
    assert stage.alert("observed")["sentence"] == end.sentence
    assert "came out the same, evidence to 1e-9" in " ".join(stage.ask("replay").split())
    assert "The candidate failed: errors" in " ".join(stage.ask("explain").split())

    # Azure would have refused a write of the reader: none was refused, so none was tried
    asked = stage.scene.ask("GET", "calls")["recent"]
    assert [call for call in asked if call["status"] in {401, 403}] == []
    shown = next(each for each in stage.scene.ask("GET", "status")["endpoints"] if each["name"] == stage.endpoint)
    assert shown["modified_by"] == "alex@example.org"
