"""What becomes of the old stable after a promotion: kept, made small, or deleted, as the policy says."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from rollout.analysis.verdict import Judgement, Verdict
from rollout.lifecycle import Phase
from rollout.lifecycle.again import undo_of
from rollout.policy import Capacity, parse_policy
from rollout.policy.after import After
from rollout.world import DeleteDeployment, Scale
from tests.support.lives import policy, verdict
from tests.support.local_azure import NAME, Killed
from tests.support.site import Site


class Passes:
    """A judge who lets every step pass."""

    def __call__(self, judgement: Judgement, **_: object) -> tuple[Judgement, Verdict]:
        return judgement, verdict("pass")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Blue has three instances, green one; somebody's purple stands by."""
    site = Site(tmp_path, judge=Passes())
    site.azure.begin()
    site.fleet.resize("blue", 3)
    yield site
    site.store.close()


def promoted(site: Site, then: str, **more: object) -> Site:
    site.start(policy(50, 100, after=After(keep_stable=None, then=then), **more))  # type: ignore[arg-type]
    for _ in range(40):
        if site.rollout.ended:
            break
        site.run(minutes=1)
    assert site.rollout.phase is Phase.SUCCEEDED, site.rollout.sentence
    return site


def finished(site: Site) -> Site:
    for _ in range(40):
        if not site.rollout.owes:
            break
        try:
            site.run(seconds=30)
        except Killed:
            site.restart()
    assert not site.rollout.owes
    return site


def test_it_is_deleted_once_the_candidate_has_everything(site: Site) -> None:
    finished(promoted(site, "delete"))
    assert site.fleet.instances() == {"green": 1}
    assert site.rollout.sentence.endswith("blue is deleted next.")
    assert [each.sentence for each in site.told("restored")] == ["blue is deleted."]


def test_it_is_made_small(site: Site) -> None:
    finished(promoted(site, "scale_to_1"))
    assert site.fleet.instances() == {"blue": 1, "green": 1}
    assert site.fleet.sent == [Scale(deployment="blue", instances=1, idle=True)]
    assert [each.sentence for each in site.told("restored")] == ["blue has 1 instance now."]


def test_an_undo_that_was_made_just_before_knows_of_it(site: Site) -> None:
    promoted(site, "scale_to_1")
    now = site.azure.clock.now()
    undo, events = undo_of([site.rollout], rollout_id="r2", by="bob", reason=None, now=now)
    while not site.fleet.sent:
        site.run(seconds=5)
    site.store.create(undo, events, ())
    assert [each.errand for each in site.store.load("r2").errands] == [Scale(deployment="blue", instances=1, idle=True)]


def test_its_autoscale_setting_says_how_small(site: Site) -> None:
    site.fleet.autoscaled("blue", 2, 5)
    finished(promoted(site, "scale_to_1", capacity=Capacity(match_stable=1.0)))
    assert site.fleet.instances() == {"blue": 2, "green": 3}
    assert site.fleet.limits() == {"blue": (2, 5), "green": (2, 5)}
    assert site.told("restored")[-1].sentence == "blue has 2 instances now, the minimum of its autoscale setting."


def test_a_stable_that_has_traffic_again_is_left_alone(site: Site) -> None:
    site.fleet.next_errands.extend(["conflict"] * 2)
    promoted(site, "delete")
    assert site.rollout.owes
    site.azure.settle()
    assert site.azure.by_hand(blue=10, green=90)
    site.azure.settle()
    finished(site)
    assert site.fleet.instances() == {"blue": 3, "green": 1}
    (told,) = site.told("left_alone")
    assert told.sentence == (
        "blue is left as it is, though the policy says `after: delete`: it has 10 % of the traffic."
    )


def test_a_stable_that_was_changed_in_place_is_left_alone(site: Site) -> None:
    site.fleet.next_errands.extend(["conflict"] * 2)
    promoted(site, "delete")
    site.azure.deploy("blue", 3)
    finished(site)
    assert set(site.fleet.instances()) == {"blue", "green"}
    assert "it was changed in place (model" in site.told("left_alone")[0].sentence


@pytest.mark.parametrize("fate", ["killed before", "killed after", "answer lost", "unanswered", "conflict"])
def test_whatever_becomes_of_the_request_only_the_old_stable_goes(site: Site, fate: str) -> None:
    site.azure.deploy("purple", 3)
    site.fleet.next_errands.append(fate)
    site.start(policy(50, 100, candidate="green", after=After(keep_stable=None, then="delete")))
    for _ in range(60):
        if site.rollout.ended and not site.rollout.owes:
            break
        try:
            site.run(minutes=1)
        except Killed:
            site.restart()
    assert site.fleet.instances() == {"green": 1, "purple": 1}
    assert all(each == DeleteDeployment(deployment="blue") for each in site.fleet.sent)


def test_it_is_kept_as_long_as_the_policy_says(site: Site) -> None:
    site.start(policy(50, 100, after=After(keep_stable=timedelta(minutes=30), then="delete")))
    for _ in range(40):
        if site.rollout.phase is Phase.GUARDING:
            break
        site.run(minutes=1)
    site.run(minutes=20)
    assert site.rollout.phase is Phase.GUARDING
    assert set(site.fleet.instances()) == {"blue", "green"}
    site.run(minutes=15)
    finished(site)
    assert site.rollout.phase is Phase.SUCCEEDED
    assert set(site.fleet.instances()) == {"green"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("delete", After(keep_stable=None, then="delete")),
        ("{keep_stable: 24h, then: scale_to_1}", After(keep_stable=timedelta(days=1), then="scale_to_1")),
    ],
)
def test_the_forms_of_after(written: str, meant: After) -> None:
    assert parse_policy(f"endpoint_name: menu\nafter: {written}\n", file="p.yaml").after == meant


def test_nothing_is_retired_after_a_roll_back(site: Site) -> None:
    site.start(policy(50, 100, after=After(keep_stable=None, then="delete")))
    site.run(minutes=3)
    site.ask("abort", reason="because")
    site.run(minutes=5)
    assert site.rollout.phase is Phase.ABORTED
    assert site.azure.cloud.deployment(NAME, "blue").spec.instances == 3
    assert site.fleet.sent == []
