"""Guarding: stable is kept after the promotion, and takes the traffic back if the candidate fails."""

from dataclasses import replace
from datetime import timedelta

import pytest

from rollout.analysis.verdict import Reason
from rollout.lifecycle import Phase, eta
from rollout.lifecycle.explain import explain
from rollout.lifecycle.lessons import lessons_of
from rollout.policy import When
from rollout.web.views import outcome
from rollout.world import Severity
from tests.support.lives import FAIL, Life, at_step, deployment, guarding, policy, verdict

P = Phase
CALM = verdict("hold", Reason.BAKE)
BLIND = verdict("hold", Reason.NO_DATA)


def test_after_keep_alone_ends_with_the_promotion() -> None:
    life = at_step(1, policy(after="keep"))
    life.ask("promote", full=True, reason="tested by hand")
    life.tick(seconds=40)
    assert life.phase is P.SUCCEEDED


def test_it_is_told_until_when_and_ends_by_itself() -> None:
    life = guarding()
    assert life.phase is P.GUARDING
    assert "blue is kept until Sun 0" in life.last.sentence
    assert life.last.sentence.endswith(" UTC, and takes the traffic back if green fails.")
    assert outcome(life.rollout) == "promoted"
    assert eta(life.rollout, now=life.now, lag=timedelta()).done_at == life.rollout.guarded_until
    life.tick(CALM, seconds=3600)
    assert life.phase is P.GUARDING
    life.tick(CALM, seconds=3600)
    assert life.phase is P.SUCCEEDED
    assert life.last.sentence == (
        "Guarded for 2 h: restaurant-recommender stays on green 100 %; blue is kept without traffic."
    )
    assert life.writes[-1].as_traffic() == {"green": 100}


def test_its_time_does_not_count_towards_the_deadline() -> None:
    life = guarding(deadline="1h")
    active = life.rollout.active
    for _ in range(3):
        life.tick(CALM, seconds=1800)
    assert (life.phase, life.rollout.active, life.rollout.active_since) == (P.GUARDING, active, None)


def test_a_fail_rolls_back_and_says_why() -> None:
    life = guarding()
    told = replace(FAIL, sentence="The candidate failed: errors 9.0 % (90 of 1 000) in the last 10 min.")
    life.tick(told)
    assert life.phase is P.ROLLING_BACK
    life.tick(seconds=40)
    assert (life.phase, life.traffic) == (P.ROLLED_BACK, {"blue": 100})
    assert lessons_of(life.rollout) == {}


@pytest.mark.parametrize("answer", ["pause", "alert"])
def test_where_the_policy_asks_people_nothing_moves_and_it_does_not_end_by_itself(answer: str) -> None:
    life = guarding(when=When(regression=answer))
    life.tick(FAIL)
    assert (life.phase, life.last.severity) == (P.GUARDING, Severity.PAGE)
    assert "Act now: " in life.last.sentence
    life.tick(FAIL)
    assert len(life.told("failed")) == 1
    life.tick(CALM, seconds=8000)
    life.tick(CALM)
    assert (life.phase, len(life.told("not_over"))) == (P.GUARDING, 1)
    assert "needs a reason, because the candidate has failed" in life.ask_in_vain("promote")
    life.ask("promote", reason="it was the database")
    assert life.phase is P.SUCCEEDED


def test_promote_never_ends_it_at_the_moment_of_a_fail() -> None:
    """The old stable would be given up just when it is needed."""
    life = guarding()
    assert "The candidate has just failed: " in life.ask_in_vain(
        "promote", FAIL, reason="a new one waits", origin="trigger"
    )
    assert life.phase is P.ROLLING_BACK


def test_promote_ends_it_and_abort_goes_back() -> None:
    life = guarding()
    assert life.ask("promote").startswith("Guarding was ended by ana: restaurant-recommender stays on green 100 %")
    life = guarding()
    life.ask("abort", reason="the menu is wrong")
    life.tick(seconds=40)
    assert (life.phase, life.traffic) == (P.ABORTED, {"blue": 100})


@pytest.mark.parametrize(("traffic", "phase"), [({"blue": 40, "green": 60}, P.SUCCEEDED), ({"blue": 100}, P.ABORTED)])
def test_a_persons_traffic_ends_it_and_stays(traffic: dict[str, int], phase: Phase) -> None:
    life = guarding()
    life.moved_by_hand(**traffic)
    assert (life.phase, life.traffic) == (phase, traffic)
    assert "by bob@example.com" in life.last.sentence
    assert life.writes[-1].as_traffic() == {"green": 100}


def changed(life: Life, name: str) -> None:
    assert life.deployments is not None
    life.deployments[name] = deployment(name, model="recommender:9")
    life.tick(CALM)


def test_a_deployment_that_a_person_changes_or_deletes_ends_it() -> None:
    for name in ("blue", "green"):
        life = guarding()
        changed(life, name)
        assert life.phase is P.SUCCEEDED
        assert f"deployment {name} was changed in place (model)" in life.last.sentence
    life = guarding()
    assert life.deployments is not None
    del life.deployments["blue"]
    life.tick(CALM)
    assert (life.phase, life.last.severity) == (P.SUCCEEDED, Severity.ACTION)
    assert "its old stable deployment blue does not exist any more" in life.last.sentence


def test_scaling_is_no_change() -> None:
    life = guarding()
    assert life.deployments is not None
    life.deployments["blue"] = deployment("blue", instances=1, modified_at="2026-11-22")
    life.tick(CALM)
    assert life.phase is P.GUARDING


def test_a_candidate_that_azure_gave_up_goes_back() -> None:
    life = guarding()
    assert life.deployments is not None
    life.deployments["green"] = deployment("green", "Failed", model="recommender:2")
    life.tick(CALM)
    assert life.phase is P.ROLLING_BACK
    assert "green is Failed" in life.told("rolling_back")[0].sentence


def test_blindness_is_told_once_it_lasts_and_when_it_is_over() -> None:
    life = guarding()
    for _ in range(4):
        life.tick(BLIND, seconds=1200)
    assert len(life.told("unseen")) == 1
    assert "blue does not take the traffic back by itself" in life.told("unseen")[0].sentence
    life.tick(CALM)
    life.tick(CALM)
    assert len(life.told("seen_again")) == 1
    life.tick(BLIND)
    life.tick(BLIND, seconds=3600)
    assert life.phase is P.SUCCEEDED
    assert life.last.sentence.endswith(BLIND.sentence)


def test_an_incident_of_both_is_told_and_moves_nothing() -> None:
    life = guarding()
    shared = verdict("hold", Reason.SHARED_INCIDENT)
    for _ in range(3):
        life.tick(shared)
    assert (life.phase, len(life.told("shared_incident"))) == (P.GUARDING, 1)


def test_explain_tells_what_was_seen_while_guarding() -> None:
    life = guarding()
    told = replace(FAIL, sentence="The candidate failed: errors 9.0 % (90 of 1 000) in the last 10 min.")
    life.tick(told)
    life.tick(seconds=40)
    found = explain(life.rollout, (), life.events)
    assert (found.at, found.verdict.sentence, found.stage) == (life.rollout.decided_at, told.sentence, None)
