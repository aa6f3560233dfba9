"""Windows, freezes and approvals with the real daemon, the SDKs, the sandbox and real traffic."""

from datetime import timedelta

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

REST = ("min_requests: 20", "checks: {latency_p95: off}")


def window(stage: Stage, *, after: int, minutes: int) -> str:
    """A window that opens some minutes of the scene's clock from now."""
    opens = stage.scene.clock.now() + timedelta(minutes=after)
    closes = opens + timedelta(minutes=minutes)
    return f'windows: {{allow: ["mon-sun {opens:%H:%M}-{closes:%H:%M} UTC"]}}'


@side_by_side(rps=8)
def test_in_a_window_frozen_then_approved(stage: Stage) -> None:
    """It begins when the window opens; what a lead approves under a freeze begins when that is lifted."""
    stage.serve()
    approve = "{approve: {by: [ml-leads], timeout: 4h}}"
    steps = f"steps: [{{traffic: 50%, bake: 4m}}, {approve}, {{traffic: 100%, bake: 4m}}]"
    stage.start(steps, window(stage, after=15, minutes=600), *REST)
    stage.until(lambda: "Not started yet: outside the allowed times" in stage.view()["sentence"], "it waits to begin")
    assert stage.view()["windows"]["open"] is False
    asked = stage.ending()
    asked.check(code=3, phase="waiting", traffic={"blue": 50, "green": 50})
    assert "waits for an approval of ml-leads until" in stage.alert("waiting")["sentence"]

    assert "is frozen until it is lifted, by alex@example.org: incident 42." in stage.ask(
        "freeze", "--reason", "incident 42"
    )
    assert stage.alert("frozen")["sentence"].startswith(
        "Frozen by alex@example.org (incident 42), until a person lifts it."
    )
    sam = stage.scene.run("approve", stage.endpoint, config=stage.daemon.config, ROLLOUT_USER="sam")
    assert sam.code == 5
    assert "waits for an approval of ml-leads, and sam is not one of them" in " ".join((sam.out + sam.err).split())
    assert "Step 2 waits: frozen by alex@example.org" in stage.ask("approve")
    refused = stage.run("promote", "--full", "--reason", "now")
    assert refused.code == 5
    assert "A roll back would not wait." in refused.out + refused.err
    stage.ask("unfreeze")
    stage.wait_again()
    end = stage.ending()
    end.check(code=0, phase="succeeded", traffic={"green": 100})
    assert any(
        "Approved by alex@example.org, and the share may rise now." in one for one in end.sentences("progressing")
    )


@side_by_side(rps=12)
def test_frozen_yet_rolled_back(stage: Stage) -> None:
    """A freeze holds the share where it is, and no roll back."""
    stage.serve()
    stage.start("steps: [{traffic: 50%, bake: 4m}, {traffic: 100%, bake: 4m}]", "when: {suspicion: hold}", *REST)
    stage.until_confirmed(50)
    stage.ask("freeze", "--reason", "peak season", "--until", "3h")
    stage.until(lambda: stage.view()["freezes"], "the freeze is shown")
    stage.inject("errors", deployment="green", share=0.6)
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert [kind for kind in end.kinds if kind == "frozen"] == ["frozen"]
