"""How a rollout starts: what it waits for, what it refuses, and how large its first step is."""

from datetime import timedelta

import pytest

from rollout.lifecycle import Phase, stage_of
from rollout.lifecycle.stage import bake_blocks
from rollout.world import EndpointKind, Severity, Split, Unreadable
from tests.support.lives import MINUTE, T0, Life, deployment, policy, started, verdict


def test_the_first_tick_checks_and_writes_the_first_step() -> None:
    life = Life()
    life.tick()
    assert [event.kind for event in life.events] == ["pending", "preparing", "progressing"]
    assert life.writes == [Split.of({"blue": 95, "green": 5})]
    assert (life.rollout.stable, life.rollout.candidate) == ("blue", "green")
    assert life.rollout.started_at is None  # nothing is live yet
    life.tick(seconds=40)
    assert life.last.sentence == "Azure confirmed blue 95 % + green 5 %."
    assert life.rollout.started_at == life.now


@pytest.mark.parametrize(
    ("world", "told"),
    [
        ({"gone": True}, "endpoint restaurant-recommender does not exist in workspace prod"),
        ({"endpoint_changes": {"kind": EndpointKind.KUBERNETES}}, "is a Kubernetes endpoint"),
        ({"endpoint_changes": {"mirror_traffic": Split.of({"green": 10})}}, "mirrors traffic (green 10 %)"),
        ({"traffic": {"blue": 90, "red": 10}}, "the traffic of restaurant-recommender is blue 90 % + red 10 %"),
        ({"traffic": {}}, "the traffic of restaurant-recommender is no traffic"),
        ({"deployments": {"blue": deployment("blue")}}, "there is no candidate"),
        (
            {"deployments": {name: deployment(name) for name in ("blue", "green", "red")}},
            "green and red have no traffic: say which one is the candidate",
        ),
        (
            {"deployments": {"blue": deployment("blue"), "green": deployment("green", "Failed")}},
            "deployment green is Failed",
        ),
        (
            {"deployments": {"blue": deployment("blue", "Deleting"), "green": deployment("green")}},
            "deployment blue is Deleting",
        ),
    ],
)
def test_what_a_person_must_mend_first_is_refused_at_once(world: dict[str, object], told: str) -> None:
    life = Life(**world)  # type: ignore[arg-type]
    life.tick()
    assert life.phase is Phase.ABORTED
    assert life.last.sentence.startswith("Not started: ")
    assert told in life.last.sentence
    assert life.last.severity is Severity.ACTION
    assert life.writes == []


def test_the_policy_s_names_must_fit_the_endpoint() -> None:
    wrong = Life(policy=policy(stable="green"))
    wrong.tick()
    assert "the policy names green as stable, but blue holds all traffic" in wrong.last.sentence
    missing = Life(policy=policy(candidate="red"))
    missing.tick()
    assert "deployment red does not exist; its endpoint has blue, green" in missing.last.sentence


def test_a_deployment_that_cannot_be_read_is_awaited() -> None:
    life = Life()
    readable = dict(life.deployments or {})
    life.deployments = {**readable, "blue": Unreadable(name="blue", why="properties is missing")}
    life.tick()
    life.tick()
    assert life.last.sentence == (
        "Not started yet: Azure's description of deployment blue cannot be used: properties is missing; look at it in "
        "the Studio."
    )
    life.deployments = readable
    life.tick()
    assert life.phase is Phase.PROGRESSING
    same = Life(policy=policy(candidate="blue"))
    same.tick()
    assert "blue is the stable deployment already" in same.last.sentence


def test_names_are_compared_as_azure_does() -> None:
    life = Life(
        policy=policy(stable="BLUE", candidate="Green"),
        deployments={"blue": deployment("Blue"), "green": deployment("GREEN")},
    )
    life.tick()
    assert life.phase is Phase.PROGRESSING
    assert (life.rollout.stable, life.rollout.candidate) == ("Blue", "GREEN")


@pytest.mark.parametrize(
    ("world", "told", "mended"),
    [
        ({"state": "Updating"}, "restaurant-recommender is Updating", {"state": "Succeeded"}),
        (
            {"deployments": {"blue": deployment("blue"), "green": deployment("green", "Creating")}},
            "deployment green is still Creating",
            {"deployments": {"blue": deployment("blue"), "green": deployment("green")}},
        ),
        ({"facts": {"fresh_at": T0 - 60 * MINUTE}}, "none since 01:00 UTC", {"facts": {}}),
        ({"facts": {"fresh_at": None}}, "none at all in the last hour", {"facts": {}}),
        ({"facts": {"fresh_at": None, "read_at": None}}, "has not been read yet", {"facts": {}}),
        (
            {"facts": {"fresh_at": None, "trouble": "The role Log Analytics Data Reader is missing"}},
            "The role Log Analytics Data Reader is missing",
            {"facts": {}},
        ),
    ],
)
def test_what_may_come_by_itself_is_awaited_and_told_once(
    world: dict[str, object], told: str, mended: dict[str, object]
) -> None:
    life = Life(**world)  # type: ignore[arg-type]
    for _ in range(3):
        life.tick()
    assert life.phase is Phase.PREPARING
    waited = [event for event in life.events if event.sentence.startswith("Not started yet")]
    assert len(waited) == 1
    assert told in waited[0].sentence
    for name, value in mended.items():
        setattr(life, name, value)
    life.tick()
    assert life.phase is Phase.PROGRESSING
    assert life.rollout.held_reason is None


def test_without_fresh_rows_it_is_given_up_after_the_policy_s_patience() -> None:
    life = Life(facts={"fresh_at": None})
    life.tick(seconds=44 * 60)
    assert life.phase is Phase.PREPARING
    life.tick(seconds=60)
    assert life.phase is Phase.ABORTED
    assert "no fresh rows of blue in AmlOnlineEndpointTrafficLog" in life.last.sentence
    assert "diagnostic setting" in life.last.sentence


def test_an_endpoint_that_somebody_changes_is_given_up_after_an_hour() -> None:
    life = Life(state="Updating")
    life.tick(seconds=59 * 60)
    assert life.phase is Phase.PREPARING
    life.tick(seconds=60)
    assert life.phase is Phase.ABORTED
    assert "somebody else's operation runs" in life.last.sentence


def test_an_azure_that_does_not_answer_is_given_up_after_an_hour() -> None:
    life = Life()
    life.tick(blind=True)
    assert life.last.sentence == "Not started yet: Azure has not answered yet."
    life.tick(blind=True, seconds=3600)
    assert life.phase is Phase.ABORTED


def test_a_first_step_that_wants_an_approval_waits_without_traffic() -> None:
    life = Life(policy=policy(approve={0: {"timeout": "4h"}}))
    life.tick()
    assert (life.phase, life.rollout.share, life.writes) == (Phase.WAITING, 0, [])
    assert "Step 1 (5 %) waits for an approval until Sun 06:00 UTC: `rollout approve" in life.last.sentence
    life.tick(seconds=3600)
    assert life.phase is Phase.WAITING
    life.ask("approve")
    assert life.writes == [Split.of({"blue": 95, "green": 5})]


@pytest.mark.parametrize("verb", ["abort", "reject"])
def test_ending_it_before_any_traffic_moved_ends_at_once(verb: str) -> None:
    life = Life(policy=policy(approve={0: {"timeout": "4h"}}))
    life.tick()
    life.ask(verb, reason="not today")
    assert (life.phase, life.writes) == (Phase.ABORTED, [])
    assert "before any traffic moved" in life.last.sentence
    assert "not today" in life.last.sentence


# --- the size of the first step


@pytest.mark.parametrize(("per_minute", "share"), [(600.0, 10), (6000.0, 5), (60_000.0, 2), (10.0, 10), (None, 10)])
def test_the_first_minutes_are_sized_by_the_traffic(per_minute: float | None, share: int) -> None:
    life = Life(policy=policy(20, 100, first_step="auto"), facts={"per_minute": per_minute})
    life.tick()
    assert life.writes == [Split.of({"blue": 100 - share, "green": share})]
    assert life.rollout.sized_share == share
    assert bake_blocks(life.rollout) == 5


def test_a_first_step_that_is_small_enough_is_run_as_written() -> None:
    life = started(policy(5, 100, first_step="auto"))
    assert (life.rollout.share, life.rollout.sized_share) == (5, None)
    as_written = started(policy(20, 100))
    assert (as_written.rollout.share, as_written.rollout.sized_share) == (20, None)


def test_the_sized_minutes_lead_to_the_step_s_own_share_and_bake() -> None:
    life = started(policy(20, 100, first_step="auto"))
    life.tick(verdict("pass"))
    assert (life.phase, life.rollout.step, life.rollout.share, life.rollout.sized_share) == (
        Phase.PROGRESSING,
        0,
        20,
        None,
    )
    assert life.rollout.step_since is None
    assert life.last.sentence == "The judge says pass (proven). Now blue 80 % + green 20 %, the share of step 1."
    life.tick(seconds=40)
    assert bake_blocks(life.rollout) == 10
    life.tick(verdict("pass"))
    assert life.rollout.step == 1


# --- what the judge is told


def test_minutes_are_judged_from_the_first_whole_one_after_the_confirmation() -> None:
    life = started()
    confirmed = life.rollout.step_since
    assert confirmed is not None
    stage = stage_of(life.rollout, life.now)
    assert stage is not None
    first = int(confirmed.timestamp() // 60) + 1
    assert (stage.step, stage.traffic, stage.started, stage.since, stage.bake) == (0, 5, first, first, 10)
    assert (stage.holdback, stage.retreated_since) == (True, None)
    assert stage.instances is not None
    assert (stage.instances.baseline, stage.instances.candidate) == (2, 2)


def test_nothing_is_judged_before_the_candidate_is_live() -> None:
    life = Life()
    life.tick()
    assert stage_of(life.rollout, life.now) is None


def test_a_split_that_is_not_confirmed_yet_belongs_to_no_step() -> None:
    life = started()
    life.tick(verdict("pass"))
    stage = stage_of(life.rollout, life.now)
    assert stage is not None
    assert (stage.step, stage.since * 60 >= life.now.timestamp()) == (1, True)
    assert life.now - T0 < timedelta(minutes=5)
