"""Replay: the judge again over what it was shown, by the real reconciler and the real store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter

from rollout.analysis.cells import Cell
from rollout.analysis.replay import Judged, differences, replay
from rollout.analysis.verdict import Verdict
from rollout.lifecycle import Phase
from rollout.policy import Checks, ErrorCheck, Step
from rollout.ports import Reading
from tests.support.lives import policy
from tests.support.local_azure import LocalLogs
from tests.support.site import Site

VERDICT = TypeAdapter(Verdict)


@dataclass
class Trickling(LocalLogs):
    """Rows come by and by: a minute is first shown in part, and errors differ from minute to minute."""

    chance: Random = field(default_factory=lambda: Random(7))
    usual: dict[str, float] = field(default_factory=lambda: {"blue": 0.01, "green": 0.01})

    def note(self, minute: int) -> None:
        self.bad = {name: self.chance.uniform(0.0, 2 * base) for name, base in self.usual.items()}
        super().note(minute)

    def read(self, endpoints: Sequence[str], *, start: int, end: int) -> Reading:
        whole = super().read(endpoints, start=start, end=end)
        newest = int(self.azure.clock.now().timestamp() // 60) - self.lag
        cells = {
            name: {minute: _part(cell, 0.5 if newest - minute < 2 else 1.0) for minute, cell in minutes.items()}
            for name, minutes in whole.cells[endpoints[0]].items()
        }
        return Reading(cells={endpoints[0]: cells}, start=start, end=end)


def _part(cell: Cell, share: float) -> Cell:
    return Cell(
        histograms={
            name: {at: max(1, round(count * share)) for at, count in histogram.items()}
            for name, histogram in cell.histograms.items()
        }
    )


class Played(Site):
    """A site with such a log."""

    logs: Trickling

    def __post_init__(self) -> None:
        self.logs = Trickling(self.azure)
        self.open()


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A candidate that was good enough."""
    site = Played(tmp_path_factory.mktemp("promoted"))
    site.azure.begin()
    site.start()
    site.run(minutes=100)
    assert site.rollout.phase is Phase.SUCCEEDED
    yield site
    site.store.close()


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A candidate that gets worse in its second step."""
    site = Played(tmp_path_factory.mktemp("rolled_back"))
    site.azure.begin()
    site.start()
    site.run(minutes=12)
    site.logs.usual["green"] = 0.06
    site.run(minutes=90)
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
    promoted.store.prune(before=10**9)
    assert promoted.store.cells("logs", promoted.rollout.ref, start=0, end=10**9).cells == {}
    check_same(promoted)
