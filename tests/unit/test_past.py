"""The past of an endpoint: bounded reads, on a real store and the sandbox's model of Azure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollout.analysis.evidence import Noise, Process
from rollout.analysis.judgement import CheckState, Judgement, SourceState
from rollout.analysis.noise import spreads
from rollout.analysis.profile import DAY, HOUR
from rollout.collector import Collector, WorkspaceSources
from rollout.daemon.past import Past, windows
from rollout.errors import RefusedError, ThrottledError, UnavailableError
from rollout.lifecycle.phases import Phase
from rollout.ports import Reading
from rollout.store import SqlStore, open_store
from rollout.world import EndpointRef
from tests.support.lives import REF
from tests.support.local_azure import LocalAzure, LocalLogs
from tests.support.stories import NOON, a_rollout


class Scene:
    """An endpoint with a log, and what the daemon can tell of its past."""

    def __init__(self, folder: Path) -> None:
        self.azure = LocalAzure()
        self.azure.begin()
        self.logs = LocalLogs(self.azure, bad={"blue": 0.01})
        self.store: SqlStore = open_store(f"sqlite:///{folder / 'rollout.db'}", exclusive=True)
        self.past = self.make(self.logs)

    def make(self, logs: object | None) -> Past:
        source = WorkspaceSources(workspace="prod", endpoints=self.azure, logs_key="la", logs=logs)  # type: ignore[arg-type]
        clock = self.azure.clock
        collector = Collector(store=self.store, clock=clock, sources=[source], on_change=lambda _: None)
        return Past(store=self.store, clock=clock, collector=collector, sources=[source])

    @property
    def minute(self) -> int:
        return int(self.azure.clock.now().timestamp() // 60)

    def history(self, minutes: int) -> None:
        """So many minutes of traffic lie behind us."""
        for minute in range(self.minute - minutes, self.minute):
            self.logs.note(minute)

    def keep(self, minutes: int) -> None:
        """The store has the last minutes, all closed but the last ten."""
        window = (self.minute - minutes, self.minute)
        cells = {"blue": {at: self.logs.minutes[at]["blue"] for at in range(*window)}}
        for _ in range(2):
            self.store.put_cells(
                "logs", REF, cells, window=window, closed_before=self.minute - 10, read_at=self.azure.clock.now()
            )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


@pytest.mark.parametrize("hours", [1, 5, 24, 7 * 24, 30 * 24])
def test_the_windows_are_bounded_and_see_every_hour(hours: int) -> None:
    now = datetime(2026, 11, 22, 14, 37, tzinfo=UTC)
    found = windows(now, hours)
    assert len(found) == min(24, hours)
    assert all(len(window) == HOUR and window.start % HOUR == 0 for window in found)
    assert len({window.start % DAY for window in found}) == len(found)
    oldest = int(now.timestamp() // 60) - max(hours, 24) * HOUR - 2 * HOUR
    assert all(oldest <= window.start for window in found)
    assert max(window.stop for window in found) <= now.timestamp() // 60 - 20  # nothing is still on its way
    days = {window.start // DAY for window in found}
    assert len(days) >= min(7, hours // 24)


def test_a_profile_is_read_from_the_logs_an_hour_at_a_time(scene: Scene) -> None:
    scene.history(3 * DAY)
    found = scene.past.profile(REF, hours=48)
    assert [end - start for _, start, end in scene.logs.asked] == [HOUR] * 24
    assert set(found.per_minute) == {1200.0}
    assert found.error_rate == pytest.approx(0.01, rel=0.01)
    assert (found.days, found.minutes, found.sources, found.lag) == (2.0, DAY, ("logs",), 10)
    assert found.begins == scene.minute % DAY


def test_past_rollouts_tell_what_noise_to_expect(scene: Scene) -> None:
    scene.history(DAY)
    found = scene.past.profile(REF, hours=24)
    assert (found.taught, found.expected) == (0, {})
    noise = Noise(surplus=0.1, weight=7.0)
    judged = Judgement(
        alpha=0.05,
        sources={"logs": SourceState(checks={"error_rate": CheckState(process=Process(blocks=9, noise=noise))})},
    )
    for name in ("r1", "r2"):
        rollout = a_rollout(name, ref=REF)
        scene.store.create(rollout, [], [])
        (lease,) = scene.store.claim_due(now=NOON, owner="me", lease=timedelta(seconds=30))
        scene.store.save(lease, replace(rollout, phase=Phase.SUCCEEDED, judgement=judged))
        scene.store.release(lease, due_at=NOON)
    found = scene.past.profile(REF, hours=24)
    assert found.taught == 2
    assert found.expected == spreads(scene.store.noise(REF)) != {}


def test_before_its_first_row_an_endpoint_had_no_log(scene: Scene) -> None:
    scene.history(3 * HOUR)
    found = scene.past.profile(REF, hours=24)
    assert set(found.per_minute) == {1200.0}
    assert found.minutes <= 3 * HOUR


def test_what_the_store_has_is_not_asked_for(scene: Scene) -> None:
    scene.history(2 * DAY)
    scene.keep(6 * HOUR)
    scene.past.profile(REF, hours=24)
    assert 17 <= len(scene.logs.asked) <= 19


def test_a_daemon_without_logs_says_what_to_do(scene: Scene) -> None:
    with pytest.raises(RefusedError, match=r"no log_workspace .* --rps"):
        scene.make(None).profile(REF, hours=24)
    with pytest.raises(RefusedError, match=r"no endpoint nobody"):
        scene.past.profile(EndpointRef(workspace="prod", name="nobody"), hours=24)


def test_too_little_traffic_is_no_plan(scene: Scene) -> None:
    with pytest.raises(RefusedError, match=r"too few requests .* --rps, --error-rate and --latency-p95"):
        scene.past.profile(REF, hours=24)


def test_an_hour_that_cannot_be_read_is_no_hour_without_traffic(scene: Scene) -> None:
    scene.history(DAY)
    scene.logs.error = ThrottledError("slower, please")
    with pytest.raises(ThrottledError):
        scene.past.profile(REF, hours=24)
    scene.logs.error = None
    assert scene.past.profile(REF, hours=24).minutes > 20 * HOUR  # the next one may try again


def test_one_plan_at_a_time(scene: Scene) -> None:
    class Impatient:
        """Asks for another plan while one is being made."""

        past: Past
        told = ""

        def read(self, endpoints: Sequence[str], *, start: int, end: int) -> Reading:
            if not self.told:
                with pytest.raises(UnavailableError) as error:
                    self.past.profile(REF, hours=1)
                self.told = error.value.message
            return scene.logs.read(endpoints, start=start, end=end)

    scene.history(DAY)
    logs = Impatient()
    logs.past = scene.make(logs)
    logs.past.profile(REF, hours=24)
    assert "try again" in logs.told


def test_what_is_known_at_once(scene: Scene) -> None:
    assert scene.past.at_once(REF) is None
    scene.history(2 * HOUR)
    scene.keep(30)
    assert scene.past.at_once(REF) is None  # too little
    scene.keep(2 * HOUR)
    found = scene.past.at_once(REF)
    assert found is not None
    assert set(found.per_minute) == {1200.0}
    assert found.minutes == pytest.approx(2 * HOUR - 10, abs=1)
    assert scene.logs.asked == []
    scene.azure.clock.move(timedelta(hours=9).total_seconds())
    assert scene.past.at_once(REF) is None
