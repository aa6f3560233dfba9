"""Deployments that vanish, fail or change, an endpoint that is deleted, and time that runs out: each ends in a phase."""

from datetime import timedelta

import pytest

from rollout.analysis.verdict import Reason
from rollout.lifecycle import Phase, eta
from rollout.world import DeploymentState, Severity, Unreadable
from tests.support.lives import FAIL, MINUTE, Life, at, at_step, deployment, pin, policy, started, verdict

P = Phase
LIVE = [P.PROGRESSING, P.RETREATED, P.WAITING, P.PAUSED, P.PROMOTING, P.ROLLING_BACK]


def with_deployments(life: Life, **states: DeploymentState | Unreadable | None) -> None:
    """Deployments become this (None: deleted), and the next look shows it."""
    life.slow = True  # what is on its way stays so
    there = {**(life.deployments or {}), **states}
    life.deployments = {name: state for name, state in there.items() if state is not None}
    life.tick()


@pytest.mark.parametrize("phase", LIVE)
def test_an_endpoint_that_is_deleted_ends_the_rollout(phase: Phase) -> None:
    life = at(phase)
    life.gone = True
    life.tick()
    assert life.phase is P.ABORTED
    assert life.last.sentence == "Aborted: endpoint restaurant-recommender does not exist any more."


@pytest.mark.parametrize("phase", LIVE)
@pytest.mark.parametrize(
    ("stable", "told"),
    [
        (None, "its stable deployment blue does not exist any more."),
        (deployment("blue", "Failed"), "its stable deployment blue is Failed."),
        (deployment("blue", "Deleting"), "its stable deployment blue is Deleting."),
    ],
)
def test_a_stable_that_cannot_serve_halts_and_leaves_the_traffic(
    phase: Phase, stable: DeploymentState | None, told: str
) -> None:
    life = at(phase)
    writes = len(life.writes)
    with_deployments(life, blue=stable)
    assert (life.phase, life.last.severity, len(life.writes)) == (P.HALTED, Severity.PAGE, writes)
    assert life.last.sentence.startswith(
        f"Halted, act now: restaurant-recommender cannot be judged or rolled back: {told} Traffic was left as it is ("
    )
    assert "start a new rollout" in life.last.sentence


@pytest.mark.parametrize("state", ["Updating", "Scaling", "Creating"])
def test_a_stable_that_scales_serves(state: str) -> None:
    life = at_step(1)
    with_deployments(life, blue=deployment("blue", state))
    assert life.phase is P.PROGRESSING
    life.slow = False
    life.tick(FAIL)
    assert life.phase is P.ROLLING_BACK


@pytest.mark.parametrize("phase", [P.PROGRESSING, P.RETREATED, P.WAITING, P.PAUSED, P.PROMOTING])
@pytest.mark.parametrize(
    ("candidate", "what"), [(None, "does not exist any more"), (deployment("green", "Failed"), "is Failed")]
)
def test_a_candidate_that_is_gone_rolls_back(phase: Phase, candidate: DeploymentState | None, what: str) -> None:
    life = at(phase)
    with_deployments(life, green=candidate)
    assert life.phase is P.ROLLING_BACK
    assert life.last.sentence == f"Rolling back to blue 100 %: the candidate {what}."
    life.slow = False
    life.tick()
    assert life.phase is P.ROLLED_BACK
    assert life.last.sentence.endswith(f"The candidate green {what}.")


def test_a_roll_back_goes_on_without_its_candidate() -> None:
    life = at(P.ROLLING_BACK)
    with_deployments(life, green=None)
    assert life.phase is P.ROLLING_BACK


def test_a_candidate_that_is_gone_is_not_rolled_back_onto_a_bad_stable() -> None:
    life = at_step(1, facts={"stable_serves": False})
    with_deployments(life, green=deployment("green", "Failed"))
    assert life.phase is P.HALTED
    assert "The candidate green is Failed. restaurant-recommender cannot be rolled back: most of" in life.last.sentence


def test_a_candidate_that_is_gone_under_a_person_s_hands_is_paged_and_left() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=60, green=40)
    with_deployments(life, green=deployment("green", "Failed"))
    for _ in range(3):
        life.tick(FAIL)
    assert (life.phase, life.traffic) == (P.PAUSED, {"blue": 60, "green": 40})
    (page,) = life.told("left_alone")
    assert page.severity is Severity.PAGE


# --- what Azure does not describe as it should

UNREADABLE = "properties.provisioningState is missing"


@pytest.mark.parametrize("name", ["blue", "green"])
def test_a_deployment_that_cannot_be_read_gets_no_more_traffic_until_it_can(name: str) -> None:
    life = at_step(1)
    readable = dict(life.deployments or {})
    with_deployments(life, **{name: Unreadable(name=name, why=UNREADABLE)})
    assert life.phase is P.PROGRESSING
    life.tick(verdict("pass"))
    assert (life.phase, life.rollout.step, life.traffic) == (P.WAITING, 1, {"blue": 75, "green": 25})
    assert life.last.sentence.startswith(f"Azure's description of {name} cannot be used ({UNREADABLE}): whether")
    assert "If nothing changes, the rollout pauses at " in life.last.sentence
    life.deployments = readable
    life.tick(verdict("pass"))
    assert (life.phase, life.rollout.step) == (P.PROGRESSING, 2)


def test_a_stable_that_cannot_be_read_takes_the_traffic_back() -> None:
    life = at_step(1)
    life.deployments = {**(life.deployments or {}), "blue": Unreadable(name="blue", why=UNREADABLE)}
    life.tick(FAIL)
    assert life.phase is P.ROLLING_BACK


def test_a_candidate_that_was_changed_while_it_could_not_be_read_pauses() -> None:
    life = at_step(1)
    with_deployments(life, green=Unreadable(name="green", why=UNREADABLE))
    with_deployments(life, green=deployment("green", code="c:2"))
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "changed")


def test_a_retreat_does_not_end_on_a_candidate_that_cannot_be_read() -> None:
    life = at(P.RETREATED)
    with_deployments(life, green=Unreadable(name="green", why=UNREADABLE))
    life.tick(verdict("hold", Reason.RECOVERED))
    assert (life.phase, life.last.kind) == (P.RETREATED, "held")


def test_one_without_a_name_may_be_any() -> None:
    life = at_step(1)
    with_deployments(life, blue=None, somebody=Unreadable(name=None, why="name is missing"))
    assert life.phase is P.PROGRESSING
    life.tick(verdict("pass"))
    assert life.last.sentence.startswith("Azure's description of blue cannot be used (name is missing)")


# --- pins


@pytest.mark.parametrize("phase", [P.PROGRESSING, P.RETREATED, P.WAITING, P.PAUSED, P.PROMOTING])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"blue": deployment("blue", model="recommender:9")},
            "the stable deployment blue was changed in place (model)",
        ),
        (
            {"green": deployment("green", model="recommender:2", code="code:9", modified_at="2026-11-22")},
            "the candidate deployment green was changed in place (code, modified)",
        ),
        (
            {"green": deployment("green", model="recommender:2", modified_at="2026-11-22")},
            "the candidate deployment green was changed in place (modified)",
        ),
    ],
)
def test_a_change_in_place_pauses_and_voids_the_evidence(
    phase: Phase, change: dict[str, DeploymentState], told: str
) -> None:
    life = at(phase)
    life.slow = True
    life.tick(verdict("hold"), seconds=1)
    with_deployments(life, **change)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "changed")
    assert told in life.last.sentence
    assert "judges afresh from here" in life.last.sentence
    assert (life.rollout.judgement, life.rollout.verdict) == (None, None)
    told_so_far = len(life.events)
    life.tick()
    assert len(life.events) == told_so_far
    life.ask("resume")
    assert life.phase is not P.PAUSED
    assert life.rollout.past_fail == 0


def test_both_changed_are_told_in_one_sentence() -> None:
    life = at_step(1)
    with_deployments(life, blue=deployment("blue", code="c:2"), green=deployment("green", code="c:2"))
    assert (
        "the stable deployment blue was changed in place (code) and the candidate deployment green"
        in life.last.sentence
    )


def test_scaling_is_no_change_and_is_remembered() -> None:
    life = at_step(1)
    scaled = deployment("blue", pin=pin(instances=5, modified_at="2026-11-22"))
    with_deployments(life, blue=scaled)
    assert life.phase is P.PROGRESSING
    assert life.rollout.pins is not None
    assert life.rollout.pins[0] == scaled.pin


def test_a_second_change_while_paused_is_told_too() -> None:
    life = at_step(1)
    with_deployments(life, green=deployment("green", code="c:2"))
    with_deployments(life, green=deployment("green", code="c:3"))
    assert len(life.told("paused")) == 2


def test_a_fail_after_a_change_in_place_is_told_and_left_to_the_person() -> None:
    life = at_step(1)
    with_deployments(life, green=deployment("green", code="c:2"))
    life.moved_by_hand(blue=60, green=40)
    life.moved_by_hand(blue=75, green=25)  # drift comes and goes: the change stays
    life.tick(FAIL)
    life.tick(FAIL)
    assert (life.phase, len(life.told("left_alone"))) == (P.PAUSED, 1)


def test_a_look_without_deployments_judges_none() -> None:
    life = at_step(1)
    life.deployments = None
    life.tick()
    assert life.phase is P.PROGRESSING


# --- time


@pytest.mark.parametrize("phase", [P.PROGRESSING, P.RETREATED, P.PROMOTING])
def test_the_deadline_pauses_active_phases(phase: Phase) -> None:
    life = at(phase)
    life.state = "Updating"  # a promotion that azure does not take on
    life.tick(seconds=8 * 3600)
    assert life.phase is P.PAUSED


def test_the_deadline_does_not_stop_a_roll_back_or_a_pause() -> None:
    for phase in (P.ROLLING_BACK, P.PAUSED):
        life = at(phase)
        life.slow = True
        life.tick(seconds=100 * 3600)
        assert life.phase is phase


def test_the_deadline_is_of_active_time_only() -> None:
    life = at_step(1, policy(deadline=timedelta(hours=1)))
    for _ in range(5):
        life.ask("pause")
        life.tick(seconds=3600)
        life.ask("resume")
        life.tick(seconds=120)
    assert life.phase is P.PROGRESSING
    life.tick(seconds=40 * 60)
    assert life.rollout.paused_because == "deadline"


# --- when it may be done


def test_the_eta_adds_up_writes_bakes_and_the_data_s_lag() -> None:
    life = started()
    found = eta(life.rollout, now=life.now, lag=5 * MINUTE)
    assert life.rollout.step_since is not None
    assert found.next_decision_at == life.rollout.step_since + 16 * MINUTE
    assert found.done_at is not None
    assert found.done_at - found.next_decision_at == 2 * (timedelta(seconds=40) + 16 * MINUTE) + timedelta(seconds=40)


def test_the_eta_of_the_sized_minutes_counts_the_step_s_own_bake() -> None:
    life = started(policy(20, 100, first_step="auto"))
    found = eta(life.rollout, now=life.now, lag=5 * MINUTE)
    assert life.rollout.step_since is not None
    assert found.next_decision_at == life.rollout.step_since + 11 * MINUTE
    assert found.done_at is not None
    assert found.done_at - found.next_decision_at == 2 * (timedelta(seconds=40) + 16 * MINUTE) + timedelta(seconds=40)


@pytest.mark.parametrize("phase", list(Phase))
def test_an_eta_is_given_where_no_person_is_awaited(phase: Phase) -> None:
    life = at(phase)
    found = eta(life.rollout, now=life.now, lag=5 * MINUTE)
    known = phase in {P.PENDING, P.PREPARING, P.PROGRESSING, P.RETREATED, P.PROMOTING, P.ROLLING_BACK, P.OBSERVING}
    assert (found.next_decision_at is not None) is known
    assert found.done_at is None or found.done_at >= life.now


def test_an_approval_ahead_leaves_the_end_open() -> None:
    life = started(policy(approve={2: {"timeout": "4h"}}))
    assert eta(life.rollout, now=life.now, lag=5 * MINUTE).done_at is None
