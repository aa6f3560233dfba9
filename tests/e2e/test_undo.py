"""After the promotion: stable is kept and takes the traffic back, a person undoes it, and begins again."""

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

pytestmark = pytest.mark.slow  # CI tells it; `./dev test` stays quick

#: One short step, and a stable that is kept for so long that a person, or a fail, ends it.
QUICK = (
    "steps: [{traffic: 100%, bake: 3m}]",
    "min_requests: 20",
    "checks: {latency_p95: off}",
    "after: {keep_stable: 6h, then: keep}",
)


@side_by_side(rps=8)
def test_undone_while_guarding_and_begun_again(stage: Stage) -> None:
    stage.serve()
    stage.start(*QUICK)
    promoted = stage.ending()  # `start --wait` returns with the promotion
    promoted.check(code=0, phase="guarding", traffic={"green": 100})
    assert "; blue is kept until " in promoted.sentence
    undone = stage.run("undo", "--reason", "the menu is wrong", "--wait")
    assert undone.code == 0, undone
    assert "Undone: " in undone.out
    assert stage.alex.traffic(stage.endpoint) == {"blue": 100}
    view = stage.view()
    assert (view["kind"], view["phase"], view["outcome"]) == ("undo", "rolled_back", "undone")
    assert "undone by alex@example.org: the menu is wrong. Nothing was judged." in view["sentence"]
    guarded = stage.rollouts()[1]
    assert "alex@example.org undid the promotion" in guarded["sentence"]
    again = stage.run("undo")
    assert (again.code, "There is nothing to undo" in again.err) == (5, True)
    stage.ask("retry", "--reason", "the menu is right now")
    stage.until_confirmed(95)
    assert stage.view()["kind"] == "retry"
    stage.ask("abort", "--reason", "seen enough")
    stage.wait_again()
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})


@side_by_side(rps=8)
def test_guarding_rolls_back_by_itself(stage: Stage) -> None:
    """A fault that begins after the promotion: there is no stable beside it, but half of the answers are bad."""
    stage.serve()
    stage.start(*QUICK)
    stage.ending().check(code=0, phase="guarding", traffic={"green": 100})
    stage.inject("errors", deployment="green", share=0.9)
    stage.until(lambda: stage.view()["ended"], "it ends", ended=True)
    stage.wait_again()
    end = stage.ending()
    end.check(code=2, phase="rolled_back", traffic={"blue": 100})
    assert end.phases[-4:] == ["promoting", "guarding", "rolling_back", "rolled_back"]
    assert "The candidate failed: " in end.sentences("rolling_back")[0]
    assert "errors" in end.sentences("rolling_back")[0]
    assert stage.alerts() == ["progressing", "guarding", "rolling_back", "rolled_back"]
    assert stage.alert("rolled_back")["severity"] == "action"
