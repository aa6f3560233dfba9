"""The gate before every rise: windows, freezes and approvals hold the share; nothing holds a cut or a roll back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollout.lifecycle import Phase, eta
from rollout.policy import Policy, Windows
from rollout.world import Freeze, Severity
from tests.support.lives import FAIL, REF, T0, Life, policy, started, verdict

#: T0 is a Sunday, 02:00 UTC.
OPEN = "sun 01:00-03:00 UTC"
MONDAY = T0 + timedelta(days=1, hours=7)
P = Phase


def gated(*allow: str, freeze: Any = (), start_outside: str = "wait", **changes: Any) -> Policy:
    """The usual steps, within these times."""
    found = Windows.model_validate({"allow": allow, "freeze": freeze, "start_outside": start_outside})
    return policy(windows=found, **changes)


def freeze(**changes: Any) -> Freeze:
    """Anna's."""
    given: dict[str, Any] = {"id": "f1", "endpoint": REF, "reason": "incident 42", "by": "anna", "at": T0}
    return Freeze(**given | changes)


def pass_at(life: Life, moment: datetime, action: str = "pass") -> None:
    """Time passes until this moment, and the judge says so then."""
    life.tick(verdict(action), seconds=(moment - life.now).total_seconds())


# --- windows


def test_a_step_that_cannot_end_before_the_window_closes_waits() -> None:
    life = started(gated(OPEN, "mon 09:00-17:00 UTC"))
    pass_at(life, T0 + timedelta(minutes=40))  # 22 min are needed, 20 are left
    assert (life.phase, life.rollout.share) == (P.WAITING, 5)
    assert life.last.sentence == (
        "The judge says pass (proven). Step 2 waits: it takes about 22 min, and the allowed time ends at 03:00 UTC, until "
        "Mon 09:00 UTC. The share stays at 5 %; judging goes on, and a candidate that fails is still rolled back."
    )
    assert life.last.severity is Severity.NOTICE
    told = len(life.events)
    pass_at(life, T0 + timedelta(hours=3))
    assert len(life.events) == told, "told once"
    pass_at(life, MONDAY - timedelta(seconds=1))
    assert life.rollout.share == 5
    pass_at(life, MONDAY)
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 25)
    assert life.rollout.shut is None


def test_a_step_that_fits_begins() -> None:
    life = started(gated(OPEN))
    pass_at(life, T0 + timedelta(minutes=37))
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 25)


def test_the_judge_goes_on_while_the_window_is_shut() -> None:
    life = started(gated(OPEN, "mon 09:00-17:00 UTC"))
    pass_at(life, T0 + timedelta(hours=2))
    pass_at(life, T0 + timedelta(hours=3), "hold")
    assert life.phase is P.WAITING
    life.tick(FAIL)
    assert life.phase is P.ROLLING_BACK
    assert life.writes[-1].as_traffic() == {"blue": 100}


def test_doubt_is_bounded_outside_too() -> None:
    from rollout.analysis.verdict import Reason

    life = started(gated(OPEN, "mon 09:00-17:00 UTC"))
    pass_at(life, T0 + timedelta(hours=2))
    life.tick(verdict("hold", Reason.DOUBT))
    assert life.rollout.shut is None
    life.tick(verdict("hold", Reason.DOUBT), seconds=31 * 60)
    assert life.phase is P.PAUSED
    assert life.rollout.paused_because == "doubt"


def test_what_a_retreat_cut_comes_back_in_the_window() -> None:
    life = started(gated("sun 01:00-03:00 UTC", "mon 09:00-17:00 UTC"))
    pass_at(life, T0 + timedelta(minutes=20))
    life.tick(seconds=40)
    life.tick(verdict("retreat"))
    low = life.rollout.share
    assert (life.phase, low < 25) == (P.RETREATED, True)
    life.tick(seconds=40)
    pass_at(life, T0 + timedelta(hours=2))
    assert (life.phase, life.rollout.share) == (P.RETREATED, low)
    assert "The share of step 2, 25 %, waits: outside the allowed times" in life.last.sentence
    pass_at(life, MONDAY)
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 25)


def test_a_suspicion_cuts_the_share_outside_too() -> None:
    life = started(gated(OPEN, "mon 09:00-17:00 UTC"))
    pass_at(life, T0 + timedelta(minutes=20))
    life.tick(seconds=40)
    pass_at(life, T0 + timedelta(hours=2))
    life.tick(verdict("retreat"))
    assert life.phase is P.RETREATED
    assert life.rollout.share < 25


def test_the_last_share_waits_too() -> None:
    life = started(gated(OPEN, "mon 09:00-17:00 UTC", holdback=5))
    for minutes in (15, 30):
        pass_at(life, T0 + timedelta(minutes=minutes))
        life.tick(seconds=40)
    assert life.rollout.share == 95
    pass_at(life, T0 + timedelta(hours=2))
    assert (life.phase, life.rollout.share) == (P.WAITING, 95)
    pass_at(life, MONDAY)
    assert (life.phase, life.rollout.share) == (P.PROMOTING, 100)


def test_time_outside_is_not_active() -> None:
    life = started(gated(OPEN, "mon 09:00-17:00 UTC", deadline=timedelta(hours=2)))
    pass_at(life, T0 + timedelta(minutes=50))
    pass_at(life, MONDAY - timedelta(minutes=1))
    assert life.phase is P.WAITING
    pass_at(life, MONDAY)
    life.tick(seconds=40)
    pass_at(life, MONDAY + timedelta(minutes=71), "hold")
    assert life.rollout.paused_because == "deadline"


def test_a_split_that_azure_has_not_taken_on_is_not_raised_outside() -> None:
    life = started(gated(OPEN, "mon 09:00-17:00 UTC"))
    life.tick(verdict("pass"), seconds=600, answer="conflict")
    writes = len(life.writes)
    life.facts["freezes"] = (freeze(until=T0 + timedelta(minutes=50)),)
    life.tick()
    life.tick(seconds=600)
    assert len(life.writes) == writes
    assert life.phase is P.PROGRESSING
    assert "Not written yet, blue 75 % + green 25 %: frozen by anna" in life.told("shut")[0].sentence
    life.facts["freezes"] = ()
    life.tick(seconds=T0.timestamp() + 3000 - life.now.timestamp())
    assert len(life.writes) == writes + 1


def test_a_person_does_not_get_past_it() -> None:
    life = started(gated(OPEN, "mon 09:00-17:00 UTC"))
    life.tick(seconds=7200)
    assert "outside the allowed times" in life.ask_in_vain("promote")
    told = life.ask_in_vain("promote", full=True, reason="now")
    assert "until Mon 09:00 UTC. A roll back would not wait." in told
    assert life.rollout.share == 5
    life.ask("pause")
    life.ask("resume")
    assert life.rollout.share == 5
    life.ask("abort", reason="enough")
    assert life.phase is P.ROLLING_BACK


# --- starting


def test_a_start_waits_for_the_window_and_then_has_its_time() -> None:
    life = Life(policy=gated("mon 09:00-17:00 UTC"))
    life.tick()
    assert life.phase is P.PREPARING
    assert life.last.sentence == (
        "Not started yet: outside the allowed times (mon 09:00-17:00 UTC), until Mon 09:00 UTC. It begins by itself then."
    )
    life.facts["fresh_at"] = None
    pass_at(life, MONDAY, "hold")
    assert life.phase is P.PREPARING, "what is not there yet has as long as after any start"
    life.facts.clear()
    life.tick()
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 5)


def test_a_start_outside_is_refused_where_the_policy_says_so() -> None:
    life = Life(policy=gated("mon 09:00-17:00 UTC", start_outside="refuse"))
    life.tick()
    assert life.phase is P.ABORTED
    assert "the policy refuses starts then (`start_outside: refuse`)" in life.last.sentence
    assert life.writes == []


def test_a_mistake_is_told_before_the_window_opens() -> None:
    life = Life(policy=gated("mon 09:00-17:00 UTC"), traffic={"blue": 50, "green": 50})
    life.tick()
    assert life.phase is P.ABORTED


def test_a_start_waits_for_the_end_of_a_freeze() -> None:
    life = Life(facts={"freezes": (freeze(endpoint=None),)})
    life.tick()
    assert "Not started yet: everything is frozen by anna (incident 42), until a person lifts it." in life.last.sentence
    life.tick(seconds=36000)
    assert life.phase is P.PREPARING
    life.facts.clear()
    life.tick()
    assert life.phase is P.PROGRESSING


# --- freezes


def test_a_freeze_is_told_once_and_holds_the_share() -> None:
    life = started()
    life.facts["freezes"] = (freeze(),)
    life.tick()
    life.tick(verdict("pass"), seconds=600)
    (told,) = life.told("frozen")
    assert told.sentence == (
        "Frozen by anna (incident 42), until a person lifts it. The share of green does not rise above 5 %; judging goes on, "
        "and a candidate that fails is still rolled back."
    )
    assert life.phase is P.WAITING
    life.facts["freezes"] = ()
    life.tick(verdict("pass"))
    assert life.told("unfrozen")[0].severity is Severity.NOTICE
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 25)


def test_under_a_freeze_a_candidate_that_fails_goes_back() -> None:
    life = started(facts={})
    life.facts["freezes"] = (freeze(),)
    life.tick(FAIL)
    assert life.phase is P.ROLLING_BACK
    assert life.writes[-1].as_traffic() == {"blue": 100}
    life.tick(seconds=40)
    assert life.phase is P.ROLLED_BACK


# --- approvals


def asked(*allow: str, **approval: Any) -> Life:
    """Step 2 waits for an approval, since 02:11."""
    approval = {"timeout": "4h", **approval}
    one = gated(*allow, approve={1: approval}) if allow else policy(approve={1: approval})
    life = started(one)
    life.tick(verdict("pass"), seconds=600)
    assert life.rollout.awaits_approval
    return life


def test_only_approvers_approve() -> None:
    life = asked(by=["ml-leads"])
    assert "waits for an approval of ml-leads until" in life.last.sentence
    told = life.ask_in_vain("approve", groups=("ops",))
    assert "ana is not one of them" in told
    assert "not one of them" in life.ask_in_vain("promote")
    assert "not one of them" in life.ask_in_vain("promote", full=True, reason="now")
    life.ask("approve", groups=("ops", "ML-Leads"))
    assert life.rollout.share == 25


def test_an_approver_may_be_named_and_anybody_rejects() -> None:
    life = asked(by=["Ana"])
    life.ask("approve")
    assert life.rollout.share == 25
    other = asked(by=["ml-leads"])
    other.ask("reject")
    assert other.phase is P.ROLLING_BACK


def test_an_approval_before_it_is_due_is_refused() -> None:
    life = started(policy(approve={1: {"timeout": "4h"}}))
    assert "Nothing waits for an approval" in life.ask_in_vain("approve")
    life.tick(verdict("pass"), seconds=600)
    assert life.rollout.awaits_approval


def test_an_approval_outside_begins_when_the_window_opens() -> None:
    life = asked(OPEN, "mon 09:00-17:00 UTC")
    life.tick(verdict("pass"), seconds=7200)
    told = life.ask("approve", verdict("pass"))
    assert "Step 2 waits: outside the allowed times" in told
    assert (life.phase, life.rollout.share) == (P.WAITING, 5)
    pass_at(life, MONDAY - timedelta(minutes=1))
    assert life.rollout.share == 5
    pass_at(life, MONDAY)
    assert (life.phase, life.rollout.share) == (P.PROGRESSING, 25)
    assert "Approved by ana, and the share may rise now." in life.last.sentence


@pytest.mark.parametrize("evidence", [5.0, 40.0])
def test_an_approval_is_void_when_the_evidence_has_worsened(evidence: float) -> None:
    life = asked(OPEN, "mon 09:00-17:00 UTC")
    life.tick(verdict("pass"), seconds=7200)
    life.ask("approve", verdict("pass", evidence=1.2))
    life.tick(verdict("pass", evidence=4.9))
    assert life.rollout.given is not None
    life.tick(verdict("hold", evidence=evidence))
    assert life.rollout.given is None
    assert f"The approval by ana is void: the evidence against the candidate has grown from 1.2 to {evidence:.3g}" in (
        life.last.sentence
    )
    assert life.last.severity is Severity.ACTION
    pass_at(life, MONDAY)
    assert life.rollout.awaits_approval
    life.ask("approve", verdict("pass", evidence=evidence))
    assert life.rollout.share == 25


def test_a_suspicion_voids_it_and_a_roll_back_waits_for_nobody() -> None:
    life = asked(OPEN, "mon 09:00-17:00 UTC")
    life.tick(verdict("pass"), seconds=7200)
    assert "The evidence has just worsened" in life.ask_in_vain("approve", verdict("retreat"))
    life.tick(seconds=40)
    assert life.phase is P.RETREATED
    life.tick(FAIL)
    assert life.phase is P.ROLLING_BACK


def test_time_outside_windows_does_not_count_for_an_approval() -> None:
    life = asked("sun 01:00-03:00 UTC", "mon 09:00-17:00 UTC", timeout="2h")
    assert "until Mon 10:10 UTC" in life.last.sentence
    life.tick(verdict("pass"), seconds=6 * 3600)
    assert life.phase is P.WAITING
    pass_at(life, MONDAY + timedelta(minutes=70))
    assert life.phase is P.WAITING
    pass_at(life, MONDAY + timedelta(minutes=72))
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "approval")


def test_after_a_freeze_an_approval_has_its_time_anew() -> None:
    life = asked(timeout="2h", on_timeout="rollback")
    life.facts["freezes"] = (freeze(),)
    life.tick(seconds=5 * 3600)
    assert life.phase is P.WAITING
    assert "Step 2 still waits for an approval: `rollout approve restaurant-recommender`." in life.last.sentence
    life.facts["freezes"] = ()
    life.tick()
    assert life.last.sentence.startswith(
        "The freeze of restaurant-recommender is over. Step 2 (25 %) waits for an approval"
    )
    life.tick(seconds=7000)
    assert life.phase is P.WAITING
    life.tick(seconds=400)
    assert life.phase is P.ROLLING_BACK


# --- when it may be done


def test_the_eta_waits_for_windows() -> None:
    lag = timedelta(minutes=5)
    life = started(gated("sun 01:00-02:40 UTC", "mon 09:00-17:00 UTC"))
    found = eta(life.rollout, now=life.now, lag=lag)
    plain = eta(replace(life.rollout, policy=policy()), now=life.now, lag=lag)
    assert found.next_decision_at == plain.next_decision_at
    assert found.done_at is not None
    assert plain.done_at is not None
    assert found.done_at > MONDAY > plain.done_at
    pass_at(life, T0 + timedelta(hours=2))
    assert eta(life.rollout, now=life.now, lag=lag).next_decision_at == MONDAY
    assert eta(life.rollout, now=life.now, lag=lag, freezes=[freeze()]).done_at is None


def test_a_start_that_waits_knows_when_it_begins() -> None:
    life = Life(policy=gated("mon 09:00-17:00 UTC"))
    life.tick()
    found = eta(life.rollout, now=life.now, lag=timedelta(minutes=5))
    assert found.next_decision_at == MONDAY
    assert found.done_at == datetime(2026, 11, 23, 9, 0, tzinfo=UTC) + 3 * timedelta(
        minutes=16, seconds=40
    ) + timedelta(seconds=40)
