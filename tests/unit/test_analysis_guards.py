"""The guards beside the evidence, at their edges."""

from rollout.analysis.checks import checks_of
from rollout.analysis.evidence import Counts
from rollout.analysis.guards import above_maximum, stable_above_maximum
from rollout.analysis.judgement import CheckState
from rollout.policy import Checks, ErrorCheck
from tests.support.judging import policy

CAPPED, FREE = (checks_of(policy(checks=Checks(error_rate=ErrorCheck(max=most))), "logs")[0] for most in ("10%", None))


def test_a_maximum_needs_three_minutes_and_does_without_the_worst_of_them() -> None:
    steady = CheckState(over=Counts(0, 900, 90, 300), worst=Counts(0, 300, 30, 100))
    assert [above_maximum(steady, CAPPED, blocks) for blocks in (1, 2, 3, 9)] == [False, False, True, True]
    assert not above_maximum(steady, FREE, 9)
    one_minute = CheckState(over=Counts(0, 900, 80, 300), worst=Counts(0, 300, 70, 100))
    assert not above_maximum(one_minute, CAPPED, 9)
    below = CheckState(over=Counts(0, 900, 30, 300), worst=Counts(0, 300, 10, 100))
    assert not above_maximum(below, CAPPED, 9)
    assert not above_maximum(CheckState(), CAPPED, 9)


def test_stable_is_above_the_maximum_only_beyond_it() -> None:
    assert [stable_above_maximum(CheckState(over=Counts(z, 100, 0, 9)), CAPPED) for z in (9, 10, 11)] == [
        False,
        False,
        True,
    ]
