"""Replay: the judge again over what it was shown, by the real reconciler and the real store."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from rollout.analysis.replay import Judged, differences, replay
from rollout.analysis.verdict import Verdict
from rollout.lifecycle import Phase
from rollout.policy import Checks, ErrorCheck, Step
from tests.support.lives import policy
from tests.support.played import Played, played

VERDICT = TypeAdapter(Verdict)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A candidate that was good enough."""
    site = played(tmp_path_factory.mktemp("promoted"))
    assert site.rollout.phase is Phase.SUCCEEDED
    yield site
    site.store.close()


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A candidate that gets worse in its second step."""
    site = played(tmp_path_factory.mktemp("rolled_back"), worse_after=12)
    assert site.rollout.phase is Phase.ROLLED_BACK
    yield site
    site.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Played]:
    """An endpoint whose two deployments fail in 1 % of their answers, more or less."""
    site = Played(tmp_path)
    site.azure.begin()
    yield site
    site.store.close()


def again(site: Played) -> list[Judged]:
    """Every look of the rollout, judged again."""
    rollout = site.rollout
    return list(replay(rollout.policy, site.store.exhibits(rollout.id)))


def check_same(site: Played) -> list[Judged]:
    """Every verdict that the history holds comes out again, and in the end the judge knows the same, bit by bit."""
    looks = again(site)
    by_time = {look.at: look.verdict for look in looks}
    told = [event for event in site.history if "verdict" in event.details]
    taken = [event for event in told if event.at in by_time]
    assert taken
    for event in taken:
        kept: Any = event.details["verdict"]
        assert differences(VERDICT.validate_python(kept), by_time[event.at]) == []
    final = site.rollout.judgement
    assert final is not None
    assert looks[-1].judgement.dump() == final.dump()
    assert site.rollout.verdict == looks[-1].verdict
    return looks


def test_a_rollout_that_was_promoted_is_judged_the_same_again(promoted: Played) -> None:
    looks = check_same(promoted)
    assert [look.verdict.action for look in looks].count("pass") == 3
    assert {look.stage.step for look in looks} == {0, 1, 2}


def test_a_rollout_that_was_rolled_back_is_judged_the_same_again(rolled_back: Played) -> None:
    looks = check_same(rolled_back)
    assert looks[-1].verdict.action == "fail"
    assert any(look.stage.retreated_since for look in looks)


def test_a_rounding_error_is_no_difference(promoted: Played) -> None:
    verdict = replace(promoted.rollout.verdict, harmed=0.0)  # type: ignore[type-var]
    assert differences(verdict, replace(verdict, harmed=1e-13)) == []
    assert differences(verdict, replace(verdict, harmed=1e-6)) == ["harmed 0.0 and 1e-06"]
    assert differences(verdict, replace(verdict, evidence=verdict.evidence * (1 + 1e-10))) == []


def test_a_daemon_that_was_killed_keeps_on_recording(site: Played) -> None:
    site.start()
    site.run(minutes=15)
    site.restart()
    site.run(minutes=90)
    exhibits = site.store.exhibits("r1")
    assert [exhibit.whole for exhibit in exhibits].count(True) == 2
    assert [exhibit.begun is not None for exhibit in exhibits].count(True) == 1
    check_same(site)


def test_evidence_that_begins_afresh_is_replayed_afresh(site: Played) -> None:
    site.start()
    site.run(minutes=12)
    site.azure.deploy("green", 3)
    site.collector.look_round_robin("prod")
    site.run(minutes=2)
    assert site.rollout.paused_because == "changed"
    site.ask("resume", reason="a new version")
    site.run(minutes=30)
    assert [exhibit.begun is not None for exhibit in site.store.exhibits("r1")].count(True) == 2
    check_same(site)


def test_what_is_recorded_is_told_as_differences(promoted: Played) -> None:
    exhibits = promoted.store.exhibits("r1")
    first, *others = [
        sum(len(shown.baseline) + len(shown.candidate) for shown in exhibit.sources) for exhibit in exhibits
    ]
    minutes = exhibits[-1].now - exhibits[0].now
    assert first > 50  # stable's hour before
    assert sum(others) <= 3 * 2 * minutes  # each cell of the two deployments a few times: in part, and whole


def test_another_policy_judges_the_same_minutes(rolled_back: Played) -> None:
    ours = rolled_back.rollout.policy
    lenient = ours.model_copy(update={"checks": Checks(error_rate=ErrorCheck(max_increase="20pp"))})
    looks = list(replay(lenient, rolled_back.store.exhibits("r1"), instead_of=ours))
    assert len(looks) == len(again(rolled_back))
    free = [look for look in looks if look.stage.retreated_since is None]  # the traffic stays as it was
    assert {look.verdict.action for look in free} <= {"hold", "pass"}
    assert all(look.verdict.action != "fail" for look in looks)
    assert max(look.verdict.evidence for look in looks) < 1.5


def test_another_policy_s_bakes_count_where_the_steps_are_the_same(promoted: Played) -> None:
    ours = promoted.rollout.policy
    longer = policy(bake=40)
    other = policy(1, 2, 100, bake=40)
    exhibits = promoted.store.exhibits("r1")
    assert {look.stage.bake for look in replay(longer, exhibits, instead_of=ours)} == {40}
    assert {look.stage.bake for look in replay(other, exhibits, instead_of=ours)} == {10}
    assert ours.steps[0] == Step(traffic=5, bake=timedelta(minutes=10))


def test_what_was_shown_outlives_the_cells(promoted: Played) -> None:
    promoted.store.prune(now=promoted.azure.clock.now() + timedelta(days=365))
    assert promoted.store.cells("logs", promoted.rollout.ref, start=0, end=10**9).cells == {}
    check_same(promoted)
