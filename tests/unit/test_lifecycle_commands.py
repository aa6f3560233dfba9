"""What people ask: every command in every phase is carried out or refused, and a refused one changes nothing."""

from datetime import timedelta

import pytest

from rollout.analysis.verdict import Reason
from rollout.lifecycle import Phase
from rollout.policy import When
from rollout.world import Severity, Split
from tests.support.lives import FAIL, at, at_step, awaiting_approval, command, policy, started, verdict

P = Phase
COMMANDS: dict[str, dict[str, object]] = {
    "approve": {},
    "reject": {},
    "promote": {},
    "promote --full": {"full": True, "reason": "tested by hand"},
    "pause": {},
    "resume": {},
    "resume --adopt": {"drift": "adopt"},
    "resume --restore": {"drift": "restore"},
    "abort": {"reason": "not today"},
}
#: Where an accepted command leads; what is not here is refused. A pending rollout is prepared, and so starts, in the tick
#: that reads its first command.
ACCEPTED: dict[tuple[Phase, str], Phase] = {
    (P.PENDING, "abort"): P.ABORTED,
    (P.PREPARING, "abort"): P.ABORTED,
    (P.PROGRESSING, "promote"): P.PROGRESSING,
    (P.PROGRESSING, "promote --full"): P.PROMOTING,
    (P.PROGRESSING, "pause"): P.PAUSED,
    (P.PROGRESSING, "abort"): P.ROLLING_BACK,
    (P.RETREATED, "promote --full"): P.PROMOTING,
    (P.RETREATED, "pause"): P.PAUSED,
    (P.RETREATED, "abort"): P.ROLLING_BACK,
    (P.WAITING, "approve"): P.PROGRESSING,
    (P.WAITING, "reject"): P.ROLLING_BACK,
    (P.WAITING, "promote"): P.PROGRESSING,
    (P.WAITING, "promote --full"): P.PROMOTING,
    (P.WAITING, "pause"): P.PAUSED,
    (P.WAITING, "abort"): P.ROLLING_BACK,
    (P.PAUSED, "promote"): P.PROGRESSING,
    (P.PAUSED, "promote --full"): P.PROMOTING,
    (P.PAUSED, "resume"): P.PROGRESSING,
    (P.PAUSED, "resume --adopt"): P.PROGRESSING,  # there is nothing to adopt or restore
    (P.PAUSED, "resume --restore"): P.PROGRESSING,
    (P.PAUSED, "abort"): P.ROLLING_BACK,
    (P.PROMOTING, "pause"): P.PAUSED,
    (P.PROMOTING, "abort"): P.ROLLING_BACK,
    (P.GUARDING, "promote"): P.SUCCEEDED,  # guarded long enough
    (P.GUARDING, "promote --full"): P.SUCCEEDED,
    (P.GUARDING, "abort"): P.ROLLING_BACK,
    (P.OBSERVING, "abort"): P.OBSERVED,
}


@pytest.mark.parametrize("typed", COMMANDS)
@pytest.mark.parametrize("phase", list(Phase))
def test_every_command_in_every_phase(phase: Phase, typed: str) -> None:
    life = at(phase)
    life.slow = True  # what is on its way stays so
    if phase is P.PENDING:
        life.facts["fresh_at"] = None
    before = life.rollout
    asked = command(typed.split(maxsplit=1)[0], **COMMANDS[typed])  # type: ignore[arg-type]
    assert asked.described() == typed
    life.tick(None, asked, seconds=2)
    accepted, sentence = life.answers[-1]
    after = ACCEPTED.get((phase, typed))
    assert accepted is (after is not None), sentence
    assert sentence.endswith((".", "`.", '"')), sentence
    assert "None" not in sentence
    if after is not None:
        assert life.phase is after
        assert sentence == life.rollout.sentence
    elif phase is not P.PENDING:
        assert life.rollout == before, "a refused command changes nothing"
        assert life.rollout.sentence in sentence or "needs a reason" in sentence


def test_two_commands_in_one_tick_are_taken_in_their_order() -> None:
    life = at_step(1)
    life.tick(None, command("pause"), command("resume"), command("resume"))
    assert [accepted for accepted, _ in life.answers] == [True, True, False]
    assert life.phase is P.PROGRESSING


@pytest.mark.parametrize(
    ("verb", "words", "why"),
    [
        (
            "abort",
            {},
            "`abort` needs a reason, because it ends the rollout: add --reason '…'; it is kept in the history.",
        ),
        ("promote", {"full": True}, "`promote --full` needs a reason, because it skips every step that is left"),
    ],
)
def test_what_cannot_be_taken_back_needs_a_reason(verb: str, words: dict[str, bool], why: str) -> None:
    life = at_step(1)
    assert why in life.ask_in_vain(verb, **words)


def test_promoting_a_suspect_needs_a_reason() -> None:
    life = at(P.RETREATED)
    assert "because the candidate is under suspicion" in life.ask_in_vain("promote")
    life.ask("promote", reason="a known burst")
    assert (life.phase, life.rollout.step, life.rollout.share) == (P.PROGRESSING, 2, 95)


def test_promote_skips_the_verdict_of_one_step() -> None:
    life = started()
    assert life.ask("promote", reason="quiet night") == (
        "Step 1 was passed without its verdict by ana: quiet night. Step 2 of 3 began: blue 75 % + green 25 %."
    )
    life.tick(seconds=40)
    life.ask("promote")
    life.tick(seconds=40)
    assert life.ask("promote").endswith("green gets all traffic.")
    life.tick(seconds=40)
    assert life.phase is P.SUCCEEDED


def test_promote_full_skips_them_all() -> None:
    life = started()
    assert life.ask("promote", full=True, reason="hot fix") == (
        "Promoted past all remaining steps by ana: hot fix. green gets all traffic."
    )
    assert life.writes[-1] == Split.of({"green": 100})


@pytest.mark.parametrize("full", [False, True])
def test_promote_never_overrides_a_fail_of_the_same_moment(full: bool) -> None:
    life = at_step(1)
    sentence = life.ask_in_vain("promote", FAIL, full=full, reason="go")
    assert sentence.startswith("The candidate has just failed: The judge says fail (regression).")
    assert life.phase is P.ROLLING_BACK


def test_promote_past_a_held_step_needs_nothing_more() -> None:
    life = at_step(1)
    life.tick(verdict("hold", Reason.REQUESTS))
    life.ask("promote")
    assert (life.phase, life.rollout.step, life.rollout.held_reason) == (P.PROGRESSING, 2, None)


@pytest.mark.parametrize("origin", ["release", "trigger"])
@pytest.mark.parametrize("verb", ["promote", "resume"])
def test_only_a_person_goes_past_a_fail_that_stands(verb: str, origin: str) -> None:
    """One that was ordered before the fail was seen has its reason, too."""
    life = at_step(1, policy(when=When(regression="pause")))
    life.tick(FAIL)
    refused = life.ask_in_vain(verb, reason="the release goes on", origin=origin)
    assert refused.startswith("The candidate has failed, and only a person goes past that:")
    assert (life.phase, life.rollout.fail_stands) == (P.PAUSED, True)


def test_promote_full_past_a_fail_that_stands() -> None:
    life = at_step(1, policy(when=When(regression="pause")))
    life.tick(FAIL)
    life.ask("promote", FAIL, full=True, reason="worse, but needed")
    assert (life.phase, life.rollout.past_fail, life.rollout.fail_stands) == (P.PROMOTING, 1, False)
    life.tick()
    assert life.phase is P.SUCCEEDED


# --- pause and resume


def test_a_pause_leaves_the_share_and_the_resumed_step_keeps_its_minutes() -> None:
    life = at_step(1)
    since = life.rollout.step_since
    assert life.ask("pause", reason="deploying the web shop") == (
        "Paused by ana: deploying the web shop. The share stays at 25 %; a candidate that fails is still rolled back. "
        "`rollout resume restaurant-recommender` goes on."
    )
    assert life.last.severity is Severity.NOTICE
    writes = len(life.writes)
    life.tick(verdict("pass"), seconds=3600)
    life.tick(verdict("retreat"), seconds=3600)
    assert (life.phase, len(life.writes)) == (P.PAUSED, writes)
    life.ask("resume")
    assert (life.phase, life.rollout.step_since, life.rollout.share) == (P.PROGRESSING, since, 25)


def test_a_pause_before_azure_has_taken_the_split_on_is_confirmed_all_the_same() -> None:
    life = started()
    life.slow = True
    life.tick(verdict("pass"))
    life.ask("pause")
    life.slow = False
    life.tick()
    assert (life.phase, life.rollout.confirmed, life.rollout.writes) == (
        P.PAUSED,
        Split.of({"blue": 75, "green": 25}),
        (),
    )


def test_a_pause_in_a_retreat_resumes_the_retreat() -> None:
    life = at(P.RETREATED)
    retreated_at = life.rollout.retreated_at
    life.ask("pause")
    life.ask("resume")
    assert (life.phase, life.rollout.share, life.rollout.retreated_at) == (P.RETREATED, 3, retreated_at)


def test_a_pause_while_waiting_for_an_approval_waits_on_afterwards() -> None:
    life = awaiting_approval()
    life.ask("pause")
    assert life.ask("resume") == (
        "Resumed by ana. Step 2 waits for an approval: `rollout approve restaurant-recommender`."
    )
    assert life.rollout.awaits_approval


# --- approvals


def test_an_approval_begins_the_step() -> None:
    life = awaiting_approval()
    assert life.last.severity is Severity.ACTION
    assert life.last.sentence == (
        "The judge says pass (proven). Step 2 (25 %) waits for an approval until Sun 06:01 UTC: "
        "`rollout approve restaurant-recommender`, or `rollout reject restaurant-recommender`."
    )
    life.tick(verdict("hold", Reason.NO_DATA), seconds=3600)
    life.tick(verdict("pass"), seconds=60)
    assert life.phase is P.WAITING  # neither data nor passes matter while a person is asked
    assert life.ask("approve", reason="looks good.") == (
        "Approved by ana: looks good. Step 2 of 3 began: blue 75 % + green 25 %."
    )


def test_a_rejection_rolls_back() -> None:
    life = awaiting_approval()
    life.ask("reject", reason="too slow")
    life.tick()
    assert life.phase is P.ROLLED_BACK
    assert life.last.sentence.endswith("(was 5 % green). Rejected by ana: too slow.")


@pytest.mark.parametrize(("then", "after"), [("pause", P.PAUSED), ("rollback", P.ROLLING_BACK)])
def test_an_approval_that_does_not_come_has_a_default(then: str, after: Phase) -> None:
    life = awaiting_approval(timeout="4h", on_timeout=then)
    life.tick(seconds=4 * 3600 - 30)
    assert life.phase is P.WAITING
    life.tick(seconds=30)
    assert life.phase is after
    assert "obody approved step 2 within 4 h" in life.last.sentence


def test_an_approval_may_still_come_after_its_time() -> None:
    life = awaiting_approval(timeout="4h")
    life.tick(seconds=4 * 3600)
    assert "`rollout approve restaurant-recommender` still begins it" in life.last.sentence
    life.ask("approve")
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 25)


def test_an_approval_that_is_asked_for_after_a_hold_has_its_whole_time() -> None:
    life = started(policy(approve={1: {"timeout": "4h"}}))
    life.tick(verdict("hold", Reason.REQUESTS))
    life.tick(verdict("pass"), seconds=20 * 60)
    life.tick(seconds=4 * 3600 - 60)
    assert life.rollout.awaits_approval
    life.tick(seconds=60)
    assert life.phase is P.PAUSED


def test_time_that_waits_for_a_person_does_not_count_towards_the_deadline() -> None:
    life = started(policy(approve={1: {"timeout": "14d"}}, deadline=timedelta(hours=1)))
    life.tick(verdict("pass"), seconds=1800)
    life.tick(seconds=24 * 3600)
    assert life.phase is P.WAITING
    life.ask("approve")
    life.tick(seconds=40)
    life.ask("pause")
    life.tick(seconds=24 * 3600)
    life.ask("resume")
    assert life.phase is P.PROGRESSING
    life.tick(seconds=1800)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "deadline")


# --- abort


def test_an_abort_puts_the_traffic_back_and_ends_as_aborted() -> None:
    life = at_step(1)
    decision_sentence = life.ask("abort", reason="wrong model")
    assert decision_sentence == "Rolling back to blue 100 %: aborted by ana: wrong model."
    life.tick()
    assert life.phase is P.ABORTED
    assert life.last.sentence == (
        "Aborted: restaurant-recommender back on blue 100 % since 02:12:08 UTC (was 25 % green), "
        "aborted by ana: wrong model."
    )
    assert life.traffic == {"blue": 100}


def test_an_abort_onto_a_stable_that_cannot_serve_is_refused_with_the_way_out() -> None:
    life = at_step(1, facts={"stable_serves": False})
    sentence = life.ask_in_vain("abort", reason="no")
    assert "Traffic cannot go back: most of the last answers of its stable deployment blue were errors." in sentence
    assert "the rollout ends by itself once green has none" in sentence
    assert life.phase is P.PROGRESSING


def test_an_abort_never_touches_a_third_deployment() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=70, green=20, red=10)
    sentence = life.ask_in_vain("abort", reason="no")
    assert "red of restaurant-recommender also has traffic, and is never changed by a rollout" in sentence
    life.moved_by_hand(blue=90, red=10)
    assert life.phase is P.ABORTED
    assert life.last.sentence.startswith("Rolled back by hand: green (was 25 %)")


def test_a_deadline_gives_as_long_again() -> None:
    life = at_step(1, policy(deadline=timedelta(hours=2)))
    life.tick(seconds=2 * 3600)
    assert life.last.sentence.startswith(
        "Paused: not done after 2 h of active time, the policy's deadline. Last: Azure"
    )
    life.ask("resume")
    life.tick(seconds=2 * 3600 - 60)
    assert life.phase is P.PROGRESSING
    life.tick(seconds=60)
    assert life.phase is P.PAUSED
    life.ask("promote")
    life.tick(seconds=40)
    assert life.phase is P.PROGRESSING
