"""What every store promises about releases: see `rollout.ports.Releases`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rollout.errors import ConflictError, RefusedError
from rollout.lifecycle import Phase
from rollout.lifecycle.releases import Decision, Facts, Release, ReleasePhase, Seen, new_release, steer
from rollout.policy import parse_policy
from rollout.ports import ReleasingStore
from rollout.store import open_store, retention
from rollout.world import EndpointRef, Verb
from tests.support.stories import NOON, a_command, a_rollout, an_alert

POLICY = "name: everywhere\nwaves: {order: [[rec-weu], [rec-neu, rec-eus]], between: 2h}\n"
REFS = [EndpointRef(workspace="prod", name=name) for name in ("rec-weu", "rec-neu", "rec-eus")]

OPENERS = {"sqlite": lambda folder: open_store(f"sqlite:///{folder}/rollout.db", exclusive=True)}


@pytest.fixture(params=OPENERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReleasingStore]:
    opened = OPENERS[request.param](tmp_path)
    yield opened
    opened.close()


def begun(release_id: str = "l1") -> Decision:
    """A release as it begins: with the rollout of its first wave."""
    policy = parse_policy(POLICY, file="waves.yaml")
    release = new_release(release_id=release_id, policy=policy, refs=REFS, by="anna", now=NOON)
    return steer(release, _unseen(release), NOON)


def _unseen(release: Release) -> Facts:
    return Facts(seen={member.rollout_id: Seen() for member in release.members})


def test_a_release_comes_back_as_it_was_with_its_first_rollouts(store: ReleasingStore) -> None:
    decision = begun()
    store.create_release(decision, [an_alert("a1", "team-ml", rollout_id="l1-1")])
    assert store.load_release("l1").release == decision.release
    assert store.latest_release("everywhere") == store.load_release("l1")
    assert store.releases(active_only=True) == [store.load_release("l1")]
    assert store.load("l1-1") == decision.starts[0].rollout
    assert store.latest(REFS[1]) is None
    assert [delivery.alert.id for delivery in store.deliveries("l1-1")] == ["a1"]


def test_there_is_one_active_release_of_a_name(store: ReleasingStore) -> None:
    store.create_release(begun(), [])
    with pytest.raises(ConflictError, match=r"an active release everywhere \(l1, running\)"):
        store.create_release(begun("l2"), [])
    ended = replace(begun().release, phase=ReleasePhase.STOPPED)
    store.save_release(Decision(release=ended), [], version=0)
    assert store.releases(active_only=True) == []
    found = store.latest_release("everywhere")
    assert found is not None
    assert found.release == ended


def test_nothing_is_written_where_an_endpoint_is_busy(store: ReleasingStore) -> None:
    store.create(a_rollout("r1", REFS[0]), [], [])
    with pytest.raises(ConflictError, match="rec-weu already has an active rollout"):
        store.create_release(begun(), [an_alert("a1", "team-ml", rollout_id="r1")])
    assert store.releases() == []
    assert store.deliveries() == []


def test_the_same_key_begins_one(store: ReleasingStore) -> None:
    assert store.begun_by("k") is None
    store.create_release(begun(), [], key="k")
    found = store.begun_by("k")
    assert found is not None
    assert found.release.id == "l1"
    store.save_release(Decision(release=replace(begun().release, phase=ReleasePhase.STOPPED)), [], version=0)
    with pytest.raises(ConflictError):
        store.create_release(begun("l2"), [], key="k")


def test_of_two_who_decide_one_is_told_to_look_again(store: ReleasingStore) -> None:
    store.create_release(begun(), [])
    release, version = store.load_release("l1")
    command = replace(a_command("c1"), rollout_id="l1-1", verb=Verb.PAUSE)
    store.save_release(Decision(release=replace(release, sentence="First."), commands=(command,)), [], version=version)
    late = Decision(release=replace(release, sentence="Late."), commands=(replace(command, id="c2"),))
    with pytest.raises(ConflictError, match="Release everywhere has changed meanwhile"):
        store.save_release(late, [an_alert("a2", "team-ml", rollout_id="l1-1")], version=version)
    assert store.load_release("l1").release.sentence == "First."
    assert [one.id for one in store.pending_commands("l1-1")] == ["c1"]
    assert store.deliveries() == []


def test_an_unknown_release_is_refused(store: ReleasingStore) -> None:
    with pytest.raises(RefusedError, match="There is no release l9"):
        store.load_release("l9")
    assert store.latest_release("nothing") is None


def test_old_releases_are_forgotten_once_they_have_ended(store: ReleasingStore) -> None:
    store.create_release(begun(), [])
    later = NOON + 2 * retention.KEEP_ROLLOUTS_FOR
    store.prune(now=later)
    assert store.load_release("l1")
    store.save_release(Decision(release=replace(begun().release, phase=ReleasePhase.STOPPED)), [], version=0)
    store.prune(now=later)
    assert store.releases() == []


def test_a_rollout_says_which_release_it_belongs_to(store: ReleasingStore) -> None:
    store.create_release(begun(), [])
    part = store.load("l1-1").part_of
    assert part is not None
    assert (part.release, part.release_id, part.wave, part.waves) == ("everywhere", "l1", 1, 2)
    assert store.load("l1-1").phase is Phase.PENDING
