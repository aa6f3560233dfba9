"""Capacity: the candidate is given its instances once, before its first request, and everything is put back at the end."""

import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollout.analysis.verdict import Judgement, Verdict
from rollout.errors import ConflictError, PolicyError
from rollout.lifecycle import Phase, Rollout, new_rollout
from rollout.lifecycle.again import undo_of
from rollout.policy import Capacity, parse_policy
from rollout.policy.after import After
from rollout.policy.capacity import KEEP
from rollout.world import Event, Scale, SetAutoscale, Split
from tests.support.lives import FAIL, policy, verdict
from tests.support.local_azure import NAME, Killed
from tests.support.site import Site

MATCH = Capacity(match_stable=1.2)


class Said:
    """A judge who says what the test says."""

    def __init__(self) -> None:
        self.verdict: Verdict = verdict("hold")

    def __call__(self, judgement: Judgement, **_: object) -> tuple[Judgement, Verdict]:
        return judgement, self.verdict


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def site(tmp_path: Path, said: Said) -> Iterator[Site]:
    """Blue has three instances, green one."""
    site = Site(tmp_path, judge=said, policy=policy(capacity=MATCH))
    site.azure.begin()
    site.fleet.resize("blue", 3)
    yield site
    site.store.close()


def at_rest(site: Site) -> bool:
    return site.rollout.ended and not site.rollout.owes


def to_the_end(site: Site, *, minutes: int = 30) -> Rollout:
    for _ in range(minutes):
        if at_rest(site):
            break
        site.run(minutes=1)
    assert at_rest(site), site.rollout.sentence
    return site.rollout


def ask(site: Site, verb: str, **words: Any) -> None:
    site.ask(verb, reason="because", **words)


# --- the candidate's size


def test_the_candidate_is_scaled_once_before_any_traffic_and_stays_so(site: Site, said: Said) -> None:
    site.start()
    site.run(minutes=5)
    assert site.fleet.instances() == {"blue": 3, "green": 4}
    assert site.rollout.confirmed == Split.of({"blue": 95, "green": 5})
    assert [each.sentence for each in site.told("preparing")][-2:] == [
        "Not started yet: green is being scaled from 1 to 4 instances (blue has 3).",
        "Not started yet: deployment green is still Updating.",
    ]
    assert "green has 4 instances, blue 3." in site.told("progressing")[0].sentence
    assert site.rollout.pins is not None
    assert [each.instances for each in site.rollout.pins] == [3, 4]
    said.verdict = verdict("pass")
    assert to_the_end(site).phase is Phase.SUCCEEDED
    assert site.fleet.sent == [Scale(deployment="green", instances=4)]
    assert site.fleet.instances() == {"blue": 3, "green": 4}  # what serves all traffic keeps what it needs


def test_no_traffic_moves_while_it_is_scaled(site: Site) -> None:
    site.start()
    site.run(minutes=1)
    assert site.azure.cloud.deployment(NAME, "green").state == "Updating"
    assert site.azure.puts == []
    assert site.rollout.phase is Phase.PREPARING


def test_after_a_roll_back_the_candidate_has_its_instances_again(site: Site, said: Said) -> None:
    site.start()
    site.run(minutes=5)
    said.verdict = FAIL
    ended = to_the_end(site)
    assert ended.phase is Phase.ROLLED_BACK
    assert site.azure.traffic == {"blue": 100}
    assert site.fleet.instances() == {"blue": 3, "green": 1}
    assert ended.sentence.startswith("Rolled back, no action needed")
    assert [each.sentence for each in site.told("restored")] == ["green has 1 instance again."]
    kinds = [event.kind for event in site.history]
    assert kinds.index("rolled_back") < kinds.index("restored")  # the traffic did not wait for it


@pytest.mark.parametrize("capacity", [KEEP, Capacity(match_stable=0.1), Capacity(instances=1)])
def test_a_candidate_that_is_large_enough_is_left_as_it_is(site: Site, capacity: Capacity) -> None:
    site.start(policy(capacity=capacity))
    site.run(minutes=3)
    assert site.rollout.phase is Phase.PROGRESSING
    assert site.fleet.sent == []
    assert site.rollout.originals == ()


def test_the_policys_number_is_taken(site: Site) -> None:
    site.start(policy(capacity=Capacity(instances=7)))
    site.run(minutes=5)
    assert site.fleet.instances() == {"blue": 3, "green": 7}


def test_stable_is_counted_once(site: Site) -> None:
    site.start()
    site.run(minutes=1)
    assert site.rollout.sizes == (3, 4)
    site.fleet.resize("blue", 6)
    site.run(minutes=5)
    assert site.rollout.phase is Phase.PROGRESSING
    assert site.fleet.instances() == {"blue": 6, "green": 4}


def test_a_refusal_ends_the_rollout_before_any_traffic_with_azures_words(site: Site) -> None:
    site.fleet.next_errands.append("refused")
    site.start()
    ended = to_the_end(site)
    assert ended.phase is Phase.ABORTED
    assert site.azure.puts == []
    assert ended.sentence == site.told("aborted")[0].sentence  # how it ended, whatever was put back since
    assert site.told("aborted")[0].sentence == (
        "Not started: green needs 4 instances, and Azure refused: Azure said: not enough quota. Mend that, or write another "
        "`capacity` into the policy."
    )


def test_an_operation_that_fails_ends_it_with_the_reason(site: Site) -> None:
    from rollout.sandbox.faults import ArmFault

    fault = ArmFault(kind="fail_operation", since=site.azure.clock.now(), count=1)
    site.azure.cloud.faults.add(fault)
    site.start()
    ended = to_the_end(site)
    assert ended.phase is Phase.ABORTED
    assert "green needs 4 instances, and Azure refused:" in site.told("aborted")[0].sentence
    assert site.azure.puts == []
    assert site.fleet.instances()["green"] == 1


def test_a_person_who_aborts_meanwhile_gets_everything_back(site: Site) -> None:
    site.start()
    site.run(minutes=1)
    ask(site, "abort")
    ended = to_the_end(site)
    assert ended.phase is Phase.ABORTED
    assert site.fleet.instances() == {"blue": 3, "green": 1}
    assert site.azure.puts == []


def test_what_somebody_else_has_changed_is_left_to_them(site: Site, said: Said) -> None:
    site.start()
    site.run(minutes=5)
    site.fleet.resize("green", 9)
    said.verdict = FAIL
    to_the_end(site)
    assert site.fleet.instances() == {"blue": 3, "green": 9}
    assert site.told("left_alone")[0].sentence == "green keeps its 9 instances: somebody else has changed them."


def test_a_candidate_with_traffic_keeps_its_instances(site: Site) -> None:
    """A person takes over: the rollout ends, and green serves."""
    site.start()
    site.run(minutes=5)
    site.azure.by_hand(blue=100)
    site.azure.settle()
    while not site.rollout.ended:
        site.azure.clock.move(5)
        site.poll()
        site.store.wake([site.rollout.ref], now=site.azure.clock.now())
        site.tick()
        if site.rollout.ended:
            site.azure.by_hand(blue=50, green=50)
            site.azure.settle()
    to_the_end(site)
    assert site.fleet.instances() == {"blue": 3, "green": 4}
    assert site.told("left_alone")[0].sentence == "green keeps its 4 instances: it has traffic."


# --- autoscale


def test_both_keep_their_size_while_the_rollout_runs(site: Site, said: Said) -> None:
    site.fleet.autoscaled("blue", 2, 5)
    site.start()
    site.run(minutes=5)
    assert site.rollout.phase is Phase.PROGRESSING
    assert site.fleet.limits() == {"blue": (3, 5), "green": (4, 5)}
    (copy,) = [each for each in site.azure.cloud.autoscale.all() if each.name.startswith("rollout-")]
    rule = copy.body["properties"]["profiles"][0]["rules"][0]
    assert rule["metricTrigger"]["metricResourceUri"].endswith("/deployments/green")
    said.verdict = FAIL
    to_the_end(site)
    assert site.fleet.limits() == {"blue": (2, 5)}
    assert site.fleet.instances() == {"blue": 3, "green": 1}
    assert [each.sentence for each in site.told("restored")] == [
        "The autoscale setting of blue is as the rollout leaves it.",
        "The autoscale setting of green is as the rollout leaves it.",
        "green has 1 instance again.",
    ]


def test_a_promoted_candidate_keeps_the_copy_with_stables_own_limits(site: Site, said: Said) -> None:
    site.fleet.autoscaled("blue", 2, 3)
    site.start()
    said.verdict = verdict("pass")
    assert to_the_end(site, minutes=60).phase is Phase.SUCCEEDED
    assert site.fleet.limits() == {"blue": (2, 3), "green": (2, 3)}


def test_the_candidates_own_setting_is_raised_and_put_back(site: Site, said: Said) -> None:
    site.fleet.autoscaled("green", 1, 2)
    site.start()
    site.run(minutes=5)
    assert site.fleet.limits() == {"green": (4, 4)}
    said.verdict = FAIL
    to_the_end(site)
    assert site.fleet.limits() == {"green": (1, 2)}


def test_a_setting_that_somebody_else_has_changed_is_theirs(site: Site, said: Said) -> None:
    site.fleet.autoscaled("blue", 2, 5)
    site.start()
    site.run(minutes=5)
    site.fleet.autoscaled("blue", 1, 9)
    said.verdict = FAIL
    to_the_end(site)
    assert site.fleet.limits() == {"blue": (1, 9)}


def test_settings_that_cannot_be_read_are_awaited_and_told(site: Site) -> None:
    site.fleet.unreadable = "Cannot read the autoscale settings: 403."
    site.start()
    site.run(minutes=5)
    assert site.rollout.phase is Phase.PREPARING
    assert site.told("preparing")[-1].sentence == "Not started yet: Cannot read the autoscale settings: 403."
    site.fleet.unreadable = None
    site.run(minutes=5)
    assert site.rollout.phase is Phase.PROGRESSING


# --- what goes wrong at the end


def test_what_azure_refuses_to_put_back_is_told_once_and_tried_again(site: Site, said: Said) -> None:
    site.start()
    site.run(minutes=5)
    said.verdict = FAIL
    site.fleet.next_errands.extend(["refused", "refused"])
    to_the_end(site, minutes=60)
    assert site.fleet.instances() == {"blue": 3, "green": 1}
    (told,) = site.told("not_restored")
    assert told.sentence.startswith("Scaling green back to 1 is not done: Azure said: not enough quota.")


def test_no_other_rollout_begins_while_something_is_put_back(site: Site, said: Said) -> None:
    site.start()
    site.run(minutes=5)
    said.verdict = FAIL
    site.fleet.next_errands.extend(["conflict"] * 3)
    while not site.rollout.ended:
        site.run(seconds=5)
    assert site.rollout.owes
    assert [each.id for each in site.store.rollouts(active_only=True)] == ["r1"]
    to_the_end(site)
    assert site.store.rollouts(active_only=True) == []


def test_after_a_day_the_rest_is_left_to_a_person(site: Site, said: Said) -> None:
    site.start()
    site.run(minutes=5)
    said.verdict = FAIL
    site.fleet.next_errands.extend(["refused"] * 1000)
    while not site.rollout.ended:
        site.run(seconds=5)
    site.azure.clock.move(86_400)
    to_the_end(site)
    assert site.told("not_restored")[-1].sentence.startswith(
        "Left to you: the instances or the autoscale settings of green"
    )


# --- crashes


@pytest.mark.parametrize(
    ("fate", "number"),
    [
        ("killed before", 0),
        ("killed after", 1),
        ("killed after", 2),
        ("answer lost", 2),
        ("unanswered", 2),
        ("conflict", 1),
    ],
)
def test_whatever_becomes_of_a_request_the_end_is_the_same(site: Site, said: Said, fate: str, number: int) -> None:
    """Three errands lead to the first step (both settings, the scale), three back."""
    site.fleet.autoscaled("blue", 2, 5)
    for place in itertools.chain([number], [3]):
        site.fleet.next_errands.extend(["taken"] * place + [fate])
    site.start()
    for _ in range(40):
        if site.rollout.phase is Phase.PROGRESSING and site.rollout.confirmed == Split.of({"blue": 95, "green": 5}):
            said.verdict = FAIL
        if at_rest(site):
            break
        try:
            site.run(seconds=30)
        except Killed:
            site.restart()
    assert site.rollout.phase is Phase.ROLLED_BACK
    assert at_rest(site)
    assert site.fleet.limits() == {"blue": (2, 5)}
    assert site.fleet.instances() == {"blue": 3, "green": 1}


# --- what ends a rollout that only guards


def guarding(site: Site, said: Said, *, autoscaled: bool = True) -> Site:
    if autoscaled:
        site.fleet.autoscaled("blue", 2, 5)
    said.verdict = verdict("pass")
    site.start(policy(50, 100, capacity=MATCH, after=After(keep_stable=timedelta(hours=1), then="delete")))
    for _ in range(60):
        if site.rollout.phase is Phase.GUARDING:
            break
        site.run(minutes=1)
    assert site.rollout.phase is Phase.GUARDING
    held = {"blue": (3, 5), "green": (4, 5)}  # stable can take everything back
    assert site.fleet.limits() == (held if autoscaled else {})
    return site


def asked_for(site: Site, by: Rollout, events: tuple[Event, ...]) -> None:
    site.store.create(by, events, ())
    assert not site.rollout.owes


def until_r2_is_over(site: Site) -> Rollout:
    for _ in range(120):
        found = site.store.load("r2")
        if found.ended and not found.owes:
            return found
        site.azure.clock.move(15)
        site.poll()
        site.read()
        site.store.wake([found.ref], now=site.azure.clock.now())
        site.tick()
    raise AssertionError(site.store.load("r2").sentence)


def test_an_undo_puts_everything_back_as_it_was(site: Site, said: Said) -> None:
    guarding(site, said)
    asked_for(site, *undo_of([site.rollout], rollout_id="r2", by="bob", now=site.azure.clock.now(), reason="because"))
    assert until_r2_is_over(site).phase is Phase.ROLLED_BACK
    assert site.azure.traffic == {"blue": 100}
    assert site.fleet.limits() == {"blue": (2, 5)}
    assert site.fleet.instances() == {"blue": 3, "green": 1}


def test_an_undo_leaves_a_candidate_alone_that_a_person_has_made_larger(site: Site, said: Said) -> None:
    guarding(site, said, autoscaled=False)
    site.fleet.resize("green", 9)
    asked_for(site, *undo_of([site.rollout], rollout_id="r2", by="bob", now=site.azure.clock.now(), reason="because"))
    assert until_r2_is_over(site).phase is Phase.ROLLED_BACK
    assert site.fleet.instances() == {"blue": 3, "green": 9}


def test_who_asks_too_soon_is_told_to_wait(site: Site, said: Said) -> None:
    site.start()
    site.run(minutes=5)
    said.verdict = FAIL
    site.fleet.next_errands.extend(["conflict"] * 3)
    while not site.rollout.ended:
        site.run(seconds=5)
    by, events = new_rollout(
        rollout_id="r2", ref=site.rollout.ref, policy=policy(), candidate=None, by="bob", now=site.azure.clock.now()
    )
    with pytest.raises(ConflictError, match="still puts its deployments back as they were: try again in a minute"):
        site.store.create(by, events, ())


# --- the policy


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("keep", KEEP),
        ("match_stable", MATCH),
        ("{match_stable: 2}", Capacity(match_stable=2.0)),
        ("{instances: 3}", Capacity(instances=3)),
    ],
)
def test_the_forms_of_capacity(written: str, meant: Capacity) -> None:
    assert parse_policy(f"endpoint_name: menu\ncapacity: {written}\n", file="p.yaml").capacity == meant


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("big", '"big" is none of keep, match_stable'),
        ("{}", "is empty"),
        ("{instances: 2, match_stable: 1.5}", "has two sizes"),
        ("{instances: 0}", "write at least 1"),
    ],
)
def test_what_is_no_capacity(written: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told):
        parse_policy(f"endpoint_name: menu\ncapacity: {written}\n", file="p.yaml")


def test_a_rollout_that_observes_changes_no_size(site: Site) -> None:
    site.start(policy(capacity=MATCH, mode="observe"))
    site.run(minutes=5)
    assert site.fleet.sent == []
    assert not any(isinstance(each, SetAutoscale) for each in site.fleet.sent)
