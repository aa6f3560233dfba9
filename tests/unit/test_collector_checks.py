"""The collector reads what a policy is judged by and no more; its own checks, each for itself."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollout.analysis.cells import Cell
from rollout.collector import Collector
from rollout.collector.counting import known
from rollout.errors import RefusedError, ThrottledError, UnavailableError
from rollout.policy import AnswerSizeCheck, Checks, CustomCheck, Expert
from rollout.ports import Counted
from rollout.world import EndpointRef
from tests.support.collecting import Scene
from tests.support.lives import REF

CHECKS = Checks(custom=(CustomCheck(name="empty", kql="T | count"), CustomCheck(name="odd", kql="U | count")))
ONLY_METRICS = Expert(evidence=("metrics",))
OTHER = EndpointRef(workspace="prod", name="menu")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, checks=CHECKS)
    scene.collector.fresh(REF, deployments=True)
    yield scene
    scene.store.close()


def seen(scene: Scene) -> dict[str, dict[int, dict[str, dict[int, int]]]]:
    """Deployment -> minutes ago -> measure -> histogram."""
    stored = scene.store.cells("custom", REF, start=scene.minute - 200, end=scene.minute + 1)
    return {
        name: {scene.minute - minute: dict(cell.histograms) for minute, cell in cells.items()}  # type: ignore[misc]
        for name, cells in stored.cells.items()
    }


def rows(scene: Scene, *counts: tuple[str, int, int], ago: int = 2) -> list[Counted]:
    return [Counted(scene.minute - ago, deployment, n, bad) for deployment, n, bad in counts]


# --- only what a policy is judged by


@pytest.mark.parametrize(
    ("evidence", "logs", "metrics"), [(("logs",), 1, 0), (("metrics",), 0, 1), (("logs", "metrics"), 1, 1)]
)
def test_a_source_is_read_only_for_rollouts_that_are_judged_by_it(
    tmp_path: Path, evidence: tuple[str, ...], logs: int, metrics: int
) -> None:
    scene = Scene(tmp_path, expert=Expert(evidence=evidence))  # type: ignore[arg-type]
    scene.history()
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    scene.collector.read("metrics", "west")
    scene.collector.count("la")
    assert (len(scene.logs.asked), len(scene.metrics.asked), scene.logs.counted) == (logs, metrics, [])
    scene.store.close()


@pytest.mark.parametrize(
    ("policy", "logs", "metrics"),
    [
        ({}, [[]], [[]]),
        ({"checks": Checks(answer_size=AnswerSizeCheck())}, [[REF.name]], [[]]),
        ({"expert": ONLY_METRICS}, [], [[REF.name]]),
        ({"expert": ONLY_METRICS, "checks": Checks(latency_p95=None)}, [], [[]]),
    ],
)
def test_measures_are_read_only_where_they_are_judged(
    tmp_path: Path, policy: dict[str, object], logs: list[list[str]], metrics: list[list[str]]
) -> None:
    scene = Scene(tmp_path, **policy)
    scene.collector.look("prod")
    scene.collector.read("logs", "la")
    scene.collector.read("metrics", "west")
    found = [
        [[name.rpartition("/")[2] for name in one] for one in port.measured] for port in (scene.logs, scene.metrics)
    ]
    assert found == [logs, metrics]
    scene.store.close()


def test_trouble_is_that_of_the_source_that_decides(tmp_path: Path) -> None:
    scene = Scene(tmp_path, expert=ONLY_METRICS)
    scene.collector.look("prod")
    scene.metrics.error = RefusedError("Monitoring Reader is missing.")
    with pytest.raises(RefusedError):
        scene.collector.read("metrics", "west")
    assert scene.collector.trouble(REF, source="metrics") == "Monitoring Reader is missing."
    assert scene.collector.trouble(REF, source="logs") is None
    assert scene.collector.trouble(REF, source="probes") is None
    without = scene.make(logs_key=None, logs=None, metrics_key=None, metrics=None)
    assert "no log_workspace" in (without.trouble(REF, source="custom") or "")
    assert "`metrics: none` in the settings" in (without.trouble(REF, source="metrics") or "")
    assert without.trouble(REF, source="probes") is None
    scene.store.close()


# --- own checks


def test_each_check_is_one_query_over_the_hour_and_then_over_what_is_open(scene: Scene) -> None:
    scene.logs.own = {"empty": rows(scene, ("blue", 90, 1), ("green", 10, 4)), "odd": rows(scene, ("blue", 90, 0))}
    scene.collector.count("la")
    asked = [(query.check, query.kql, end - start) for query, start, end in scene.logs.counted]
    assert asked == [("empty", "T | count", 75), ("odd", "U | count", 75)]
    assert {query.endpoint for query, _, _ in scene.logs.counted} == {
        scene.azure.cloud.identity.endpoint_id(REF.name).lower()
    }
    assert seen(scene) == {
        "blue": {2: {"custom:empty": {0: 89, 1: 1}, "custom:odd": {0: 90}}},
        "green": {2: {"custom:empty": {0: 6, 1: 4}}},
    }
    assert scene.woken[-1] == REF
    scene.azure.clock.move(60)
    scene.collector.count("la")
    assert [end - start for _, start, end in scene.logs.counted[2:]] == [15, 15]


def test_rows_of_one_place_add_up_and_counts_of_nothing_leave_no_cell(scene: Scene) -> None:
    scene.logs.own = {"empty": rows(scene, ("blue", 5, 1), ("blue", 7, 2), ("green", 0, 0))}
    scene.collector.count("la")
    assert seen(scene) == {"blue": {2: {"custom:empty": {0: 9, 1: 3}}}}


def test_a_check_that_fails_blinds_itself_alone(scene: Scene) -> None:
    scene.logs.own = {"empty": rows(scene, ("blue", 90, 1)), "odd": rows(scene, ("blue", 90, 9))}
    scene.collector.count("la")
    scene.logs.own = {
        "empty": RefusedError("Check empty: row 1: bad is 7, more than n."),
        "odd": rows(scene, ("blue", 95, 10)),
    }
    with pytest.raises(RefusedError, match="Check empty"):
        scene.collector.count("la")
    assert seen(scene)["blue"][2] == {"custom:empty": {0: 89, 1: 1}, "custom:odd": {0: 85, 1: 10}}
    assert scene.collector.blind(REF) == {"empty": "Check empty: row 1: bad is 7, more than n."}
    assert scene.collector.trouble(REF) is None  # the logs are well
    assert scene.collector.trouble(REF, source="custom") == "Check empty: row 1: bad is 7, more than n."
    scene.logs.own["empty"] = rows(scene, ("blue", 100, 2))
    scene.collector.count("la")
    assert scene.collector.blind(REF) == {}
    assert seen(scene)["blue"][2]["custom:empty"] == {0: 98, 1: 2}


def test_where_no_check_answers_nothing_is_stored(scene: Scene) -> None:
    scene.logs.own = dict.fromkeys(("empty", "odd"), UnavailableError("No answer."))
    with pytest.raises(UnavailableError):
        scene.collector.count("la")
    assert scene.store.cells("custom", REF, start=0, end=1).read_at is None
    assert scene.collector.blind(REF) == dict.fromkeys(("empty", "odd"), "No answer.")  # none has ever worked


def test_minutes_wait_for_a_hiccup_and_close_without_what_lasts(scene: Scene) -> None:
    def closed_before() -> int:
        return scene.minute - scene.store.cells("custom", REF, start=0, end=1).closed_before

    scene.collector.count("la")
    assert closed_before() == 10  # the lag
    scene.logs.own = {"odd": UnavailableError("No answer.")}
    for waited in (1, 2, 4):
        scene.azure.clock.move(60 * waited - (closed_before() - 10) * 60)
        with pytest.raises(UnavailableError):
            scene.collector.count("la")
        assert closed_before() == 10 + waited
        assert scene.collector.blind(REF) == {}
    scene.azure.clock.move(120)
    with pytest.raises(UnavailableError):
        scene.collector.count("la")
    assert closed_before() == 10
    assert scene.collector.blind(REF) == {"odd": "No answer."}


def under_way(scene: Scene, **changes: Any) -> None:
    """The rollout has moved traffic."""
    (lease,) = scene.store.claim_due(now=scene.now, owner="d1", lease=timedelta(minutes=1))
    rollout = replace(scene.store.load(lease.rollout_id), started_at=scene.now, **changes)
    scene.store.save(lease, rollout)


def restarted(scene: Scene) -> Collector:
    """The next process, on the same store."""
    collector = scene.make()
    collector.fresh(REF, deployments=True)
    return collector


def test_after_a_restart_one_failure_is_a_hiccup_too(scene: Scene) -> None:
    scene.collector.count("la")
    scene.azure.clock.move(600)
    under_way(scene)
    again = restarted(scene)
    closed = scene.store.cells("custom", REF, start=0, end=1).closed_before
    scene.logs.own = {"odd": UnavailableError("No answer.")}
    for waited, blind in ((0, {}), (240, {}), (61, {"odd": "No answer."})):
        scene.azure.clock.move(waited)
        with pytest.raises(UnavailableError):
            again.count("la")
        assert again.blind(REF) == blind
        still_open = scene.store.cells("custom", REF, start=0, end=1).closed_before == closed
        assert still_open == (not blind)  # its minutes wait for it


def test_a_check_that_was_blind_before_a_restart_is_so_until_it_answers(scene: Scene) -> None:
    scene.collector.count("la")
    under_way(scene, blind=("odd",))
    again = restarted(scene)
    assert again.blind(REF) == {"odd": "it has not been run since the daemon started"}
    scene.logs.own = {"odd": UnavailableError("No answer.")}
    with pytest.raises(UnavailableError):
        again.count("la")
    assert again.blind(REF) == {"odd": "No answer."}
    scene.logs.own = {}
    again.count("la")
    assert again.blind(REF) == {}


def test_a_closed_minute_gets_no_check_that_it_did_not_have(scene: Scene) -> None:
    scene.logs.own = {"empty": rows(scene, ("blue", 90, 1), ago=20)}
    scene.collector.count("la")
    scene.logs.own["odd"] = rows(scene, ("blue", 90, 9), ago=20)
    scene.azure.clock.move(300)
    scene.collector.count("la")
    stored = scene.store.cells("custom", REF, start=0, end=scene.minute)
    assert stored.late == 0
    assert seen(scene) == {"blue": {25: {"custom:empty": {0: 89, 1: 1}}}}


def test_a_check_that_is_throttled_is_left_alone_and_the_others_go_on(scene: Scene) -> None:
    scene.logs.own = {"empty": ThrottledError("Slow down.", retry_after=90)}
    with pytest.raises(ThrottledError):
        scene.collector.count("la")
    scene.logs.own = {}
    for asked in (["odd"], ["empty", "odd"]):
        scene.logs.counted.clear()
        scene.azure.clock.move(60)
        scene.collector.count("la")
        assert [query.check for query, _, _ in scene.logs.counted] == asked


def test_how_each_check_did_is_told(scene: Scene) -> None:
    scene.logs.own = {"empty": UnavailableError("No answer.")}
    with pytest.raises(UnavailableError):
        scene.collector.count("la")
    found = {status.key: status.last_error for status in scene.collector.status() if status.source == "custom"}
    assert found == {f"empty of {REF.name}": "No answer.", f"odd of {REF.name}": None}


def test_without_a_log_workspace_every_own_check_is_blind(scene: Scene) -> None:
    without = scene.make(logs_key=None, logs=None)
    told = "workspace prod has no log_workspace in the settings, and the policy's own checks read its logs"
    assert without.blind(REF) == {"empty": told, "odd": told}
    assert without.blind(OTHER) == {}


def test_other_endpoints_have_their_own_checks(scene: Scene) -> None:
    scene.begin(OTHER)
    scene.collector.look("prod")
    scene.collector.count("la")
    assert len(scene.logs.counted) == 2  # the other rollout has none


# --- deployments


def test_rows_of_deployments_long_gone_are_left_out_and_names_that_fit_none_are_told() -> None:
    found = [Counted(1, "blue", 5, 1), Counted(1, "old", 5, 1)]
    both = frozenset({"blue", "green"})
    assert known(found, both, check="empty") == found[:1]
    assert known(found, frozenset(), check="empty") == found
    assert known([], both, check="empty") == []
    with pytest.raises(RefusedError, match="Check empty: deployment is old, and the endpoint has blue, green: return"):
        known(found[1:], both, check="empty")


def test_a_query_that_names_deployments_its_own_way_blinds_its_check(scene: Scene) -> None:
    scene.logs.own = {"empty": rows(scene, ("menu/blue", 5, 1))}
    with pytest.raises(RefusedError, match="deployment is menu/blue"):
        scene.collector.count("la")
    assert len(scene.collector.blind(REF)) == 1


def test_cells_of_checks_count_no_requests() -> None:
    cell = Cell(histograms={"custom:empty": {0: 5, 1: 2}})
    assert (cell.count(), cell.asked) == (0, 7)


def test_the_lag_of_checks_is_that_of_the_logs(tmp_path: Path) -> None:
    scene = Scene(tmp_path, lag=timedelta(minutes=5), checks=CHECKS)
    scene.collector.look("prod")
    scene.collector.count("la")
    assert scene.minute - scene.store.cells("custom", REF, start=0, end=1).closed_before == 5
    scene.store.close()
