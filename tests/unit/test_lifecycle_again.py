"""Undo and retry: rollouts that are made from an endpoint's last one."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rollout.errors import ConflictError
from rollout.lifecycle import Phase, Rollout, eta
from rollout.lifecycle.again import retry_of, superseded, taking_over, undo_of
from rollout.lifecycle.errands import errand_answered, with_intents
from rollout.lifecycle.rollout import Original
from rollout.web.views import outcome, rollout_view
from rollout.world import DeleteDeployment, Errand, Scale, Unreadable
from tests.support.lives import Life, at, at_step, deployment, guarding, observing, policy, started, verdict

P = Phase


def undone(before: Life, *, past: tuple[Rollout, ...] = (), **changes: Any) -> Life:
    """An undo of what this life has promoted, in the world as it left it."""
    life = Life(policy=before.policy, now=before.now, traffic=dict(before.traffic), deployments=before.deployments)
    life.rollout, events = undo_of(
        (before.rollout, *past), rollout_id="r1", by="ana", reason=changes.get("reason"), now=life.now
    )
    life.events = [*events]
    return life


def retried(before: Life, *, from_step: int = 1, reason: str | None = None) -> Life:
    life = Life(policy=before.policy, now=before.now, traffic=dict(before.traffic), deployments=before.deployments)
    life.rollout, events = retry_of(
        before.rollout, rollout_id="r1", by="ana", reason=reason, from_step=from_step, now=life.now
    )
    life.events = [*events]
    return life


# --- undo


@pytest.mark.parametrize("make", [lambda: at(P.SUCCEEDED), guarding], ids=["promoted", "guarding"])
def test_all_traffic_goes_back_at_once_and_nothing_is_judged(make: Callable[[], Life]) -> None:
    life = undone(make(), reason="the menu is wrong")
    assert life.last.sentence == (
        "ana asked to undo the promotion of green (the menu is wrong): all traffic of restaurant-recommender goes back to "
        "blue. Azure takes about 40 s from when blue can serve; nothing is judged."
    )
    life.facts |= {"fresh_at": None, "read_at": None}
    life.tick(seconds=1)
    assert [split.as_traffic() for split in life.writes] == [{"blue": 100}]
    assert life.last.sentence == "Going back to blue 100 %: undone by ana: the menu is wrong. Nothing is judged."
    life.tick(seconds=30)
    assert (life.phase, life.traffic) == (P.ROLLED_BACK, {"blue": 100})
    assert life.last.sentence.startswith("Undone: restaurant-recommender back on blue 100 % since ")
    assert "(was 100 % green), 32 s after it was asked for; undone by ana: the menu is wrong." in life.last.sentence
    assert outcome(life.rollout) == "undone"


def test_it_says_when_it_is_done_and_what_it_is_made_from() -> None:
    before = at(P.SUCCEEDED)
    life = undone(before)
    due = eta(life.rollout, now=life.now, lag=timedelta(minutes=5))
    assert due.done_at == life.now + timedelta(seconds=40)
    view = rollout_view(life.rollout, snapshot=None, eta=due, now=life.now)
    assert (view["kind"], view["made_from"]) == ("undo", before.rollout.id)


def test_a_split_of_the_two_is_undone_too() -> None:
    before = at(P.SUCCEEDED)
    before.traffic = {"blue": 30, "green": 70}
    life = undone(before)
    life.tick()
    life.tick(seconds=30)
    assert (life.phase, life.rollout.was_share, life.traffic) == (P.ROLLED_BACK, 70, {"blue": 100})


def refused_undo(change: Callable[[Life], object]) -> Life:
    life = undone(at(P.SUCCEEDED))
    change(life)
    life.tick()
    assert (life.phase, life.writes) == (P.ABORTED, [])
    assert outcome(life.rollout) == "not_started"
    return life


def without_blue(life: Life) -> None:
    life.deployments = {"green": deployment("green")}


def broken_blue(life: Life) -> None:
    life.deployments = {"blue": deployment("blue", "Failed"), "green": deployment("green")}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_blue, "blue does not exist any more, so there is nothing to go back to"),
        (broken_blue, "blue is Failed, so there is nothing to go back to"),
        (lambda life: life.traffic.update(green=90, purple=10), "purple of restaurant-recommender also has traffic"),
        (
            lambda life: setattr(life, "traffic", {"blue": 100}),
            "green has no traffic: restaurant-recommender is on blue",
        ),
        (lambda life: setattr(life, "gone", True), "endpoint restaurant-recommender does not exist any more"),
        (lambda life: life.facts.update(stable_serves=False), "most of the last answers of blue were errors"),
    ],
)
def test_where_there_is_nothing_to_go_back_to_it_says_so(change: Callable[[Life], object], told: str) -> None:
    life = refused_undo(change)
    assert life.last.sentence.startswith("Not undone: ")
    assert told in life.last.sentence


def test_a_stable_that_was_scaled_down_is_scaled_up_first() -> None:
    life = undone(at(P.SUCCEEDED))
    assert life.deployments is not None
    life.deployments["blue"] = deployment("blue", instances=1)
    asked = life.tick()
    assert (asked.errands, asked.write) == ((Scale(deployment="blue", instances=2),), None)
    assert "blue is scaled up first, from 1 to the 2 instances" in life.last.sentence
    life.deployments["blue"] = deployment("blue", "Updating", instances=2)
    life.tick()
    assert (life.phase, life.writes) == (P.PREPARING, [])
    life.deployments["blue"] = deployment("blue", instances=2)
    life.tick()
    life.tick(seconds=30)
    assert (life.phase, life.traffic) == (P.ROLLED_BACK, {"blue": 100})


@pytest.mark.parametrize(
    "errand", [Scale(deployment="blue", instances=1, idle=True), DeleteDeployment(deployment="blue")]
)
def test_a_stable_that_is_being_given_up_gets_no_traffic_whatever_a_look_shows(errand: Errand) -> None:
    before = at(P.SUCCEEDED)
    before.rollout = with_intents(before.rollout, [errand], before.now)
    before.rollout = errand_answered(before.rollout, errand, outcome="accepted", now=before.now, operation="op")
    life = undone(before)
    life.tick()  # the look lags behind: blue is as it was
    assert (life.phase, life.writes) == (P.PREPARING, [])
    assert life.last.sentence == "Not undone yet: blue was just being given up, and Azure is not done with that."
    life.facts["operations"] = {"op": None}
    life.deployments = {"blue": deployment("blue", instances=1), "green": deployment("green")}
    assert (life.tick().errands, life.writes) == ((Scale(deployment="blue", instances=2),), [])


def test_an_undo_goes_on_with_what_was_asked_of_azure_since_it_was_made() -> None:
    before = at(P.SUCCEEDED)
    undo = undone(before).rollout
    errand = DeleteDeployment(deployment="blue")
    meanwhile = with_intents(before.rollout, [errand], before.now)
    assert [each.errand for each in taking_over(undo, meanwhile).errands] == [errand]
    again = retried(at(P.ROLLED_BACK)).rollout
    assert taking_over(again, meanwhile) == again


def test_one_that_cannot_be_scaled_up_is_told_with_azures_words() -> None:
    life = undone(at(P.SUCCEEDED))
    assert life.deployments is not None
    life.deployments["blue"] = deployment("blue", instances=1)
    life.tick()
    life.facts["operations"] = {"scale:blue": "Not enough quota."}
    life.tick()
    assert life.phase is P.ABORTED
    assert (
        "has 1 of the 2 instances that it served all traffic with, and could not be scaled up: Not enough quota;"
        in (life.last.sentence)
    )


def test_what_azure_cannot_tell_is_awaited_for_an_hour() -> None:
    life = undone(at(P.SUCCEEDED))
    known = life.deployments
    life.deployments = {"blue": Unreadable(name="blue", why="no model")}
    life.tick()
    assert life.last.sentence == "Not undone yet: Azure's description of blue cannot be used (no model)."
    life.tick(seconds=3600)
    assert life.phase is P.ABORTED
    life = undone(at(P.SUCCEEDED))
    life.tick(blind=True)
    assert life.phase is P.PREPARING
    life.deployments = known
    life.tick()
    assert life.phase is P.ROLLING_BACK


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: at(P.PROGRESSING), "is under way (progressing): `rollout abort restaurant-recommender --reason …`"),
        (lambda: at(P.ROLLED_BACK), "its last rollout did not end with a promotion. Rolled back"),
        (lambda: at(P.ABORTED), "its last rollout did not end with a promotion."),
        (lambda: at(P.OBSERVED), "its last rollout did not end with a promotion."),
    ],
)
def test_only_a_promotion_can_be_undone(make: Callable[[], Life], told: str) -> None:
    with pytest.raises(ConflictError, match=re.escape(told)):
        undone(make())


def test_one_that_never_started_leaves_the_promotion_before_it() -> None:
    promoted = at(P.SUCCEEDED)
    in_vain = Life()
    in_vain.ask("abort", reason="not today")
    life = undone(in_vain, past=(promoted.rollout,))
    assert (life.rollout.stable, life.rollout.candidate) == ("blue", "green")


def test_it_is_not_undone_twice() -> None:
    first = undone(at(P.SUCCEEDED))
    first.tick()
    first.tick(seconds=30)
    with pytest.raises(ConflictError, match="nothing to undo"):
        undone(first)


def test_guarding_ends_with_what_comes_after_it() -> None:
    life = guarding()
    ended, (event,) = told(superseded(life.rollout, undone(life).rollout))
    assert (ended.phase, event.kind) == (P.SUCCEEDED, "succeeded")
    assert event.sentence == "Guarding has ended: ana undid the promotion of restaurant-recommender."
    _, (other,) = told(superseded(life.rollout, Life().rollout))
    assert "asked for another rollout" in other.sentence
    assert superseded(started().rollout, Life().rollout) is None
    assert superseded(replace(life.rollout, fail_stands=True), Life().rollout) is None


def told(found: Any) -> Any:
    assert found is not None
    return found


def test_an_undo_takes_over_what_there_is_to_put_back() -> None:
    life = guarding()
    owed = (Original(deployment="green", instances=1),)
    life.rollout = replace(life.rollout, originals=owed)
    assert superseded(life.rollout, Life().rollout) is None
    undo = undone(life).rollout
    ended, _ = told(superseded(life.rollout, undo))
    assert (undo.originals, ended.originals, ended.owes) == (owed, (), False)
    settling = replace(ended, originals=owed, retire="delete")
    left, events = told(superseded(settling, undo))
    assert (left.owes, left.sentence, events) == (False, ended.sentence, ())


# --- retry


@pytest.mark.parametrize("phase", [P.ROLLED_BACK, P.ABORTED, P.HALTED])
def test_a_retry_is_a_rollout_of_its_own_with_fresh_evidence(phase: Phase) -> None:
    before = at(phase)
    before.traffic = {"blue": 100}
    life = retried(before, reason="the cache is warm now")
    assert (
        life.last.sentence
    ) == "ana asked to retry the rollout of restaurant-recommender with policy recommender (the cache is warm now)."
    life.tick()
    life.tick(seconds=40)
    assert (life.phase, life.rollout.step, life.traffic) == (P.PROGRESSING, 0, {"blue": 95, "green": 5})
    assert (life.rollout.judgement, life.rollout.past_fail) == (None, 0)
    assert life.rollout.policy == before.rollout.policy
    assert life.rollout.retry is not None
    assert (
        rollout_view(life.rollout, snapshot=None, eta=eta(life.rollout, now=life.now, lag=timedelta()), now=life.now)[
            "kind"
        ]
        == "retry"
    )


def test_it_begins_with_the_step_asked_for() -> None:
    life = retried(at(P.ROLLED_BACK), from_step=2, reason="5 % was fine")
    life.tick()
    life.tick(seconds=40)
    assert (life.rollout.step, life.traffic) == (1, {"blue": 75, "green": 25})
    with pytest.raises(ConflictError, match="There is no step 4: the policy recommender has 3"):
        retried(at(P.ROLLED_BACK), from_step=4, reason="why not")


def approved_life(*, approve: bool) -> Life:
    life = at_step(0, policy(approve={1: {"timeout": "4h"}}))
    life.tick(verdict("pass"))
    if approve:
        life.ask("approve")
        life.tick(seconds=40)
    life.ask("abort", reason="no")
    life.tick(seconds=40)
    assert life.phase is P.ABORTED
    return life


def test_never_past_an_approval_that_was_not_given() -> None:
    with pytest.raises(
        ConflictError, match="Step 2 waits for an approval that was not given: retry from step 2 or before"
    ):
        retried(approved_life(approve=False), from_step=3, reason="hurry")
    waits = retried(approved_life(approve=False), from_step=2, reason="hurry")
    waits.tick()
    assert (waits.phase, waits.traffic, waits.rollout.awaits_approval) == (P.WAITING, {"blue": 100}, True)
    given = retried(approved_life(approve=True), from_step=3, reason="hurry")
    given.tick()
    given.tick(seconds=40)
    assert given.rollout.step == 2
    again = retried(approved_life(approve=True), from_step=2, reason="hurry")
    again.tick()
    assert again.phase is P.WAITING  # it was given for another rollout's evidence


def test_a_pair_that_is_gone_or_has_changed_roles_is_refused() -> None:
    before = at(P.ROLLED_BACK)
    before.traffic = {"green": 100}
    life = retried(before)
    life.tick()
    assert life.phase is P.ABORTED
    assert "names blue as stable, but green holds all traffic" in life.last.sentence
    gone = retried(at(P.ROLLED_BACK))
    gone.deployments = {"blue": deployment("blue")}
    gone.tick()
    assert gone.last.sentence == "Not started: deployment green does not exist; its endpoint has blue."


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (started, "is under way (progressing)"),
        (guarding, "is under way (guarding)"),
        (lambda: at(P.SUCCEEDED), "was promoted"),
        (lambda: at(P.OBSERVED), "only observed"),
        (observing, "only observed"),
    ],
)
def test_what_was_promoted_or_still_runs_is_not_retried(make: Callable[[], Life], told: str) -> None:
    with pytest.raises(ConflictError, match=re.escape(told)):
        retried(make())


def test_an_undone_rollout_can_be_retried() -> None:
    life = undone(at(P.SUCCEEDED))
    life.tick()
    life.tick(seconds=30)
    again = retried(life)
    assert (again.rollout.undo, again.rollout.policy) == (None, life.policy)
    again.tick()
    again.tick(seconds=40)
    assert again.traffic == {"blue": 95, "green": 5}


def test_old_rollouts_know_no_instances_and_are_undone_as_they_are() -> None:
    before = at(P.SUCCEEDED)
    before.rollout = replace(before.rollout, stable_instances=None)
    life = undone(before)
    assert life.deployments is not None
    life.deployments["blue"] = deployment("blue", instances=1)
    life.tick()
    assert life.phase is P.ROLLING_BACK
