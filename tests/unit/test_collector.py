"""The collector: windows, closing, waking, troubles; on a real store and the sandbox's model of Azure."""

from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from rollout.analysis.cells import Cell
from rollout.collector import Collector, WorkspaceSources
from rollout.errors import RefusedError, RolloutError, ThrottledError, UnavailableError
from rollout.ports import Reading
from rollout.sandbox.seed import endpoint_body
from rollout.world import EndpointRef
from tests.support.collecting import Scene
from tests.support.lives import REF
from tests.support.local_azure import BOB

MINUTE = timedelta(minutes=1)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


# --- endpoints


def test_a_look_is_one_call_for_all_endpoints_and_wakes_once(scene: Scene) -> None:
    scene.azure.calls.clear()
    scene.collector.look("prod")
    assert scene.azure.calls == ["list"]
    assert scene.woken == [REF]
    scene.collector.look("prod")
    assert scene.woken == [REF]  # nothing changed
    scene.azure.by_hand(blue=50, green=50)
    scene.collector.look("prod")
    assert scene.woken == [REF, REF]  # it is updating


def test_a_snapshot_is_dated_before_its_request(scene: Scene) -> None:
    before = scene.now
    scene.collector.look("prod")
    snapshot = scene.collector.latest(REF)
    assert snapshot is not None
    assert snapshot.requested_at == before < scene.now
    assert snapshot.deployments is None  # nobody has asked


def test_a_look_keeps_the_deployments_that_were_seen_before(scene: Scene) -> None:
    fresh = scene.collector.fresh(REF, deployments=True)
    assert set(fresh.deployments or ()) == {"blue", "green"}
    scene.collector.look("prod")
    latest = scene.collector.latest(REF)
    assert latest is not None
    assert latest.deployments == fresh.deployments
    assert scene.collector.fresh(REF, deployments=False).deployments == fresh.deployments


def test_names_are_compared_as_azure_does(scene: Scene) -> None:
    scene.azure.cloud.put_endpoint("menu", endpoint_body({}, scene.azure.cloud.identity), actor=BOB)
    scene.azure.settle()
    shouting = EndpointRef(workspace="prod", name="MENU")
    scene.begin(shouting)
    scene.collector.look("prod")
    assert set(scene.woken) == {REF, shouting}
    snapshot = scene.collector.latest(shouting)
    assert snapshot is not None
    assert snapshot.endpoint is not None


def test_an_answer_that_was_overtaken_is_dropped(scene: Scene) -> None:
    scene.collector.look("prod")
    young = scene.collector.latest(REF)
    scene.azure.clock.move(-30)  # an older request, answered late
    scene.collector.look("prod")
    assert scene.collector.latest(REF) == young


def test_one_malformed_endpoint_blinds_nobody_else(scene: Scene) -> None:
    other = EndpointRef(workspace="prod", name="menu")
    scene.azure.cloud.put_endpoint("menu", endpoint_body({}, scene.azure.cloud.identity), actor=BOB)
    scene.azure.settle()
    scene.begin(other)
    scene.azure.broken["menu"] = "its traffic is 'much'"
    scene.collector.look("prod")
    assert scene.woken == [REF]
    assert scene.collector.trouble(REF) is None
    assert scene.collector.trouble(other) == "endpoint menu cannot be read: its traffic is 'much'"
    assert scene.collector.latest(other) is None  # not known, and not "does not exist"
    scene.azure.broken.clear()
    scene.collector.look("prod")
    assert scene.collector.trouble(other) is None


def test_what_a_list_does_not_show_is_asked_for_by_name_before_it_counts_as_gone(scene: Scene) -> None:
    missing = EndpointRef(workspace="prod", name="menu")
    scene.begin(missing)
    scene.azure.calls.clear()
    scene.collector.look("prod")
    assert scene.azure.calls == ["list", "get"]
    snapshot = scene.collector.latest(missing)
    assert snapshot is not None
    assert snapshot.endpoint is None
    assert set(scene.woken) == {REF, missing}


def test_the_round_robin_sees_one_endpoint_at_a_time(scene: Scene) -> None:
    scene.begin(EndpointRef(workspace="prod", name="menu"))
    scene.azure.calls.clear()
    for _ in range(4):
        scene.collector.look_round_robin("prod")
    assert scene.azure.calls.count("get") == 4
    assert scene.azure.calls.count("deployments") == 2  # the other one does not exist
    scene.woken.clear()
    scene.azure.deploy("green", 3)
    for _ in range(2):
        scene.collector.look_round_robin("prod")
    assert REF in scene.woken


def test_a_workspace_that_left_the_settings_is_a_refusal_with_a_remedy(scene: Scene) -> None:
    gone = EndpointRef(workspace="old", name="menu")
    with pytest.raises(RefusedError, match="workspace old is not in the settings: add it"):
        scene.collector.fresh(gone, deployments=True)
    assert "workspace old is not in the settings" in (scene.collector.trouble(gone) or "")


# --- cells: which minutes


def test_a_new_rollout_reads_the_hour_before_it_once(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    ((ids, start, end),) = scene.logs.asked
    assert ids == [scene.azure.cloud.identity.endpoint_id(REF.name).lower()]
    assert (end - start, end) == (75, scene.minute + 1)
    assert len(scene.stored()) == 75 - scene.logs.lag - 1
    assert scene.woken == [REF, REF]
    scene.azure.clock.move(60)
    scene.collector.read("logs", "la")
    _, start, end = scene.logs.asked[-1]
    assert end - start == 15  # the lag of ten minutes, three more, and the minute since the last look


def test_nothing_is_read_for_nobody(scene: Scene) -> None:
    scene.collector.read("logs", "la")  # no endpoint was seen yet
    scene.collector.look("prod")
    scene.collector.read("logs", "another")
    assert scene.logs.asked == []


def test_now_and_then_half_an_hour_is_read_again(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    spans = []
    for _ in range(11):
        scene.collector.read("logs", "la")
        _, start, end = scene.logs.asked[-1]
        spans.append(end - start)
        scene.azure.clock.move(60)
    assert spans == [75, 15, 15, 15, 15, 30, 15, 15, 15, 15, 30]


def test_after_a_gap_what_was_missed_is_read_and_a_failed_recheck_is_not_forgotten(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    scene.azure.clock.move(20 * 60)
    scene.logs.error = UnavailableError("The log workspace did not answer.")
    with pytest.raises(UnavailableError):
        scene.collector.read("logs", "la")
    scene.logs.error = None
    scene.azure.clock.move(20 * 60)
    scene.collector.read("logs", "la")
    _, start, end = scene.logs.asked[-1]
    assert end - start == 40 + 14


def test_a_long_gap_is_bounded(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    scene.azure.clock.move(24 * 3600)
    scene.collector.read("logs", "la")
    _, start, end = scene.logs.asked[-1]
    assert end - start == 75


def test_two_workspaces_of_the_settings_that_are_one_in_azure_both_get_their_cells(scene: Scene) -> None:
    alias = EndpointRef(workspace="alias", name=REF.name)
    scene.begin(alias)
    sources = [
        WorkspaceSources(workspace=name, endpoints=scene.azure, logs_key="la", logs=scene.logs)
        for name in ("prod", "alias")
    ]
    both = Collector(store=scene.store, clock=scene.azure.clock, sources=sources, on_change=scene.woken.extend)
    scene.history()
    for name in ("prod", "alias"):
        both.look(name)
    both.read("logs", "la")
    assert len(scene.logs.asked) == 1
    assert len(scene.logs.asked[0][0]) == 1
    for ref in (REF, alias):
        assert scene.store.cells("logs", ref, start=0, end=scene.minute).cells["blue"]


def test_deployments_are_stored_case_folded(scene: Scene) -> None:
    class Loud:
        def read(self, endpoints: list[str], *, start: int, end: int, measured: Collection[str] = ()) -> Reading:
            cell = Cell(histograms={"ok": {1: 1}})
            return Reading(cells={endpoints[0]: {"BLUE": {start: cell}}}, start=start, end=end)

    loud = scene.make(logs=Loud())
    loud.look("prod")
    loud.read("logs", "la")
    assert len(scene.stored()) == 1


# --- cells: closed and steady


def test_minutes_close_after_the_lag_and_then_nothing_changes_them(tmp_path: Path) -> None:
    scene = Scene(tmp_path, lag=timedelta(minutes=5))
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    found = scene.store.cells("logs", REF, start=0, end=scene.minute + 1)
    # a minute is closed when five minutes have passed since its end
    assert found.closed_before == int((scene.now - 5 * MINUTE).timestamp() // 60)
    closed, still_open = found.closed_before - 1, found.closed_before
    before = scene.stored()
    scene.logs.bad["blue"] = 0.5
    for minute in (closed, still_open):
        scene.logs.note(minute)
    scene.collector.read("logs", "la")
    after = scene.stored()
    assert after[closed] == before[closed]
    assert still_open in before
    assert after[still_open] != before[still_open]
    scene.store.close()


def test_reading_the_same_again_makes_open_minutes_steady_and_wakes_no_longer(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    for _ in range(4):
        scene.collector.read("logs", "la")
    found = scene.store.cells("logs", REF, start=scene.minute - 8, end=scene.minute)
    assert set(found.unchanged["blue"].values()) == {2}
    scene.woken.clear()
    scene.collector.read("logs", "la")
    assert scene.woken == []


def test_the_lag_is_learned_from_what_was_seen(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    assert scene.collector.lag("logs", "la") == timedelta(minutes=10)
    lags = []
    for arrived in (timedelta(minutes=4), timedelta(minutes=1), timedelta(minutes=40)):
        scene.collector = scene.make()
        scene.collector.look("prod")
        scene.logs.arrived = arrived
        for _ in range(5):
            scene.collector.read("logs", "la")
        lags.append(scene.collector.lag("logs", "la"))
    assert lags == [timedelta(minutes=5), timedelta(minutes=3), timedelta(minutes=20)]


def test_a_lag_that_is_given_is_not_learned_and_metrics_have_their_own(tmp_path: Path) -> None:
    scene = Scene(tmp_path, lag=timedelta(minutes=7))
    assert scene.collector.lag("logs", "la") == timedelta(minutes=7)
    assert scene.collector.lag("metrics", "west") == timedelta(minutes=3)
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("metrics", "west")
    _, start, end = scene.metrics.asked[-1]
    assert end - start == 75
    assert scene.stored("metrics")
    assert not scene.stored("logs")
    scene.store.close()


# --- troubles


def failing(scene: Scene, error: RolloutError) -> None:
    scene.logs.error = error
    with pytest.raises(type(error)):
        scene.collector.read("logs", "la")


def test_a_refusal_is_trouble_at_once_and_over_with_the_next_success(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    failing(scene, RefusedError("Give this identity the role Log Analytics Data Reader."))
    assert scene.collector.trouble(REF) == "Give this identity the role Log Analytics Data Reader."
    scene.logs.error = None
    scene.collector.read("logs", "la")
    assert scene.collector.trouble(REF) is None


def test_a_hiccup_is_no_trouble_until_it_lasts(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    failing(scene, UnavailableError("The log workspace did not answer."))
    assert scene.collector.trouble(REF) is None
    scene.azure.clock.move(301)
    assert scene.collector.trouble(REF) == "The log workspace did not answer."


def test_a_source_that_never_worked_is_trouble_at_once(scene: Scene) -> None:
    scene.collector.look("prod")
    failing(scene, UnavailableError("The log workspace did not answer."))
    assert scene.collector.trouble(REF) == "The log workspace did not answer."


def test_without_a_log_workspace_nothing_can_be_promoted(scene: Scene) -> None:
    without = scene.make(logs_key=None, logs=None)
    assert "has no log_workspace in the settings" in (without.trouble(REF) or "")


def test_a_source_that_asks_to_be_left_alone_is_left_alone(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    failing(scene, ThrottledError("Slow down.", retry_after=45))
    scene.logs.error = None
    asked = len(scene.logs.asked)
    scene.azure.clock.move(44)
    scene.collector.read("logs", "la")
    assert len(scene.logs.asked) == asked
    scene.azure.clock.move(1)
    scene.collector.read("logs", "la")
    assert len(scene.logs.asked) == asked + 1


def test_without_a_time_each_plea_in_a_row_doubles_the_pause(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    pauses = []
    for _ in range(6):
        failing(scene, ThrottledError("Slow down."))
        (status,) = [status for status in scene.collector.status() if status.source == "logs"]
        assert status.not_before is not None
        pauses.append((status.not_before - scene.now).total_seconds())
        scene.azure.clock.at = status.not_before
    assert pauses == [30, 60, 120, 240, 300, 300]
    scene.logs.error = None
    scene.collector.read("logs", "la")
    failing(scene, ThrottledError("Slow down."))
    assert status.not_before - scene.now == timedelta(seconds=30)


def test_looks_heed_it_too(scene: Scene) -> None:
    scene.azure.next_reads.append(ThrottledError("Slow down.", retry_after=60))
    with pytest.raises(ThrottledError):
        scene.collector.look("prod")
    scene.azure.calls.clear()
    scene.collector.look("prod")
    scene.collector.look_round_robin("prod")
    assert scene.azure.calls == []
    scene.azure.clock.move(60)
    scene.collector.look("prod")
    assert scene.azure.calls == ["list"]


def test_the_status_of_every_source_that_was_asked_is_kept(scene: Scene) -> None:
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    failing(scene, RefusedError("No."))
    found = {status.source: status for status in scene.collector.status()}
    assert found["endpoints"].last_error is None
    assert found["endpoints"].last_success is not None
    assert (found["logs"].last_error, found["logs"].refused) == ("No.", True)
    assert found["logs"].last_success is not None
