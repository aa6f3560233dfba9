"""`regression: alert`: people are paged, the share stays where it is, and judging goes on."""

from dataclasses import replace

import pytest

from rollout.analysis.verdict import Reason, Verdict
from rollout.lifecycle import Phase
from rollout.policy import Checks, ErrorCheck, LatencyCheck, When
from rollout.web.views import outcome
from rollout.world import Severity
from tests.support.lives import FAIL, Life, at_step, finding, policy, started, verdict

P = Phase
ALERT = When(regression="alert")
LATER = [verdict("pass"), verdict("hold"), verdict("hold", Reason.NO_DATA), verdict("retreat"), FAIL]


def alerted(**changes: object) -> Life:
    life = at_step(1, policy(when=ALERT, **changes))  # type: ignore[arg-type]
    life.tick(FAIL)
    return life


def test_people_are_paged_once_with_the_numbers_and_nothing_moves() -> None:
    life = alerted()
    assert (life.phase, life.last.severity, life.traffic) == (P.WAITING, Severity.PAGE, {"blue": 75, "green": 25})
    assert FAIL.sentence in life.last.sentence
    assert "the share stays at 25 %, and judging goes on" in life.last.sentence
    assert "`rollout resume restaurant-recommender --reason …`" in life.last.sentence
    assert outcome(life.rollout) == "needs_person"
    told = len(life.events)
    life.tick(FAIL)
    assert len(life.events) == told


@pytest.mark.parametrize("later", LATER, ids=lambda one: f"{one.action}-{one.reason}")
def test_no_later_verdict_moves_the_share_by_itself(later: Verdict) -> None:
    life = alerted()
    for _ in range(5):
        life.tick(later, seconds=600)
    assert (life.phase, life.rollout.share, life.traffic) == (P.WAITING, 25, {"blue": 75, "green": 25})


@pytest.mark.parametrize("verb", ["resume", "promote"])
def test_going_on_needs_a_reason_and_judges_afresh(verb: str) -> None:
    life = alerted()
    assert "needs a reason, because the candidate has failed" in life.ask_in_vain(verb)
    life.ask(verb, reason="it was the database")
    life.tick(seconds=40)
    assert (life.phase, life.rollout.past_fail, life.rollout.fail_stands) == (P.PROGRESSING, 1, False)
    assert life.rollout.share == (25 if verb == "resume" else 95)


def test_abort_goes_back() -> None:
    life = alerted()
    life.ask("abort", reason="enough")
    life.tick(seconds=40)
    assert (life.phase, life.traffic) == (P.ABORTED, {"blue": 100})


def test_from_a_retreat_the_share_stays_cut_until_a_person_and_then_the_judge_say_so() -> None:
    life = at_step(1, policy(when=ALERT))
    life.tick(verdict("retreat"))
    life.tick(seconds=40)
    cut = life.rollout.share
    life.tick(FAIL)
    life.tick(verdict("hold", Reason.RECOVERED))
    assert (life.phase, life.rollout.share) == (P.WAITING, cut)
    life.ask("resume", reason="it was the database")
    assert (life.phase, life.rollout.share) == (P.RETREATED, cut)
    life.tick(verdict("hold", Reason.RECOVERED))
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 25)


def test_a_check_that_rolls_back_does_not_ask() -> None:
    checks = Checks(error_rate=ErrorCheck(on_regression="rollback"), latency_p95=LatencyCheck())
    slow = replace(FAIL, findings=(finding(check="latency_p95", unit="ms"),))
    life = at_step(1, policy(when=ALERT, checks=checks))
    life.tick(slow)
    assert life.phase is P.WAITING
    life.tick(FAIL)
    assert life.phase is P.ROLLING_BACK


def test_an_approval_past_it_needs_a_reason() -> None:
    life = started(policy(when=ALERT, approve={1: {"timeout": "4h"}}))
    life.tick(verdict("pass"))
    life.tick(FAIL)
    assert (life.phase, life.rollout.awaits_approval) == (P.WAITING, True)
    assert "needs a reason" in life.ask_in_vain("approve")
    life.ask("approve", reason="known and harmless")
    assert life.rollout.step == 1


def test_the_last_write_is_not_made_past_a_fail() -> None:
    """Once the candidate is promoted there is no share to hold: people decide."""
    life = at_step(2, policy(when=ALERT))
    life.slow = True
    life.tick(verdict("pass"))
    life.tick(FAIL)
    assert life.phase is P.PAUSED


def test_the_deadline_still_ends_it() -> None:
    life = alerted(deadline="1h")
    life.tick(verdict("hold"), seconds=3600)
    assert (life.phase, life.rollout.fail_stands) == (P.PAUSED, True)
