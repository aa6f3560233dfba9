"""Checks tried out: over a real store and the sandbox's model of Azure."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from rollout.collector import WorkspaceSources
from rollout.daemon.trials import Trials
from rollout.errors import RefusedError, ThrottledError, UnavailableError
from rollout.policy import CustomCheck
from rollout.ports import Counted
from rollout.world import EndpointRef
from tests.support.collecting import Scene
from tests.support.lives import REF

CHECKS = [CustomCheck(name="empty", kql="T | count"), CustomCheck(name="odd", kql="U | count")]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


def trials(scene: Scene, **changes: object) -> Trials:
    given = {"logs_key": "la", "logs": scene.logs} | changes
    source = WorkspaceSources(workspace="prod", endpoints=scene.azure, **given)  # type: ignore[arg-type]
    return Trials(store=scene.store, clock=scene.azure.clock, collector=scene.collector, sources=[source])


def test_each_query_is_run_once_over_the_last_hours_and_fails_for_itself(scene: Scene) -> None:
    rows = [Counted(scene.minute - 5, "blue", 5, 1), Counted(scene.minute - 5, "old", 5, 1)]
    scene.logs.own = {"empty": rows, "odd": RefusedError("Check odd: row 1: n is -1.")}
    trial = trials(scene).run(REF, CHECKS, hours=2)
    assert trial.counts == {"empty": rows, "odd": "Check odd: row 1: n is -1."}
    assert (trial.end - trial.start, trial.end) == (121, scene.minute + 1)
    assert (trial.deployments, trial.stable) == ({"blue", "green"}, "blue")
    assert [query.kql for query, _, _ in scene.logs.counted] == ["T | count", "U | count"]
    assert {query.endpoint for query, _, _ in scene.logs.counted} == {scene.azure.cloud.identity.endpoint_id(REF.name)}
    stored = scene.store.cells("custom", REF, start=0, end=scene.minute + 1)
    assert (stored.cells, stored.read_at) == ({}, None)  # nothing is kept


def test_names_that_fit_no_deployment_are_an_answer_too(scene: Scene) -> None:
    scene.logs.own = {"empty": [Counted(scene.minute - 5, "menu/blue", 5, 1)]}
    found = trials(scene).run(REF, CHECKS, hours=1).counts
    assert "deployment is menu/blue, and the endpoint has blue, green" in str(found["empty"])
    assert found["odd"] == []


def test_stable_is_the_one_with_the_most_traffic(scene: Scene) -> None:
    scene.azure.by_hand(blue=30, green=70)
    scene.azure.settle()
    other = EndpointRef(workspace="prod", name=REF.name.upper())  # no rollout of this spelling runs
    assert trials(scene).run(other, CHECKS, hours=1).stable == "green"


def test_what_cannot_be_run_is_refused(scene: Scene) -> None:
    with pytest.raises(RefusedError, match="Azure shows no endpoint nobody in workspace prod"):
        trials(scene).run(EndpointRef(workspace="prod", name="nobody"), CHECKS, hours=1)
    with pytest.raises(RefusedError, match="has no log_workspace in the settings"):
        trials(scene, logs=None, logs_key=None).run(REF, CHECKS, hours=1)
    scene.logs.own = {"empty": ThrottledError("Slow down.")}
    with pytest.raises(ThrottledError):
        trials(scene).run(REF, CHECKS, hours=1)


def test_one_trial_at_a_time(scene: Scene) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Slow:
        def count(self, *_: object, **__: object) -> list[Counted]:
            asked.set()
            assert answer.wait(20)
            return []

    slow = trials(scene, logs=Slow())
    first = threading.Thread(target=lambda: slow.run(REF, CHECKS[:1], hours=1))
    first.start()
    try:
        assert asked.wait(20)
        with pytest.raises(UnavailableError, match="Another check is being tried"):
            slow.run(REF, CHECKS, hours=1)
    finally:
        answer.set()
        first.join()
    assert slow.run(REF, CHECKS[:1], hours=1).end == int((scene.now + timedelta(minutes=1)).timestamp() // 60)
