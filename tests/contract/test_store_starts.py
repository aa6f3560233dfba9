"""What every store promises of what starts rollouts: see `rollout.ports.Store`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from rollout.errors import ConflictError
from rollout.lifecycle.phases import Phase
from rollout.ports import Start, Store
from rollout.store import open_store, retention
from rollout.world import EndpointRef
from tests.support.stories import NOON, REF, a_rollout, an_event

OTHER = EndpointRef(workspace="prod", name="menu-ranker")
KEY = "deployment/prod/restaurant-recommender/green"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/rollout.db", exclusive=True)
    yield opened
    opened.close()


def _end(store: Store, rollout_id: str) -> None:
    (lease,) = store.claim_due(now=NOON, owner="me", lease=timedelta(seconds=30))
    store.save(lease, a_rollout(rollout_id, phase=Phase.ROLLED_BACK))


def a_start(key: str = KEY, **changes: object) -> Start:
    start = Start(key=key, ref=REF, policy="recommender", kind="deployment", what="deployment green appeared", at=NOON)
    return replace(start, **changes)


def test_a_key_starts_one_rollout_also_after_that_has_ended(store: Store) -> None:
    assert store.create(a_rollout("r1"), [an_event()], [], key=KEY) == "r1"
    assert store.create(a_rollout("r2"), [an_event()], [], key=KEY) == "r1"
    _end(store, "r1")

    assert store.create(a_rollout("r3"), [an_event()], [], key=KEY) == "r1"

    assert [rollout.id for rollout in store.rollouts()] == ["r1"]
    assert store.history("r3") == []
    assert store.find_start(KEY).rollout_id == "r1"
    assert store.create(a_rollout("r4"), [], [], key="another") == "r4"


def test_a_key_is_free_again_where_its_endpoint_was_busy(store: Store) -> None:
    store.create(a_rollout("r1"), [], [])
    with pytest.raises(ConflictError, match="already has an active rollout"):
        store.create(a_rollout("r2"), [], [], key=KEY)
    assert store.find_start(KEY) is None
    _end(store, "r1")

    assert store.create(a_rollout("r2"), [], [], key=KEY) == "r2"


def test_many_attempts_with_one_key_start_one(store: Store) -> None:
    store.note_starts([a_start()])

    def start(number: int) -> str | None:
        with suppress(ConflictError):
            ref = replace(REF, name=f"endpoint-{number % 3}")  # no other rule keeps them apart
            return store.create(a_rollout(f"r{number}", ref), [], [], key=KEY)
        return None

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(16)))) == 1
    assert len(store.rollouts()) == 1


def test_what_was_noted_waits_until_it_is_started(store: Store) -> None:
    green = a_start(subject={"deployment": "green"})

    assert store.note_starts([green, a_start("other", ref=OTHER)]) == [green, a_start("other", ref=OTHER)]
    assert store.note_starts([replace(green, what="again", state="refused")]) == []
    assert store.starts(REF) == [green]
    assert store.starts(limit=1) == [a_start("other", ref=OTHER)]

    store.create(a_rollout("r1"), [], [], key=KEY)
    done = replace(green, state="started", rollout_id="r1", settled_at=store.load("r1").created_at)
    assert store.starts(REF) == [done]
    assert store.starts(state="waiting") == [a_start("other", ref=OTHER)]
    assert not store.settle_start(KEY, state="passed", why="too late", now=NOON)
    assert store.find_start(KEY) == done


def test_what_was_passed_over_is_never_started(store: Store) -> None:
    store.note_starts([a_start(), a_start("known", state="known")])
    assert store.settle_start(KEY, state="passed", why="black came after it", now=NOON)

    for key, why in ((KEY, "black came after it"), ("known", "known")):
        with pytest.raises(ConflictError, match=f"is not started: {why}"):
            store.create(a_rollout("r1"), [], [], key=key)
    assert store.rollouts() == []
    found = store.find_start(KEY)
    assert (found.state, found.why, found.settled_at) == ("passed", "black came after it", NOON)


def test_only_the_runs_of_schedules_are_forgotten(store: Store) -> None:
    store.note_starts([a_start(), a_start("run", kind="schedule", state="passed")])

    store.prune(now=NOON + retention.KEEP_ROLLOUTS_FOR)
    assert len(store.starts()) == 2
    store.prune(now=NOON + retention.KEEP_ROLLOUTS_FOR + timedelta(seconds=1))

    assert [start.key for start in store.starts()] == [KEY]
