"""What goes wrong around a rollout: killed daemons, a sick Azure, incidents of both deployments, silence."""

import json

from tests.e2e.test_endings import QUICK, STEADFAST
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage


@side_by_side(rps=10, own_speed=20)
def test_daemon_killed_before_its_write_and_while_rolling_back(stage: Stage) -> None:
    """SIGKILL with the intent saved and Azure untouched; again with the answer to the roll back's PUT still to come."""
    daemon = stage.daemon
    stage.serve()
    refusing = stage.inject("error", plane="arm", on="writes", status=503, count=1000)
    stage.start(*STEADFAST)
    stage.until(lambda: stage.left(refusing) < 1000, "the first write is tried")
    daemon.kill()
    assert stage.alex.traffic(stage.endpoint) == {"blue": 100}
    stage.mend(refusing)
    daemon.start()
    daemon.answers()
    stage.until_confirmed(50)
    stage.inject("errors", deployment="green", share=0.7)
    silent = stage.inject("timeout", plane="arm", on="writes", count=1)
    stage.until(lambda: not stage.left(silent), "Azure takes the write that rolls back, and does not answer")
    daemon.kill()
    daemon.start()
    daemon.answers()
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert end.phases == ["pending", "preparing", "progressing", "rolling_back", "rolled_back"]
    assert len(end.sentences("rolling_back")) == 1
    stage.alert("rolled_back")
    assert sorted(set(stage.alerts())) == sorted(stage.alerts())  # each once, whatever was killed


@side_by_side(rps=0)
def test_a_second_daemon_on_one_store_is_refused(stage: Stage) -> None:
    daemon = stage.daemon
    before = json.loads((daemon.home / "daemon.json").read_text())
    second = stage.scene.run("daemon", "--config", str(daemon.config), ROLLOUT_API__LISTEN="127.0.0.1:0")
    assert second.code == 1, second
    assert "Traceback" not in second.err
    assert "is in use by another Rollout daemon" in second.err
    assert json.loads((daemon.home / "daemon.json").read_text()) == before
    assert daemon.run("list").code == 0


@side_by_side(rps=14)
def test_an_incident_of_both_deployments_is_held(stage: Stage) -> None:
    """Both fail alike: the candidate is not to blame. It is held, told, and goes on when it is over."""
    stage.serve(warm=150)  # what is usual must be known
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    incident = stage.inject("errors", share=0.4)
    stage.until_happened("waiting")
    held = stage.happened("waiting")[0]
    assert "both deployments got worse together" in held["sentence"]
    assert stage.alert("waiting")["severity"] == "action"
    stage.mend(incident)
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert not {"rolling_back", "retreated"} & set(end.kinds)


@side_by_side(rps=10, own_speed=30)
def test_a_gap_in_the_data_is_held(stage: Stage) -> None:
    """Azure Monitor falls silent: no data is never a pass. The rollout goes on when there is data again."""
    stage.serve()
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    gap = stage.inject("gap", plane="monitor")
    stage.until_happened("waiting")
    held = stage.happened("waiting")[0]["sentence"]
    assert "no data" in held
    assert "If nothing changes, the rollout pauses at" in held
    assert stage.view()["share"] == 50
    stage.mend(gap)
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert any(sentence.startswith("Going on.") for sentence in end.sentences("progressing"))


@side_by_side(rps=8)
def test_azure_refuses_and_fails_for_a_while(stage: Stage) -> None:
    """429 with and without Retry-After, 503, 409, a failed operation, an answer that breaks off: still promoted."""
    stage.serve()
    stage.inject("throttle", plane="arm", on="writes", retry_after=1, count=1)
    stage.inject("throttle", plane="arm", on="writes", count=1)
    stage.inject("error", plane="arm", on="writes", status=502, count=1)
    stage.inject("conflict", plane="arm", on="writes", count=2)
    stage.inject("fail_operation", plane="arm", on="writes", count=1)
    stage.start(*QUICK)
    stage.until_confirmed(50)
    stage.inject("error", plane="arm", on="reads", status=503, count=3)
    stage.inject("throttle", plane="arm", on="reads", retry_after=2, count=2)
    stage.inject("conflict", plane="arm", on="writes", count=2)
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert not stage.faults()
    assert "paused" not in end.kinds


@side_by_side(rps=10)
def test_a_roll_back_that_azure_does_not_confirm_is_paged(stage: Stage) -> None:
    """Azure refuses every write: somebody gets the command to do it by hand, and it is tried on."""
    stage.serve()
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    refusing = stage.inject("error", plane="arm", on="writes", status=503)
    stage.inject("errors", deployment="green", share=0.7)
    page = stage.alert("unconfirmed")
    assert page["severity"] == "page"
    assert f"Act now: the roll back of {stage.endpoint} is not done." in page["sentence"]
    assert f"az ml online-endpoint update --name {stage.endpoint} " in page["sentence"]
    assert '--traffic "blue=100 green=0"' in page["sentence"]
    stage.mend(refusing)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert stage.alert("rolled_back")["sentence"] == end.sentence
