"""What every store promises about lessons: see `rollout.ports.Store.noise`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollout.analysis.evidence import Noise, Process
from rollout.analysis.judgement import CheckState, Judgement, SourceState
from rollout.analysis.noise import Lesson, lesson
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.ports import Store
from rollout.store import open_store
from rollout.store.noise import KEPT_ROLLOUTS
from rollout.world import EndpointRef
from tests.support.stories import NOON, REF, a_rollout

OTHER = EndpointRef(workspace="prod", name="menu-ranker")


def _sqlite(folder: Path) -> Store:
    return open_store(f"sqlite:///{folder}/rollout.db", exclusive=True)


IMPLEMENTATIONS: Mapping[str, Callable[[Path], Store]] = {"sqlite": _sqlite}


@pytest.fixture(params=IMPLEMENTATIONS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = IMPLEMENTATIONS[request.param](tmp_path)
    yield opened
    opened.close()


def _judgement(weight: float = 7.0) -> Judgement:
    checks = {
        name: CheckState(process=Process(blocks=9, noise=Noise(surplus=0.1 + 0.2, weight=weight)))
        for name in ("error_rate", "latency_p95")
    }
    return Judgement(alpha=0.05, sources={"logs": SourceState(checks=checks)})


def _ended(number: int, **changes: Any) -> Rollout:
    told = {"phase": Phase.SUCCEEDED, "judgement": _judgement(float(number))}
    return a_rollout(f"r{number}", **{**told, **changes})


def _run(store: Store, rollout: Rollout, *, saves: int = 1) -> None:
    store.create(replace(rollout, phase=Phase.PROGRESSING), [], [])
    (lease,) = store.claim_due(now=NOON, owner="me", lease=timedelta(seconds=30))
    for _ in range(saves):
        store.save(lease, rollout)
    store.release(lease, due_at=NOON)


def test_a_promoted_rollout_teaches_its_endpoint_once(store: Store) -> None:
    assert store.noise(REF) == {}
    _run(store, _ended(7), saves=2)

    taught = lesson(Process(blocks=9, noise=Noise(surplus=0.1 + 0.2, weight=7.0)), 0.3)
    assert store.noise(REF) == {"logs": {"error_rate": [taught], "latency_p95": [taught]}}
    assert store.noise(OTHER) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": Phase.ROLLED_BACK},
        {"phase": Phase.ABORTED},
        {"phase": Phase.HALTED},
        {"phase": Phase.PROMOTING},
        {"past_fail": 1},
        {"judgement": None},
    ],
    ids=str,
)
def test_what_did_not_end_well_teaches_nothing(store: Store, changes: dict[str, Any]) -> None:
    _run(store, _ended(1, **changes))

    assert store.noise(REF) == {}


def test_the_last_rollouts_of_each_endpoint_are_remembered(store: Store) -> None:
    _run(store, _ended(100, ref=OTHER))
    for number in range(1, KEPT_ROLLOUTS + 3):
        _run(store, _ended(number))

    kept = [round(one.blocks / 0.3**4) for one in store.noise(REF)["logs"]["error_rate"]]
    assert kept == list(range(3, KEPT_ROLLOUTS + 3))
    assert [type(one) for one in store.noise(OTHER)["logs"]["latency_p95"]] == [Lesson]
