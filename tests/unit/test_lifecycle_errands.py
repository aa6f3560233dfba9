"""Errands: what is asked of Azure beside the split, from the intent to what became of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from rollout.lifecycle import Decision, Facts, new_rollout
from rollout.lifecycle.errands import (
    due_errands,
    errand_answered,
    lost_answers,
    operations_over,
    said_no,
    under_way,
    with_intents,
)
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.story import Story
from rollout.world import DeleteDeployment, Scale
from tests.support.lives import REF, T0, policy

UP, DOWN = Scale(deployment="green", instances=3), Scale(deployment="green", instances=1)


def rollout(**changes: object) -> Rollout:
    made, _ = new_rollout(rollout_id="r1", ref=REF, policy=policy(**changes), candidate=None, by="ana", now=T0)  # type: ignore[arg-type]
    return made


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_an_errand_is_sent_once_while_azure_is_at_it() -> None:
    begun = with_intents(rollout(), due_errands(rollout(), [UP], T0), T0)
    assert [each.errand for each in begun.errands] == [UP]
    assert due_errands(begun, [UP], T0) == ()
    running = errand_answered(begun, UP, outcome="accepted", now=T0, operation="op")
    assert under_way(running)
    assert due_errands(running, [UP, DOWN], T0 + after(600)) == ()  # and no other on the same deployment


@pytest.mark.parametrize(("outcome", "seconds"), [("conflict", 15), ("unknown", 15), ("done", 60), ("refused", 300)])
def test_it_is_asked_again_after_its_time(outcome: str, seconds: int) -> None:
    begun = with_intents(rollout(), [UP], T0)
    answered = errand_answered(begun, UP, outcome=outcome, now=T0)  # type: ignore[arg-type]
    assert due_errands(answered, [UP], T0 + after(seconds - 1)) == ()
    assert due_errands(answered, [UP], T0 + after(seconds)) == (UP,)
    assert due_errands(answered, [], T0 + after(seconds)) == ()  # nobody wants it any more


def test_azures_wish_to_be_left_alone_is_honoured() -> None:
    begun = with_intents(rollout(), [UP], T0)
    answered = errand_answered(begun, UP, outcome="unknown", now=T0, not_before=T0 + after(40))
    assert due_errands(answered, [UP], T0 + after(39)) == ()
    assert due_errands(answered, [UP], T0 + after(40)) == (UP,)


def test_another_wish_for_the_same_deployment_replaces_the_one_that_is_over() -> None:
    done = errand_answered(with_intents(rollout(), [UP], T0), UP, outcome="done", now=T0)
    assert due_errands(done, [DOWN], T0) == (DOWN,)
    assert [each.errand for each in with_intents(done, [DOWN], T0).errands] == [DOWN]


def test_a_process_that_is_gone_leaves_an_unknown_outcome() -> None:
    lost = lost_answers(with_intents(rollout(), [UP], T0), T0 + after(30))
    assert lost.errands[0].outcome == "unknown"
    assert due_errands(lost, [UP], T0 + after(45)) == (UP,)


def test_the_end_of_an_operation_is_taken_in_with_its_reason() -> None:
    running = errand_answered(with_intents(rollout(), [UP], T0), UP, outcome="accepted", now=T0, operation="op")
    story = Story(running, T0 + after(60))
    operations_over(story, Facts())
    assert story.rollout == running
    operations_over(story, Facts(operations={"op": "OutOfCapacity: none left."}))
    assert said_no(story.rollout, UP) == "OutOfCapacity: none left."
    assert not under_way(story.rollout)
    assert said_no(story.rollout, DOWN) is None


def test_an_operation_of_which_nothing_is_heard_is_given_up() -> None:
    running = errand_answered(with_intents(rollout(), [UP], T0), UP, outcome="accepted", now=T0, operation="op")
    story = Story(running, T0 + after(3600))
    operations_over(story, Facts())
    assert story.rollout.errands[0].outcome == "done"


def test_a_rollout_that_only_observes_has_no_errands() -> None:
    with pytest.raises(AssertionError, match="writes nothing"):
        Decision(rollout=rollout(mode="observe"), errands=(DeleteDeployment(deployment="blue"),))
    assert Decision(rollout=replace(rollout(), stable="blue"), errands=(UP,)).errands == (UP,)
