"""Killed anywhere: whatever a process was doing when it ended, the next one brings the rollout to the same end.

Each story is played once undisturbed, and then several times with the process killed at a request to Azure (before it is
sent, or after Azure has taken it). The ends must be the same, told once each.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rollout.analysis.verdict import Judgement, Reason, Stage, Verdict
from rollout.lifecycle import Phase
from rollout.policy import Capacity
from tests.support.lives import FAIL, policy, verdict
from tests.support.local_azure import Killed
from tests.support.site import Site

P = Phase
LONGEST = 4 * 60  # looks of 15 s
SIZED = Capacity(match_stable=1.2)  # of three instances of blue, which Azure scales from two to five
MOST = 6  # kills of each kind and story


def passes(stage: Stage, now: int) -> Verdict:
    """Two minutes of each step, then a pass."""
    return verdict("pass") if now - stage.since >= 2 else verdict("hold")


def fails_at_the_second(stage: Stage, now: int) -> Verdict:
    """The second step is too much for it."""
    return FAIL if stage.step == 1 and now - stage.since >= 1 else passes(stage, now)


def is_suspect_at_first(stage: Stage, now: int) -> Verdict:
    """A doubt in the first minute of the second step, for three minutes; then it passes."""
    if stage.retreated_since is not None:
        return verdict("hold", Reason.RECOVERED) if now - stage.retreated_since >= 3 else verdict("retreat")
    if stage.step == 1 and now - stage.started < 5:
        return verdict("retreat")
    return passes(stage, now)


def wavers(stage: Stage, now: int) -> Verdict:
    """A judge who changes his mind with every look, faster than Azure takes writes on."""
    if stage.step == 1 and now - stage.started < 8:
        return verdict("retreat") if stage.retreated_since is None else verdict("hold", Reason.RECOVERED)
    return passes(stage, now)


@dataclass(frozen=True, kw_only=True)
class End:
    """What must not depend on a crash."""

    phase: Phase
    traffic: dict[str, int]
    told: tuple[str, ...]
    instances: dict[str, int]
    autoscaled: dict[str, tuple[int, int]]


STORIES: dict[str, tuple[Callable[[Stage, int], Verdict], Phase]] = {
    "promoted": (passes, P.SUCCEEDED),
    "rolled back": (fails_at_the_second, P.ROLLED_BACK),
    "retreats first": (is_suspect_at_first, P.SUCCEEDED),
}


class Story:
    """A rollout that is played, and perhaps killed at the n-th request of a kind."""

    def __init__(self, folder: Path, says: Callable[[Stage, int], Verdict]) -> None:
        self.says = says
        self.site = Site(folder, judge=self.judge, policy=policy(5, 25, 100, bake=2, capacity=SIZED))

    def judge(self, judgement: Judgement, *, stage: Stage, now: int, **_: object) -> tuple[Judgement, Verdict]:
        return judgement, self.says(stage, now)

    def play(self, *, killed_at: tuple[str, int] | None = None, errand: bool = False) -> End:
        """To the end."""
        site = self.site
        site.azure.begin()
        site.fleet.resize("blue", 3)
        site.fleet.autoscaled("blue", 2, 5)
        if killed_at is not None:
            kind, number = killed_at
            fates = ["taken"] * number + [kind]
            if kind == "read":
                site.azure.kill_at_read(number)
            else:
                (site.fleet.next_errands if errand else site.azure.next_writes).extend(fates)
        site.start()
        for _ in range(LONGEST):
            try:
                site.run(seconds=15, step=5)
            except Killed:
                site.restart()
            if site.rollout.ended and not site.rollout.owes:
                break
        told = tuple(event.kind for event in site.history if event.kind not in {"confirmed", "preparing"})
        return End(
            phase=site.rollout.phase,
            traffic=site.azure.traffic,
            told=told,
            instances=site.fleet.instances(),
            autoscaled=site.fleet.limits(),
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where that can be had: a story is many commits."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def played(folder: Path, name: str, *, errand: bool = False, **how: tuple[str, int]) -> tuple[End, Story]:
    where = folder / "-".join([name, *(f"{kind}{number}" for kind, number in how.values())]).replace(" ", "-")
    where.mkdir()
    story = Story(where, STORIES[name][0])
    try:
        return story.play(**how, errand=errand), story
    finally:
        story.site.store.close()


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("kind", ["killed before", "killed after"])
def test_killed_at_any_write_the_end_is_the_same(folder: Path, name: str, kind: str) -> None:
    undisturbed, story = played(folder, name)
    assert undisturbed.phase is STORIES[name][1]
    for number in range(min(len(story.site.azure.puts), MOST)):
        end, _ = played(folder, name, killed_at=(kind, number))
        assert end == undisturbed, f"killed at write {number}"


@pytest.mark.parametrize(
    ("name", "kind"), [("promoted", "killed after"), ("rolled back", "killed before"), ("rolled back", "killed after")]
)
def test_killed_at_any_errand_everything_is_put_back_all_the_same(folder: Path, name: str, kind: str) -> None:
    undisturbed, story = played(folder, name)
    promoted = name == "promoted"
    assert undisturbed.instances == {"blue": 3, "green": 4 if promoted else 1}
    assert undisturbed.autoscaled == {"blue": (2, 5), **({"green": (2, 5)} if promoted else {})}
    assert len(story.site.fleet.sent) == (5 if promoted else 6)
    for number in range(len(story.site.fleet.sent)):
        end, _ = played(folder, name, killed_at=(kind, number), errand=True)
        assert end == undisturbed, f"{kind} at errand {number}"


@pytest.mark.parametrize("name", STORIES)
def test_killed_at_a_read_the_end_is_the_same(folder: Path, name: str) -> None:
    undisturbed, story = played(folder, name)
    reads = sum(call != "set_traffic" for call in story.site.azure.calls)
    assert reads > 40
    for number in range(1, reads, reads // MOST):
        end, _ = played(folder, name, killed_at=("read", number))
        assert end == undisturbed, f"killed at read {number}"


def test_a_judge_who_wavers_faster_than_azure_is_never_taken_for_a_person(folder: Path) -> None:
    story = Story(folder, wavers)
    end = story.play()
    story.site.store.close()
    assert end.phase is P.SUCCEEDED
    assert end.told.count("retreated") > 5
    assert "paused" not in end.told
