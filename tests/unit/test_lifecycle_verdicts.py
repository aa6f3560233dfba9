"""What follows from each verdict, in each phase: steps, holds and their bounds, retreats, roll backs."""

from datetime import timedelta

import pytest

from rollout.analysis.verdict import Reason, Verdict
from rollout.lifecycle import Phase
from rollout.lifecycle.stage import error_budget
from rollout.policy import Doubt, NoData, When
from rollout.world import Severity, Split
from tests.support.lives import FAIL, Life, at, at_step, awaiting_approval, policy, started, verdict

P = Phase
BLIND = [Reason.NO_DATA, Reason.NO_TRAFFIC, Reason.SPLIT, Reason.NOT_COMPARABLE]
DOUBTFUL = [Reason.REQUESTS, Reason.DOUBT, Reason.MAXIMUM]
HELD = [*BLIND, *DOUBTFUL, Reason.SHARED_INCIDENT]
PASSES = [Reason.PROVEN, Reason.EARLY, Reason.TIME]
FAILS = [Reason.REGRESSION, Reason.HARD_GUARD, Reason.MAXIMUM]
VERDICTS = [
    *[("pass", reason) for reason in PASSES],
    *[("hold", reason) for reason in (Reason.BAKE, Reason.RECOVERED, *HELD)],
    ("retreat", Reason.SUSPICION),
    *[("fail", reason) for reason in FAILS],
]


def expected(phase: Phase, action: str, reason: Reason) -> Phase:
    """Where a verdict leads, in the policy's defaults."""
    if phase is P.PENDING:
        return P.PREPARING
    if phase.ended or phase in {P.PENDING, P.PREPARING, P.ROLLING_BACK, P.OBSERVING}:
        return phase
    if action == "fail":
        return P.ROLLING_BACK
    if phase in {P.PAUSED, P.PROMOTING, P.GUARDING}:
        return phase
    if phase is P.RETREATED:
        return P.RETREATED if action == "retreat" or reason in HELD else P.PROGRESSING
    if action == "retreat":
        return P.RETREATED
    if phase is P.PROGRESSING and action == "hold" and reason in HELD:
        return P.WAITING
    return phase


@pytest.mark.parametrize(("action", "reason"), VERDICTS, ids=str)
@pytest.mark.parametrize("phase", [phase for phase in Phase if not phase.ended])
def test_every_verdict_in_every_phase(phase: Phase, action: str, reason: Reason) -> None:
    life = at(phase)
    life.slow = True  # what is on its way stays so
    if phase is P.PENDING:
        life.facts["fresh_at"] = None  # cannot start yet
    life.tick(verdict(action, reason))
    assert life.phase is (expected(phase, action, reason)), life.rollout.sentence


def test_passes_lead_from_step_to_step_and_to_the_end() -> None:
    life = started()
    shares = []
    for _ in range(3):
        shares.append(life.rollout.share)
        life.tick(verdict("pass"), seconds=600)
        life.tick(seconds=40)
    assert shares == [5, 25, 95]  # the holdback stays on stable in the last step
    assert life.phase is P.SUCCEEDED
    assert life.traffic == {"green": 100}
    assert life.last.sentence == (
        "Promoted: restaurant-recommender is on green 100 % since 02:32:59 UTC, 33 min after the start; "
        "blue is kept without traffic."
    )
    assert life.last.severity is Severity.NOTICE


def test_without_a_holdback_the_last_step_has_everything_and_still_bakes() -> None:
    life = at_step(2, policy(holdback=0))
    assert life.traffic == {"green": 100}
    assert life.phase is P.PROGRESSING
    life.tick(verdict("pass"))
    assert life.chain[-2:] == [(P.PROGRESSING, P.PROMOTING), (P.PROMOTING, P.SUCCEEDED)]
    assert life.writes[-1] == Split.of({"green": 100})
    assert len(life.writes) == 3  # there is nothing left to write


def test_a_pass_counts_only_for_the_split_that_was_judged() -> None:
    life = started()
    life.slow = True
    life.tick(verdict("pass"))
    assert life.rollout.step == 1
    life.tick(verdict("pass"))  # Azure has not confirmed 25 % yet
    assert life.rollout.step == 1
    life.slow = False
    life.tick(verdict("pass"))  # this tick confirms it; the verdict is older
    assert life.rollout.step == 1
    life.tick(verdict("pass"))
    assert life.rollout.step == 2


# --- holds


@pytest.mark.parametrize("reason", BLIND)
def test_a_hold_without_data_waits_and_pauses_after_the_policy_s_patience(reason: Reason) -> None:
    life = at_step(1)
    life.tick(verdict("hold", reason))
    assert life.phase is P.WAITING
    assert "If nothing changes, the rollout pauses at 02:56:52 UTC." in life.last.sentence
    life.tick(verdict("hold", reason), seconds=44 * 60)
    assert life.phase is P.WAITING
    life.tick(verdict("hold", reason), seconds=60)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "no_data")
    assert life.last.sentence.startswith("Paused after 45 min without an answer.")
    assert "`rollout resume restaurant-recommender` waits as long again" in life.last.sentence
    assert life.last.severity is Severity.ACTION


@pytest.mark.parametrize("reason", DOUBTFUL)
def test_a_doubt_waits_for_its_extension_and_names_the_way_past_it(reason: Reason) -> None:
    life = at_step(1)
    life.tick(verdict("hold", reason))
    life.tick(verdict("hold", reason), seconds=29 * 60)
    assert life.phase is P.WAITING
    life.tick(verdict("hold", reason), seconds=60)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "doubt")
    assert "`rollout promote restaurant-recommender` goes on without it" in life.last.sentence
    life.ask("promote")
    assert (life.phase, life.rollout.step) == (P.PROGRESSING, 2)


def test_the_end_of_a_hold_may_be_a_roll_back() -> None:
    when = When(no_data=NoData(hold=timedelta(minutes=5), then="rollback"))
    life = at_step(1, policy(when=when))
    life.tick(verdict("hold", Reason.NO_DATA))
    assert "the rollout rolls back at" in life.last.sentence
    life.tick(verdict("hold", Reason.NO_DATA), seconds=300)
    assert life.phase is P.ROLLING_BACK
    life.tick()
    assert life.last.sentence == (
        "Rolled back, no action needed: restaurant-recommender back on blue 100 % since 02:17:08 UTC (was 25 % green). "
        "Held for 5 min without an answer. The judge says hold (no data)."
    )


def test_a_doubt_may_roll_back_too() -> None:
    when = When(doubt=Doubt(extend=timedelta(minutes=5), then="rollback"))
    life = at_step(1, policy(when=when))
    life.tick(verdict("hold", Reason.DOUBT))
    life.tick(verdict("hold", Reason.DOUBT), seconds=300)
    assert life.phase is P.ROLLING_BACK


def test_reasons_of_one_kind_share_their_bound_and_others_start_anew() -> None:
    life = at_step(1)
    life.tick(verdict("hold", Reason.NO_DATA))
    since = life.rollout.held_since
    life.tick(verdict("hold", Reason.NO_TRAFFIC), seconds=600)
    assert (life.rollout.held_since, life.rollout.held_reason) == (since, "no_traffic")
    life.tick(verdict("hold", Reason.SHARED_INCIDENT), seconds=600)
    assert life.rollout.held_since == life.now
    life.tick(verdict("hold", Reason.DOUBT), seconds=3 * 3600)
    assert life.rollout.held_since == life.now  # an incident's hours are no doubt
    assert life.phase is P.WAITING


def test_a_hold_that_is_over_bakes_on_and_forgets_its_bound() -> None:
    life = at_step(1)
    life.tick(verdict("hold", Reason.NO_DATA))
    life.tick(verdict("hold", Reason.BAKE), seconds=40 * 60)
    assert life.phase is P.PROGRESSING
    assert life.last.sentence == "Going on. The judge says hold (bake)."
    life.tick(verdict("hold", Reason.NO_DATA), seconds=40 * 60)
    assert life.phase is P.WAITING
    assert life.rollout.held_since == life.now


def test_a_hold_may_end_in_a_pass_or_a_retreat() -> None:
    passed = at_step(1)
    passed.tick(verdict("hold", Reason.REQUESTS))
    passed.tick(verdict("pass"))
    assert (passed.phase, passed.rollout.step, passed.rollout.held_reason) == (P.PROGRESSING, 2, None)
    retreated = at_step(1)
    retreated.tick(verdict("hold", Reason.REQUESTS))
    retreated.tick(verdict("retreat"))
    assert (retreated.phase, retreated.rollout.held_reason) == (P.RETREATED, None)


def test_an_incident_of_both_alerts_and_is_bounded_by_the_deadline_alone() -> None:
    life = at_step(1, policy(deadline=timedelta(hours=2)))
    life.tick(verdict("hold", Reason.SHARED_INCIDENT))
    assert (life.phase, life.last.severity) == (P.WAITING, Severity.ACTION)
    life.tick(verdict("hold", Reason.SHARED_INCIDENT), seconds=90 * 60)
    assert life.phase is P.WAITING
    life.tick(verdict("hold", Reason.SHARED_INCIDENT), seconds=30 * 60)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "deadline")


def test_an_incident_that_comes_and_goes_alerts_once_an_hour() -> None:
    life = at_step(1)
    for _ in range(6):  # ten minutes each
        life.tick(verdict("hold", Reason.SHARED_INCIDENT), seconds=300)
        life.tick(verdict("hold"), seconds=300)
    life.tick(verdict("hold", Reason.SHARED_INCIDENT), seconds=300)
    held = [event for event in life.told("waiting") if "shared incident" in event.sentence]
    assert [event.severity for event in held] == [Severity.ACTION, *[None] * 5, Severity.ACTION]
    assert held[0].sentence == "The judge says hold (shared incident)."
    assert {event.sentence for event in held[1:]} == {"Again: The judge says hold (shared incident)."}


# --- retreats


def test_a_retreat_cuts_the_share_and_gives_it_back() -> None:
    life = at_step(1)
    life.tick(verdict("retreat"))
    assert life.last.sentence == (
        "Retreated from 25 % to 3 % while in doubt. The judge says retreat (suspicion)."  # 20 of 600 a minute
    )
    assert life.last.severity is Severity.NOTICE
    assert life.writes[-1] == Split.of({"blue": 97, "green": 3})
    life.tick(verdict("retreat"), seconds=40)
    assert (life.phase, life.rollout.share) == (P.RETREATED, 3)
    life.tick(verdict("hold", Reason.RECOVERED), seconds=600)
    assert (life.phase, life.rollout.step, life.rollout.share) == (P.PROGRESSING, 1, 25)
    assert life.last.sentence == "Resumed step 2 of 3 at 25 %. The judge says hold (recovered)."
    assert life.rollout.step_since is None  # the step bakes anew
    life.tick(seconds=40)
    assert life.traffic == {"blue": 75, "green": 25}


@pytest.mark.parametrize(("per_minute", "share"), [(100_000.0, 2), (400.0, 5), (10.0, 10), (None, 10)])
def test_the_share_of_a_retreat_follows_the_traffic(per_minute: float | None, share: int) -> None:
    life = at_step(1, facts={"per_minute": per_minute})
    life.tick(verdict("retreat"))
    assert life.rollout.share == share


def test_a_retreat_never_raises_the_share() -> None:
    life = started(facts={"per_minute": 10.0})
    life.tick(verdict("retreat"))
    assert (life.phase, life.rollout.share) == (P.RETREATED, 5)
    assert life.last.sentence.startswith("Held at 5 %, little enough, while in doubt.")


def test_a_pass_ends_a_retreat_and_never_a_step() -> None:
    life = at(P.RETREATED)
    life.tick(verdict("pass"))
    assert (life.phase, life.rollout.step, life.rollout.share) == (P.PROGRESSING, 1, 25)


def test_a_retreat_without_data_is_held_and_bounded() -> None:
    life = at(P.RETREATED)
    life.tick(verdict("hold", Reason.NO_DATA))
    assert (life.phase, life.last.kind) == (P.RETREATED, "held")
    life.tick(verdict("hold", Reason.NO_DATA), seconds=45 * 60)
    assert (life.phase, life.rollout.resume_phase) == (P.PAUSED, P.RETREATED)


def test_data_in_between_forgets_the_hold_of_a_retreat() -> None:
    life = at(P.RETREATED)
    life.tick(verdict("hold", Reason.NO_DATA))
    life.tick(verdict("retreat"), seconds=40 * 60)
    life.tick(verdict("hold", Reason.NO_DATA), seconds=40 * 60)
    assert life.phase is P.RETREATED


def test_a_retreat_while_waiting_for_an_approval_waits_on_afterwards() -> None:
    life = awaiting_approval()
    life.tick(verdict("retreat"))
    life.tick(seconds=40)
    life.tick(verdict("hold", Reason.RECOVERED), seconds=600)
    assert (life.phase, life.rollout.next_step, life.rollout.share) == (P.WAITING, 1, 5)
    assert "the next step still waits for an approval" in life.last.sentence
    life.tick(seconds=40)
    life.ask("approve")
    assert life.rollout.share == 25


def test_a_retreat_that_fails_rolls_back_and_tells_the_share_it_had() -> None:
    life = at(P.RETREATED)
    life.tick(FAIL)
    life.tick(seconds=40)
    assert life.phase is P.ROLLED_BACK
    assert "(was 3 % green)" in life.last.sentence


def test_retreating_in_the_sized_minutes_resumes_them() -> None:
    life = started(policy(20, 100, first_step="auto"))
    life.tick(verdict("retreat"))
    life.tick(seconds=40)
    life.tick(verdict("hold", Reason.RECOVERED))
    assert (life.rollout.share, life.rollout.sized_share) == (10, 10)


# --- fails


def test_a_fail_rolls_back_in_the_same_tick_and_tells_it_twice() -> None:
    life = at_step(1)
    decision = life.tick(FAIL)
    assert decision.write == Split.of({"blue": 100})
    decided = life.last
    assert decided.sentence == "Rolling back to blue 100 %: The judge says fail (regression)."
    assert decided.severity is Severity.ACTION
    life.tick(seconds=30)
    assert life.last.sentence == (
        "Rolled back, no action needed: restaurant-recommender back on blue 100 % since 02:12:23 UTC (was 25 % green). "
        "Errors 6.8 % vs 0.30 % (61 of 900 vs 8 of 2\u2009700). ~111 requests harmed."
    )
    assert life.last.severity is Severity.ACTION
    assert life.traffic == {"blue": 100}


def test_the_end_of_a_roll_back_explains_itself() -> None:
    life = at(P.ROLLED_BACK)
    details = life.last.details
    assert details["was_share"] == 25
    assert details["harmed"] == 111.2
    assert details["now"] == "restaurant-recommender: blue 100 %"
    assert [finding["check"] for finding in details["findings"]] == ["error_rate"]  # type: ignore[attr-defined]
    times = [str(details[key]) for key in ("first_bad_at", "decided_at", "sent_at", "confirmed_at")]
    assert times == sorted(times)


@pytest.mark.parametrize("phase", [P.PROGRESSING, P.RETREATED, P.WAITING, P.PAUSED, P.PROMOTING])
def test_a_fail_is_never_rolled_back_onto_a_stable_that_cannot_serve(phase: Phase) -> None:
    life = at(phase)
    life.slow = True
    life.facts["stable_serves"] = False
    writes = list(life.writes)
    life.tick(FAIL)
    assert (life.phase, life.last.severity) == (P.HALTED, Severity.PAGE)
    assert life.writes == writes
    assert "most of the last answers of its stable deployment blue were errors" in life.last.sentence
    assert "Mend or replace blue" in life.last.sentence


def regression_paused() -> Life:
    life = at_step(1, policy(when=When(regression="pause")))
    life.tick(FAIL)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "regression")
    return life


def test_a_policy_may_pause_on_a_regression_and_is_told_once() -> None:
    life = regression_paused()
    assert life.last.severity is Severity.ACTION
    assert "goes on with fresh evidence and half the error budget" in life.last.sentence
    told = len(life.events)
    for _ in range(3):
        life.tick(FAIL)
    assert (life.phase, len(life.events)) == (P.PAUSED, told)


def test_going_on_past_a_fail_wants_a_reason_and_judges_afresh() -> None:
    life = regression_paused()
    for verb in ("resume", "promote"):
        assert "needs a reason, because the candidate has failed" in life.ask_in_vain(verb, FAIL)
    assert (life.phase, life.rollout.past_fail) == (P.PAUSED, 0)
    life.ask("resume", FAIL, reason="the errors were a test of ours")
    assert (life.phase, life.rollout.past_fail) == (P.PROGRESSING, 1)  # the old verdict did not act again
    assert (life.rollout.judgement, life.rollout.verdict) == (None, None)
    assert life.rollout.judged_from == life.now
    assert life.rollout.started_at is not None
    assert life.rollout.started_at < life.now
    life.tick()
    life.tick(FAIL)
    assert life.phase is P.PAUSED
    assert life.rollout.fail_stands


def test_the_error_budget_halves_each_time() -> None:
    life = regression_paused()
    budgets = [error_budget(life.rollout)]
    for _ in range(2):
        life.ask("resume", reason="go on")
        life.tick()
        life.tick(FAIL)
        budgets.append(error_budget(life.rollout))
    assert budgets == [0.05, 0.025, 0.0125]


def test_a_paused_rollout_is_still_rolled_back_when_the_candidate_fails() -> None:
    life = at(P.PAUSED)
    life.tick(FAIL)
    assert life.phase is P.ROLLING_BACK


def test_a_fail_under_a_person_s_hands_is_told_once_and_not_acted_upon() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=60, green=40)
    life.tick(FAIL)
    assert (life.phase, life.last.severity, life.last.kind) == (P.PAUSED, Severity.PAGE, "left_alone")
    assert life.last.sentence.startswith("Act now: The judge says fail (regression). restaurant-recommender is paused")
    told = len(life.events)
    life.tick(FAIL)
    assert (len(life.events), life.traffic) == (told, {"blue": 60, "green": 40})
    assert "needs a reason" in life.ask_in_vain("resume", drift="adopt")
    life.ask("resume", drift="adopt", reason="we know")
    assert life.rollout.past_fail == 1


def given(life: Life, one: Verdict) -> None:
    life.tick(one)


@pytest.mark.parametrize("one", [FAIL, verdict("pass"), verdict("retreat"), verdict("hold", Reason.NO_DATA)])
def test_a_roll_back_under_way_listens_to_no_verdict(one: Verdict) -> None:
    life = at(P.ROLLING_BACK)
    life.slow = True
    before = life.rollout
    life.tick(one, seconds=2)
    assert (life.phase, life.rollout.verdict) == (P.ROLLING_BACK, before.verdict)
