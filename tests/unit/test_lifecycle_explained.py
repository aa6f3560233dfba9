"""What an alert explains is as of the phase that it tells, not of the one before."""

from rollout.lifecycle import Phase
from tests.support.lives import FAIL, at, at_step, policy, verdict


def test_a_roll_back_says_to_wait_for_its_confirmation() -> None:
    life = at(Phase.RETREATED)
    life.tick(FAIL)
    (told,) = life.told("rolling_back")
    assert str(told.details["next"]).startswith("Wait for the message that Azure has confirmed it")
    assert str(told.details["now"]).endswith("on its way to blue 100 %")
    assert told.details["cause"] == FAIL.sentence


def test_a_halt_says_to_look_now() -> None:
    (told,) = at(Phase.HALTED).told("halted")
    assert str(told.details["next"]).startswith("Look at the endpoint now")


def test_a_pause_on_a_regression_says_how_to_go_on() -> None:
    life = at_step(1, policy(when={"regression": "pause"}))
    life.tick(verdict("fail"))
    (told,) = life.told("paused")
    assert str(told.details["next"]).startswith("Decide how to go on: `rollout resume")
