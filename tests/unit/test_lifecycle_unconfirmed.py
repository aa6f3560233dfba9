"""A split that Azure does not take on: late is counted from when it was first wanted."""

from tests.support.lives import at_step, verdict


def test_a_step_that_has_just_begun_is_not_late() -> None:
    life = at_step(0)
    life.tick(verdict("pass"), seconds=16 * 60)
    assert not life.told("slow")
    life.tick(seconds=40)
    assert life.last.kind == "confirmed"


def test_a_step_that_azure_does_not_take_on_is_told_once() -> None:
    life = at_step(0)
    life.slow = True
    life.tick(verdict("pass"), seconds=16 * 60)
    for _ in range(4):
        life.tick(seconds=120)
    assert len(life.told("slow")) == 1
    assert "is not confirmed after 6 min" in life.told("slow")[0].sentence
