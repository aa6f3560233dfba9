"""Small promises of the lifecycle that no story needs, and that a person would miss."""

from dataclasses import fields, replace
from datetime import timedelta

import numpy as np
import pytest

from rollout.analysis.verdict import Reason
from rollout.lifecycle import Phase, eta, sentences
from rollout.lifecycle.forecast import LEAST, MOST, outcomes_of, rollouts_within
from rollout.lifecycle.rehearsal import Outcomes
from rollout.lifecycle.splits import speaks_about_writes, unconfirmed, with_write
from rollout.world import Severity
from tests.support.lives import (
    FAIL,
    MINUTE,
    Life,
    at,
    at_step,
    awaiting_approval,
    deployment,
    finding,
    policy,
    started,
    verdict,
)

P = Phase
KNOWN = {"ended", "minutes", "harm", "retreats"}


# --- pauses --------------------------------------------------------------------------------------------------------


def test_a_second_reason_to_pause_does_not_forget_where_to_go_on() -> None:
    life = at(P.RETREATED)
    life.ask("pause")
    life.moved_by_hand(blue=60, green=40)
    assert (life.phase, life.rollout.paused_because, life.rollout.resume_phase) == (P.PAUSED, "drift", P.RETREATED)
    life.ask("resume", drift="restore")
    assert (life.phase, life.rollout.paused_because, life.rollout.resume_phase) == (P.RETREATED, None, None)


def test_a_pause_for_want_of_data_offers_only_what_helps() -> None:
    life = at_step(1)
    life.tick(verdict("hold", Reason.NO_DATA))
    for _ in range(8):
        life.tick(verdict("hold", Reason.NO_DATA), seconds=600)
    assert life.phase is P.PAUSED
    assert life.last.sentence == (
        "Paused after 45 min without an answer. The judge says hold (no data). `rollout resume restaurant-recommender` waits "
        "as long again; `rollout abort restaurant-recommender --reason …` puts all traffic back on blue."
    )


def test_a_change_in_place_says_what_resuming_does() -> None:
    life = at_step(1)
    life.deployments = {"blue": deployment("blue"), "green": deployment("green", model="recommender:3")}
    life.tick()
    assert "`rollout resume restaurant-recommender` judges afresh from here; `rollout abort" in life.last.sentence
    assert life.rollout.paused_because == "changed"
    life.ask("resume")
    assert life.rollout.paused_because is None


# --- endings -------------------------------------------------------------------------------------------------------


def test_an_end_before_any_traffic_moved_keeps_its_cause_and_only_notes_it() -> None:
    life = Life(policy=policy(approve={0: {"timeout": "4h"}}))
    life.tick()
    assert life.rollout.awaits_approval
    life.ask("abort", reason="not today")
    assert (life.phase, life.last.severity) == (P.ABORTED, Severity.NOTICE)
    assert life.rollout.cause == "aborted by ana: not today"
    preparing = at(P.PREPARING)
    preparing.ask("abort", reason="not today")
    assert (preparing.phase, preparing.last.severity) == (P.ABORTED, Severity.NOTICE)
    assert preparing.last.sentence == "Aborted by ana: not today, before any traffic moved."


def test_all_deployments_that_stand_in_the_way_are_named() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=50, green=20, red=20, teal=10)
    told = life.ask_in_vain("abort", reason="back")
    assert told.startswith("red and teal of restaurant-recommender also has traffic")


def test_a_roll_back_is_sent_when_azure_first_took_it() -> None:
    life = at_step(1)
    life.tick(FAIL, answer="conflict")
    assert (life.phase, life.rollout.sent_at) == (P.ROLLING_BACK, None)
    life.tick(seconds=3)
    sent = life.now
    assert life.rollout.sent_at == sent
    life.slow = True
    life.tick(seconds=120)
    assert life.rollout.sent_at == sent
    assert sentences.explained(life.rollout, life.now)["sent_at"] == sent.isoformat()
    assert at_step(1).rollout.sent_at is None  # of other writes nobody asks


def test_going_on_past_a_fail_says_why_it_wants_a_reason() -> None:
    life = at_step(1, policy(when={"regression": "pause"}))
    life.tick(FAIL)
    told = life.ask_in_vain("promote")
    assert told.startswith("`promote` needs a reason, because the candidate has failed: add --reason '…'")


# --- steps ---------------------------------------------------------------------------------------------------------


def test_people_hear_of_the_first_step_and_read_of_the_others() -> None:
    begun = at_step(2).told("progressing")
    assert [event.severity for event in begun] == [Severity.NOTICE, None, None]


def test_the_minutes_of_a_retreat_count_from_its_own_split() -> None:
    life = at_step(1)
    life.slow = True
    life.tick(verdict("retreat"))
    assert (life.phase, life.rollout.step_since) == (P.RETREATED, None)
    life.slow = False
    life.tick(seconds=40)
    assert life.rollout.step_since is not None


def test_many_that_could_be_the_candidate_are_asked_about() -> None:
    life = Life(deployments={name: deployment(name) for name in ("blue", "green", "red")})
    life.tick()
    assert life.last.sentence == (
        "Not started: green and red have no traffic: say which one is the candidate, with `candidate:` in the policy or "
        "`--candidate NAME`."
    )


# --- the split -----------------------------------------------------------------------------------------------------


def test_a_foreign_split_that_was_seen_once_is_forgotten() -> None:
    life = at_step(1)
    ours, life.traffic = life.traffic, {"blue": 60, "green": 40}
    life.tick()
    assert life.rollout.foreign is not None
    life.traffic = ours
    life.tick()
    assert (life.phase, life.rollout.foreign) == (P.PROGRESSING, None)


def test_only_a_look_after_the_last_word_speaks_about_the_split() -> None:
    life = at_step(1)
    confirmed_at = life.rollout.confirmed_at
    assert confirmed_at is not None
    for seconds, speaks in ((-1, False), (0, False), (1, True)):
        look = replace(life.snapshot(), requested_at=confirmed_at + timedelta(seconds=seconds))
        assert speaks_about_writes(life.rollout, look) is speaks
    assert speaks_about_writes(replace(life.rollout, confirmed_at=None), life.snapshot())
    assert not unconfirmed(life.rollout)
    assert life.rollout.confirmed is not None
    asked = with_write(life.rollout, life.rollout.confirmed, life.now)
    assert unconfirmed(asked)  # until a look after it shows it again
    assert not speaks_about_writes(asked, life.snapshot())


# --- what is told --------------------------------------------------------------------------------------------------


def test_what_failed_it_is_told_before_what_is_louder() -> None:
    ranked = [finding(action=action, evidence=at) for at, action in enumerate(("fail", "retreat", "hold", "pass"))]
    for count in range(4, 0, -1):
        given = verdict("fail", findings=tuple(reversed(ranked[-count:])))
        assert sentences.worst(given) == ranked[-count]
    louder = finding(action="hold", evidence=50.0)
    assert sentences.worst(verdict("hold", findings=(ranked[2], louder))) == louder
    assert sentences.worst(verdict("hold")) is None
    assert sentences.worst(None) is None


def test_a_command_by_hand_names_the_place_or_leaves_it_open() -> None:
    rollout = at_step(1).rollout
    assert sentences.by_hand(rollout) == (
        "az ml online-endpoint update --name restaurant-recommender --resource-group rg-food --workspace-name mlw-food "
        '--traffic "blue=100 green=0"'
    )
    for unknown in (None, "/subscriptions/s"):
        told = sentences.by_hand(replace(rollout, resource_id=unknown))
        assert "--resource-group … --workspace-name … --traffic" in told


def test_nobody_is_asked_to_delete_a_stable_that_goes_by_itself() -> None:
    for then, told in (("keep", "Nothing to do. Delete the old stable"), ("delete", "Nothing to do.")):
        life = Life(policy=policy(after={"then": then}))
        ended = replace(life.rollout, phase=Phase.SUCCEEDED)
        assert str(sentences.explained(ended, life.now)["next"]).startswith(told)
    assert sentences.explained(ended, life.now)["next"] == "Nothing to do."


def test_the_long_form_of_an_alert_tells_where_the_traffic_is_going() -> None:
    life = at_step(1)
    life.slow = True
    life.tick(FAIL)
    told = sentences.explained(life.rollout, life.now)
    assert told["now"] == "restaurant-recommender: blue 75 % + green 25 %, on its way to blue 100 %"
    assert (told["was_share"], told["cause"], told["harmed"]) == (25, FAIL.sentence, 111.2)
    assert told["decided_at"] == life.rollout.decided_at.isoformat()  # type: ignore[union-attr]
    assert "confirmed_at" not in told
    assert [one["check"] for one in told["findings"]] == ["error_rate"]  # type: ignore[attr-defined]
    calm = sentences.explained(started().rollout, life.now)
    assert "now" not in sentences.explained(Life().rollout, life.now)  # nothing was seen of its traffic yet
    assert not {"was_share", "cause", "findings", "first_bad_at", "harmed", "sent_at", "runbook"} & calm.keys()


@pytest.mark.parametrize(
    ("duration", "told"),
    [
        (timedelta(), "0 min"),
        (timedelta(seconds=29), "0 min"),
        (timedelta(minutes=59), "59 min"),
        (timedelta(minutes=60), "1 h"),
        (timedelta(minutes=61), "61 min"),
        (timedelta(hours=48), "48 h"),
    ],
)
def test_durations_are_told_in_hours_where_they_are_whole(duration: timedelta, told: str) -> None:
    assert sentences.minutes(duration) == told


# --- when ----------------------------------------------------------------------------------------------------------


def test_a_step_is_expected_after_its_bake_and_the_data_s_lag_and_never_in_the_past() -> None:
    life, lag = at_step(1), 4 * MINUTE
    since = life.rollout.step_since
    assert since is not None
    assert eta(life.rollout, now=life.now, lag=lag).next_decision_at == since + 15 * MINUTE
    late = since + 60 * MINUTE
    assert eta(life.rollout, now=late, lag=lag).next_decision_at == late
    unconfirmed = replace(life.rollout, step_since=None)
    due = eta(unconfirmed, now=life.now, lag=lag).next_decision_at
    assert due == life.now + timedelta(seconds=40) + 15 * MINUTE
    assert eta(awaiting_approval().rollout, now=life.now, lag=lag).next_decision_at is None


# --- forecasts -----------------------------------------------------------------------------------------------------


def test_longer_rollouts_are_played_less_often_within_bounds() -> None:
    short, long = policy(10, 100, bake=10), policy(10, 100, bake=100)
    assert rollouts_within(short, 24_000, kinds=2) == 24_000 / (1.5 * 20 + 30) / 2
    assert rollouts_within(long, 132_000, kinds=4) == 132_000 / (1.5 * 200 + 30) / 4
    assert rollouts_within(short, 1, kinds=2) == LEAST
    assert rollouts_within(short, 10**12, kinds=2) == MOST


def test_a_part_of_the_outcomes_holds_the_same_rollouts_of_each_number() -> None:
    whole = Outcomes(
        ended=np.array([0, 1, 2]),
        minutes=np.array([10.0, 20.0, 30.0]),
        harm=np.array([1.0, 2.0, 3.0]),
        retreats=np.array([0, 1, 0]),
        **{name: np.array([4, 5, 6]) for name in {one.name for one in fields(Outcomes)} - KNOWN},
    )
    part = outcomes_of(whole, np.array([True, False, True]))
    assert {name: list(found) for name, found in vars(part).items()} == {
        name: [found[0], found[2]] for name, found in vars(whole).items()
    }
