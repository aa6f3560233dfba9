"""Mirror steps: copies before live requests, seen on and off by Azure, never over a person's, and never left behind."""

from datetime import timedelta
from typing import Any

import pytest

from rollout.lifecycle import Eta, Phase
from rollout.policy import Capacity, MirrorStep, Policy
from rollout.web.views import rollout_view
from rollout.world import EndpointKind, Mirror, Scale, Split, Trial
from tests.support.lives import T0, Life, deployment, pin, policy

TEN = MirrorStep(mirror_traffic=10, bake=timedelta(minutes=10))
ON, OFF = Mirror(deployment="green", share=10), Mirror(deployment="green", share=0)


def mirroring(**changes: Any) -> Policy:
    return policy(mirror=(TEN,), **changes)


def shows(life: Life, **shares: int) -> None:
    """Azure's mirror traffic is this from now on; the operation that ran is over, and the endpoint was read after it."""
    life.endpoint_changes["mirror_traffic"] = Split.of(shares)
    life.facts["operations"] = {"mirror:green": None}
    life.tick(seconds=1)
    life.facts["operations"] = {}


def copying(**changes: Any) -> Life:
    """Azure shows the mirror."""
    life = Life(policy=changes.pop("policy", mirroring()), **changes)
    assert life.tick().errands == (ON,)
    shows(life, green=10)
    assert life.tick(seconds=1).errands == ()
    assert life.rollout.mirroring is not None
    assert life.rollout.mirroring.since is not None
    assert (life.rollout.stable, life.rollout.candidate) == ("blue", "green")
    return life


def test_copies_come_before_the_first_live_request_and_end_before_it() -> None:
    life = Life(policy=mirroring())
    life.tick()
    assert life.last.sentence == (
        "Mirror step 1 of 1 began: green gets copies of 10 % of the live requests for 10 min, unjudged, as Azure does not "
        "log copies for certain."
    )
    life.state = "Updating"
    life.tick()
    assert life.last.kind == "mirroring"
    life.state = "Succeeded"
    shows(life, green=10)
    for _ in range(10):
        assert life.tick(seconds=59).errands == ()
        assert (life.phase, life.writes) == (Phase.PREPARING, [])
    assert life.tick(seconds=80).errands == (OFF,)
    assert life.told("mirrored")
    assert life.writes == []
    shows(life)
    life.tick()
    life.tick()
    assert life.phase is Phase.PROGRESSING
    assert len(life.writes) == 1


def test_several_steps_follow_each_other() -> None:
    steps = (TEN, MirrorStep(mirror_traffic=30, bake=timedelta(minutes=5)))
    life = copying(policy=policy(mirror=steps))
    assert shown_states(life) == ["now", "ahead"]
    more = Mirror(deployment="green", share=30)
    assert life.tick(seconds=601).errands == (more,)
    shows(life, green=30)
    life.tick()
    assert shown_states(life) == ["done", "now"]
    assert life.tick(seconds=301).errands == (OFF,)
    assert shown_states(life) == ["done", "done"]


def shown_states(life: Life) -> list[str]:
    """The mirror steps as people see them."""
    view = rollout_view(life.rollout, snapshot=None, eta=Eta(), now=life.now)
    assert [step["mirror_traffic"] for step in view["mirror_steps"]] == [10, 30]
    return [step["state"] for step in view["mirror_steps"]]


def test_the_candidate_is_asked_again_after_the_copies() -> None:
    from rollout.policy import Probes

    life = Life(policy=mirroring(probes=Probes(requests=("{}",))))
    life.facts["trial"] = Trial(at=T0)
    assert life.tick().errands == (ON,)
    shows(life, green=10)
    life.tick()
    life.tick(seconds=601)
    shows(life)
    life.tick()
    assert life.last.sentence == "Not started yet: the policy's sample requests are being sent to both deployments."
    life.facts["trial"] = Trial(at=life.now, problem="green gave no answer within 4 s", final=True)
    life.tick()
    assert life.phase is Phase.ABORTED
    assert not life.rollout.owes


@pytest.mark.parametrize("state", ["Failed", "gone"])
def test_a_candidate_that_breaks_under_copies_ends_it_and_the_copies(state: str) -> None:
    life = copying()
    assert life.deployments is not None
    if state == "gone":
        del life.deployments["green"]
    else:
        life.deployments["green"] = deployment("green", state, model="recommender:2")
    life.tick()
    assert life.phase is Phase.ABORTED
    assert life.rollout.owes
    again = life.tick().errands
    assert again == (() if state == "gone" else (OFF,))
    shows(life)
    life.tick()
    assert not life.rollout.owes


def test_a_candidate_that_is_changed_under_copies_ends_it() -> None:
    life = copying()
    assert life.deployments is not None
    life.deployments["green"] = deployment("green", pin=pin("recommender:9"))
    life.tick()
    assert life.phase is Phase.ABORTED
    assert "green was changed in place (model) while it got copies" in life.last.sentence


def test_an_abort_takes_the_copies_off() -> None:
    life = copying()
    life.ask("abort", reason="the menu is wrong")
    assert life.phase is Phase.ABORTED
    assert life.rollout.owes
    assert life.tick().errands == (OFF,)
    shows(life)
    life.tick()
    assert not life.rollout.owes


def test_a_candidate_that_was_made_larger_is_made_smaller_once_it_gets_no_copies() -> None:
    life = Life(policy=mirroring(capacity=Capacity(instances=4)))
    life.facts["autoscale"] = {}
    assert life.deployments is not None
    assert life.tick().errands == (Scale(deployment="green", instances=4),)
    life.deployments["green"] = deployment("green", model="recommender:2", instances=4)
    life.facts["operations"] = {"scale:green": None}
    assert life.tick().errands == (ON,)
    shows(life, green=10)
    life.ask("abort", reason="the menu is wrong")
    assert life.tick().errands == (OFF,)
    shows(life)
    back = (Scale(deployment="green", instances=2, idle=True),)
    assert back in {life.tick().errands, life.tick().errands}
    assert not life.told("left_alone")


def test_copies_of_many_hours_leave_time_to_read_what_capacity_needs() -> None:
    day = MirrorStep(mirror_traffic=10, bake=timedelta(hours=5))
    life = Life(policy=policy(mirror=(day,), capacity=Capacity(instances=2), deadline=timedelta(days=1)))
    life.facts["autoscale"] = {}
    assert life.tick().errands == (ON,)
    shows(life, green=10)
    life.tick()
    life.tick(seconds=5 * 3600)
    shows(life)
    life.facts["autoscale"] = None
    life.tick()
    assert life.phase is Phase.PREPARING, life.last.sentence


def test_an_abort_before_azure_has_answered_waits_for_what_may_come() -> None:
    """Nobody knows whether the request has arrived: off is told when that can no longer happen."""
    life = Life(policy=mirroring(), errand_answer={"outcome": "unknown", "operation": None})
    life.tick()
    life.ask("abort", reason="the menu is wrong")
    life.tick(seconds=20)
    assert life.rollout.owes
    life.errand_answer = {"outcome": "done", "operation": None}
    life.tick(seconds=20)
    life.tick(seconds=61)
    life.tick(seconds=61)
    assert not life.rollout.owes


def test_a_person_who_changes_the_mirror_is_not_written_over() -> None:
    life = copying()
    shows(life)
    assert life.tick(seconds=15).errands == ()
    assert life.phase is Phase.ABORTED
    assert (
        "somebody changed the mirror traffic of restaurant-recommender: it is off now, and is left so"
        in life.last.sentence
    )
    assert not life.rollout.owes


def test_a_person_who_changes_the_mirror_late_is_not_written_over_either() -> None:
    life = copying()
    life.tick(seconds=300)
    life.endpoint_changes["mirror_traffic"] = Split()
    assert life.tick().errands == ()
    assert life.tick().errands == ()
    assert "it is off now, and is left so" in life.last.sentence


@pytest.mark.parametrize("after", [timedelta(), timedelta(hours=3)])
def test_one_look_that_lags_behind_is_no_person(after: timedelta) -> None:
    life = copying(policy=policy(mirror=(MirrorStep(mirror_traffic=10, bake=timedelta(hours=5)),)))
    life.tick(seconds=after.total_seconds())
    shows(life)
    shows(life, green=10)
    life.tick(seconds=15)
    life.tick(seconds=15)
    assert life.phase is Phase.PREPARING


def test_a_person_who_moves_traffic_meanwhile_ends_it() -> None:
    life = copying()
    life.traffic = {"blue": 50, "green": 50}
    life.tick()
    assert life.phase is Phase.ABORTED
    assert life.tick().errands == (OFF,)


def test_a_refusal_ends_it_with_azures_words() -> None:
    life = Life(policy=mirroring())
    life.tick()
    life.facts["operations"] = {"mirror:green": "BadRequest: no."}
    life.tick()
    assert life.phase is Phase.ABORTED
    assert life.last.sentence == "Not started: BadRequest: no."
    life.facts["operations"] = {}
    life.tick(seconds=301)
    shows(life)
    life.tick(seconds=301)
    life.tick(seconds=301)
    assert not life.rollout.owes


def test_kubernetes_mirrors_nothing() -> None:
    life = Life(policy=mirroring(), endpoint_changes={"kind": EndpointKind.KUBERNETES})
    life.tick()
    assert life.phase is Phase.ABORTED


def test_somebody_elses_mirror_is_refused_as_before() -> None:
    life = Life(policy=mirroring(), endpoint_changes={"mirror_traffic": Split.of({"green": 10})})
    assert life.tick().errands == ()
    assert life.phase is Phase.ABORTED
    assert "take the mirror traffic off first" in life.last.sentence


def test_who_only_observes_mirrors_nothing() -> None:
    life = Life(policy=mirroring(mode="observe"))
    assert life.tick().errands == ()
    assert life.rollout.mirroring is None
