"""Every ending of a rollout: the real daemon, the real Azure SDKs over HTTPS, the sandbox's processes, real traffic."""

from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

#: Two short steps that few requests can carry. Latency is left to the tests that are about it: the machine is noisy.
QUICK = (
    "steps: [{traffic: 50%, bake: 4m}, {traffic: 100%, bake: 4m}]",
    "min_requests: 20",
    "checks: {latency_p95: off}",
)
#: The share stays while in doubt, so that no retreat comes between a fault and its roll back.
STEADFAST = (*QUICK, "when: {suspicion: hold}")


@side_by_side(rps=16)
def test_promoted_in_steps_with_a_holdback(stage: Stage) -> None:
    stage.serve(warm=250)  # what a latency check must know of stable
    stage.start(
        "steps: [{traffic: 20%, bake: 5m}, {traffic: 100%, bake: 4m}]",
        "min_requests: 10",
        "checks: {latency_p95: {max_increase: 300%}}",
    )
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert end.sentences("confirmed") == [
        "Azure confirmed blue 80 % + green 20 %.",
        "Azure confirmed blue 5 % + green 95 %.",
    ]
    assert end.phases == ["pending", "preparing", "progressing", "promoting", "succeeded"]
    assert "Step 1 of 2 passed: errors 0 % vs 0 %" in end.sentences("progressing")[1]
    assert end.sentence.startswith(f"Promoted: {stage.endpoint} is on green 100 % since ")
    assert end.sentence in end.printed
    assert stage.alert("succeeded")["severity"] == "notice"
    assert stage.alerts() == ["progressing", "succeeded"]
    assert "came out the same, evidence to 1e-9" in " ".join(stage.ask("replay").split())


@side_by_side(rps=8)
def test_promoted_after_an_approval(stage: Stage) -> None:
    stage.serve()
    stage.start("steps: [{traffic: 50%, bake: 4m}, approve, {traffic: 100%, bake: 4m}]", *QUICK[1:])
    asked = stage.ending()
    asked.check(code=3, phase="waiting", traffic={"blue": 50, "green": 50})
    assert f"`rollout approve {stage.endpoint}`" in stage.alert("waiting")["sentence"]
    answer = stage.ask("approve", "--reason", "the samples look good")
    assert "Approved by alex@example.org: the samples look good. Step 2 of 2 began" in answer
    stage.wait_again()
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert any("Approved by alex@example.org" in sentence for sentence in end.sentences("progressing"))
    refused = stage.run("approve")
    assert refused.code == 5
    assert "has ended: Promoted" in refused.err


@side_by_side(rps=12)
def test_rolled_back_on_errors(stage: Stage) -> None:
    """The way of a default policy: doubt cuts the share first, then the evidence sends it back."""
    stage.serve()
    stage.start(*QUICK)
    stage.until_confirmed(50)
    stage.inject("errors", deployment="green", share=0.5)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert end.phases == ["pending", "preparing", "progressing", "retreated", "rolling_back", "rolled_back"], end.kinds
    assert (
        "Retreated from 50 % to 10 % while in doubt. The candidate is under suspicion: errors"
        in end.sentences("retreated")[0]
    )
    assert "Rolling back to blue 100 %: The candidate failed: errors" in end.sentences("rolling_back")[0]
    assert end.sentence.startswith(f"Rolled back, no action needed: {stage.endpoint} back on blue 100 % since ")
    assert "Errors" in end.sentence
    assert end.sentence.rstrip().endswith("requests harmed.")
    assert stage.alert("rolled_back")["sentence"] == end.sentence
    assert stage.alerts() == ["progressing", "retreated", "rolling_back", "rolled_back"]
    assert "page" not in {alert["severity"] for alert in stage.scene.alerts(stage.endpoint)}  # it worked
    assert "it would not have failed at this look." in " ".join(stage.ask("explain").split())
    assert "came out the same, evidence to 1e-9" in " ".join(stage.ask("replay").split())


@side_by_side(rps=16)
def test_rolled_back_on_latency(stage: Stage) -> None:
    stage.serve(warm=250)
    stage.start(*QUICK[:2], "checks: {latency_p95: {max_increase: 25%}}", "when: {suspicion: hold}")
    stage.until_confirmed(50)
    stage.inject("latency", deployment="green", extra_ms=1500)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert "The candidate failed: p95" in end.sentences("rolling_back")[0]
    assert "P95" in end.sentence
    assert stage.alert("rolled_back")["severity"] == "action"


@side_by_side(rps=10)
def test_rolled_back_on_client_errors(stage: Stage) -> None:
    stage.serve()
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    stage.inject("client_errors", deployment="green", share=0.6)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert "The candidate failed: client errors" in end.sentences("rolling_back")[0]
    assert "Client errors" in stage.alert("rolled_back")["sentence"]


@side_by_side(rps=6)
def test_paused_on_drift_then_restored(stage: Stage) -> None:
    """A person's split is never written over, until a person says so."""
    stage.serve()
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    stage.set_traffic(blue=70, green=30)
    paused = stage.ending()
    paused.check(code=3, phase="paused", traffic={"blue": 70, "green": 30})
    assert "was changed by alex@example.org to blue 70 % + green 30 %" in paused.sentence
    assert stage.alert("paused")["sentence"] == paused.sentence
    unsure = stage.run("resume")
    assert unsure.code == 5
    assert "--adopt" in unsure.out + unsure.err
    stage.ask("resume", "--restore")
    stage.until_happened("confirmed", times=2)
    assert stage.alex.traffic(stage.endpoint) == {"blue": 50, "green": 50}
    stage.ask("promote", "--full", "--reason", "seen enough")
    stage.wait_again()
    stage.ending().check(code=0, phase="succeeded", traffic={"green": 100})


@side_by_side(rps=6)
def test_paused_on_drift_then_adopted(stage: Stage) -> None:
    stage.serve()
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    stage.set_traffic(blue=40, green=60)
    stage.ending().check(code=3, phase="paused", traffic={"blue": 40, "green": 60})
    assert "with the traffic as found (blue 40 % + green 60 %)" in stage.ask("resume", "--adopt").replace(
        "green 60 % + blue 40 %", "blue 40 % + green 60 %"
    )
    stage.wait_again()
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    confirmed = end.sentences("confirmed")
    assert "50 % + green 50 %" not in " ".join(confirmed[1:])  # it went on from there, never back


@side_by_side(rps=6)
def test_rolled_back_by_hand(stage: Stage) -> None:
    """Who takes the candidate off the traffic has decided: the rollout ends, and never gives it traffic again."""
    stage.serve()
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    stage.set_traffic(blue=100, green=0)
    end = stage.ending()
    end.check(code=2, phase="aborted", traffic={"blue": 100})
    assert end.sentence.startswith("Rolled back by hand: green (was 50 %) was taken off the traffic")
    assert "by alex@example.org" in end.sentence
    assert stage.alert("aborted")["sentence"] == end.sentence


@side_by_side(rps=10)
def test_halted_where_stable_cannot_serve(stage: Stage) -> None:
    """Green is far too slow, but most of blue's answers are errors: nothing is moved onto it, and somebody is woken."""
    stage.serve()
    stage.start(
        *QUICK[:2],
        "checks: {error_rate: {max_increase: 50pp}, latency_p95: {max_increase: 1000%, max: 2500ms}}",
        "when: {suspicion: hold}",
    )
    stage.until_confirmed(50)
    stage.inject("errors", deployment="blue", share=0.9)
    stage.inject("latency", deployment="green", extra_ms=3500)
    end = stage.ending()
    end.check(code=3, phase="halted", traffic={"blue": 50, "green": 50})
    assert "cannot be rolled back: most of the last answers of its stable deployment blue were errors" in end.sentence
    assert "az ml online-endpoint update" in end.sentence
    assert stage.alert("halted")["severity"] == "page"
    assert "rolling_back" not in end.kinds


@side_by_side(rps=6)
def test_aborted(stage: Stage) -> None:
    stage.serve()
    stage.start(*STEADFAST)
    stage.until_confirmed(50)
    silent = stage.run("abort")
    assert silent.code == 5
    assert "--reason" in silent.err
    stage.ask("abort", "--reason", "the menu is wrong")
    end = stage.ending()
    end.check(code=2, phase="aborted", traffic={"blue": 100})
    assert end.sentence.startswith(f"Aborted: {stage.endpoint} back on blue 100 % since ")
    assert "(was 50 % green), aborted by alex@example.org: the menu is wrong." in end.sentence
    assert stage.alert("aborted")["sentence"] == end.sentence


@side_by_side(rps=6)
def test_paused_at_the_deadline(stage: Stage) -> None:
    stage.serve()
    stage.start(*STEADFAST[1:], "steps: [{traffic: 50%, bake: 5m}, {traffic: 100%, bake: 5m}]", "deadline: 10m")
    end = stage.ending()
    assert (end.code, end.phase) == (3, "paused"), end
    assert "Paused: not done after 10 min of active time, the policy's deadline." in end.sentence
    assert stage.alert("paused")["severity"] == "action"
    stage.ask("abort", "--reason", "too slow")
    stage.wait_again()
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})


@side_by_side(rps=6)
def test_paused_when_the_candidate_is_changed_in_place(stage: Stage) -> None:
    """What was judged is not what serves any more: its evidence is void, and a person decides."""
    stage.serve()
    stage.start("steps: [{traffic: 50%, bake: 60m}, {traffic: 100%, bake: 5m}]", *QUICK[1:])
    stage.until_confirmed(50)
    stage.alex.replace(stage.endpoint, "green")
    end = stage.ending()
    end.check(code=3, phase="paused", traffic={"blue": 50, "green": 50})
    assert "the candidate deployment green was changed in place (" in end.sentence
    # a look while Azure is still at it shows the time of the change before the model
    stage.until(lambda: "(model" in stage.view()["sentence"], "the model is named", ended=True)
    assert stage.alert("paused")["severity"] == "action"
    stage.ask("abort", "--reason", "another model than the one we tested")
    stage.wait_again()
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})


# --- those that never start


@side_by_side(rps=0)
def test_not_started_without_fresh_data(stage: Stage) -> None:
    stage.serve()
    stage.start("when: {no_data: {hold: 15m, then: pause}}")
    end = stage.ending()
    end.check(code=5, phase="aborted", traffic={"blue": 100})
    assert end.sentence.startswith("Not started: no fresh rows of blue in AmlOnlineEndpointTrafficLog")
    assert stage.alert("aborted")["severity"] == "action"


@side_by_side(rps=0)
def test_not_started_without_its_candidate(stage: Stage) -> None:
    stage.serve()
    stage.start(candidate="purple")
    end = stage.ending()
    end.check(code=5, phase="aborted", traffic={"blue": 100})
    assert end.sentence == "Not started: deployment purple does not exist; its endpoint has blue, green."


@side_by_side(rps=0)
def test_not_started_beside_a_third_deployment(stage: Stage) -> None:
    """Traffic of a third deployment is somebody else's: refused at the start, never zeroed."""
    stage.serve("blue", "green", "purple", traffic={"blue": 90, "purple": 10})
    stage.start(candidate="green")
    end = stage.ending()
    end.check(code=5, phase="aborted", traffic={"blue": 90, "purple": 10})
    assert "is blue 90 % + purple 10 %; a rollout starts from one deployment that holds all of it" in end.sentence
