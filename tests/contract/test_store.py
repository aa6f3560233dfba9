"""What every store promises: see `rollout.ports.Store`."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.analysis.cells import Cell
from rollout.errors import ConflictError, RefusedError
from rollout.lifecycle.phases import Phase
from rollout.ports import Store
from rollout.store import open_store, retention
from rollout.world import CommandResult, EndpointRef
from tests.support.stories import NOON, REF, a_command, a_rollout, an_alert, an_event, an_exhibit

LEASE = timedelta(seconds=30)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
OTHER = EndpointRef(workspace="prod", name="menu-ranker")

Reopen = Callable[[], Store]


def _sqlite(folder: Path) -> Store:
    return open_store(f"sqlite:///{folder}/rollout.db", exclusive=True)


IMPLEMENTATIONS = {"sqlite": _sqlite}


@pytest.fixture(params=IMPLEMENTATIONS)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Opens the store, and closes the one that it opened before, as a restart does."""
    opened: list[Store] = []

    def opener() -> Store:
        for store in opened:
            store.close()
        opened.append(IMPLEMENTATIONS[request.param](tmp_path))
        return opened[-1]

    yield opener
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Reopen) -> Store:
    return reopen()


def _claim(store: Store, owner: str = "me", at: object = NOON):
    (lease,) = store.claim_due(now=at, owner=owner, lease=LEASE)
    return lease


# --- Rollouts ------------------------------------------------------------------------------------------------------


def test_a_rollout_comes_back_as_it_was_also_after_a_restart(reopen: Reopen) -> None:
    rollout = a_rollout()
    reopen().create(rollout, [an_event("It began.", details={"share": 0.1 + 0.2})], [])

    store = reopen()

    assert store.load("r1") == rollout
    assert store.latest(REF) == rollout
    assert store.rollouts() == [rollout]
    assert store.history("r1") == [an_event("It began.", details={"share": 0.1 + 0.2})]


def test_the_case_of_an_endpoints_name_means_nothing(store: Store) -> None:
    store.create(a_rollout(), [], [])
    shouted = replace(REF, name=REF.name.upper())
    with pytest.raises(ConflictError, match="already has an active rollout"):
        store.create(a_rollout("r2", shouted), [], [])
    found = store.latest(shouted)
    assert found is not None
    assert found.id == "r1"


def test_an_endpoint_has_one_active_rollout(store: Store) -> None:
    store.create(a_rollout("r1"), [], [])

    with pytest.raises(
        ConflictError, match=r"restaurant-recommender already has an active rollout \(r1, progressing\)"
    ):
        store.create(a_rollout("r2"), [an_event()], [an_alert(rollout_id="r2")])

    assert store.history("r2") == []
    assert store.deliveries() == []
    store.create(a_rollout("r3", OTHER), [], [])
    store.create(a_rollout("r4", EndpointRef(workspace="test", name=REF.name)), [], [])


def test_many_who_start_at_once_start_one(store: Store) -> None:
    def start(number: int) -> int:
        with suppress(ConflictError):
            store.create(a_rollout(f"r{number}"), [], [])
            return 1
        return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(16))) == 1


def test_an_ended_rollout_makes_room_and_the_active_one_is_the_latest(store: Store) -> None:
    store.create(a_rollout("r1"), [], [])
    store.save(_claim(store), a_rollout("r1", phase=Phase.ROLLED_BACK))
    assert store.latest(REF).id == "r1"
    store.create(a_rollout("r2"), [], [])
    store.create(a_rollout("r3", OTHER), [], [])

    assert store.latest(REF).id == "r2"
    assert [rollout.id for rollout in store.rollouts()] == ["r3", "r2", "r1"]
    assert [rollout.id for rollout in store.rollouts(active_only=True)] == ["r3", "r2"]
    assert [rollout.id for rollout in store.rollouts(limit=1)] == ["r3"]
    assert store.latest(EndpointRef(workspace="prod", name="nowhere")) is None
    with pytest.raises(RefusedError, match="no rollout r9"):
        store.load("r9")


# --- Leases --------------------------------------------------------------------------------------------------------


def test_a_rollout_is_claimed_once_until_the_lease_runs_out(store: Store) -> None:
    store.create(a_rollout(), [], [])
    first = _claim(store)

    assert store.claim_due(now=NOON + LEASE - SECOND, owner="other", lease=LEASE) == []
    second = _claim(store, "other", NOON + LEASE)

    assert second.fence > first.fence
    assert second.until == NOON + 2 * LEASE
    for late in (
        lambda: store.save(first, a_rollout(step=7), events=[an_event("Never.")], alerts=[an_alert()]),
        lambda: store.renew(first, until=NOON + 9 * LEASE),
    ):
        with pytest.raises(ConflictError, match="no longer held by me"):
            late()
    store.release(first, due_at=NOON + MINUTE)
    assert store.load("r1").step == 0
    assert store.history("r1") == []
    assert store.deliveries() == []
    store.save(second, a_rollout(step=1))
    assert store.load("r1").step == 1


def test_a_renewed_lease_lasts_longer(store: Store) -> None:
    store.create(a_rollout(), [], [])
    lease = store.renew(_claim(store), until=NOON + 2 * LEASE)

    assert store.claim_due(now=NOON + LEASE, owner="other", lease=LEASE) == []
    store.save(lease, a_rollout(step=1))


def test_a_released_rollout_is_due_when_told(store: Store) -> None:
    store.create(a_rollout(), [], [])
    store.release(_claim(store), due_at=NOON + MINUTE)

    assert store.claim_due(now=NOON + MINUTE - SECOND, owner="me", lease=LEASE) == []
    assert _claim(store, at=NOON + MINUTE)


def test_waking_makes_due_now(store: Store) -> None:
    store.create(a_rollout("r1"), [], [])
    store.create(a_rollout("r2", OTHER), [], [])
    for lease in store.claim_due(now=NOON, owner="me", lease=LEASE):
        store.release(lease, due_at=NOON + MINUTE)

    store.wake([REF, EndpointRef(workspace="prod", name="nowhere")], now=NOON + SECOND)
    store.wake([], now=NOON)

    assert _claim(store, at=NOON + SECOND).rollout_id == "r1"


def test_what_happens_during_a_tick_is_not_lost(store: Store) -> None:
    store.create(a_rollout(), [], [])
    lease = _claim(store)
    store.wake([REF], now=NOON + SECOND)
    store.release(lease, due_at=NOON + MINUTE)
    lease = _claim(store, at=NOON + SECOND)
    store.submit(a_command(at=NOON + 2 * SECOND))
    store.release(lease, due_at=NOON + MINUTE)
    lease = _claim(store, at=NOON + 2 * SECOND)
    store.release(lease, due_at=NOON + MINUTE)

    assert store.claim_due(now=NOON + MINUTE - SECOND, owner="me", lease=LEASE) == []


def test_handing_over_frees_what_one_owner_holds(store: Store) -> None:
    store.create(a_rollout("r1"), [], [])
    mine = _claim(store, "mine")
    store.create(a_rollout("r2", OTHER), [], [])
    _claim(store, "yours")

    store.release_all("mine")

    assert _claim(store, "heir").rollout_id == "r1"
    with pytest.raises(ConflictError):
        store.save(mine, a_rollout(step=1))


def test_a_restart_takes_over_at_once(reopen: Reopen) -> None:
    store = reopen()
    store.create(a_rollout(), [], [])
    before = _claim(store, "dead")

    assert _claim(reopen(), "heir").fence > before.fence


def test_ended_rollouts_are_not_ticked(store: Store) -> None:
    store.create(a_rollout(), [], [])
    lease = _claim(store)
    store.save(lease, a_rollout(phase=Phase.SUCCEEDED))
    store.release(lease, due_at=NOON)
    store.wake([REF], now=NOON)

    assert store.claim_due(now=NOON + MINUTE, owner="me", lease=LEASE) == []


def test_those_due_the_longest_come_first_and_no_more_than_asked_for(store: Store) -> None:
    refs = [EndpointRef(workspace="prod", name=f"endpoint-{number}") for number in range(6)]
    for number, ref in enumerate(refs):
        store.create(a_rollout(f"r{number}", ref, created_at=NOON - number * SECOND), [], [])

    assert [lease.rollout_id for lease in store.claim_due(now=NOON, owner="me", lease=LEASE, limit=2)] == ["r5", "r4"]


def test_threads_share_the_work_without_doing_any_twice(store: Store) -> None:
    refs = [EndpointRef(workspace="prod", name=f"endpoint-{number}") for number in range(40)]
    for number, ref in enumerate(refs):
        store.create(a_rollout(f"r{number}", ref), [], [])

    def work(owner: int) -> list[str]:
        done = []
        while leases := store.claim_due(now=NOON, owner=f"thread {owner}", lease=LEASE, limit=3):
            for lease in leases:
                store.save(lease, replace(store.load(lease.rollout_id), step=1), events=[an_event(lease.owner)])
                store.release(lease, due_at=NOON + MINUTE)
                done.append(lease.rollout_id)
        return done

    with ThreadPoolExecutor(4) as pool:
        done = [rollout for part in pool.map(work, range(4)) for rollout in part]

    assert sorted(done) == sorted(f"r{number}" for number in range(40))
    assert all(len(store.history(rollout)) == 1 and store.load(rollout).step == 1 for rollout in done)


# --- Commands ------------------------------------------------------------------------------------------------------


def test_a_command_waits_for_its_answer(store: Store) -> None:
    store.create(a_rollout(), [], [])
    lease = _claim(store)
    one, two = a_command("c1"), a_command("c2", full=True, reason=None)
    for command in (one, two, one):
        store.submit(command)

    assert store.pending_commands("r1") == [one, two]
    assert store.command_result("c1") is None
    answer = CommandResult(command_id="c1", accepted=True, sentence="Paused by anna.")
    store.save(lease, a_rollout(), results=[answer])
    store.save(lease, a_rollout(), results=[replace(answer, accepted=False, sentence="Twice.")])

    assert store.pending_commands("r1") == [two]
    assert store.command_result("c1") == answer
    with pytest.raises(RefusedError, match="no rollout r9 to pause"):
        store.submit(a_command(rollout_id="r9"))


def test_a_command_that_comes_too_late_is_answered_too(store: Store) -> None:
    store.create(a_rollout(), [], [])
    store.submit(a_command("in time"))
    store.submit(a_command("just too late"))
    done = CommandResult(command_id="in time", accepted=True, sentence="Aborted.")
    store.save(_claim(store), a_rollout(phase=Phase.ROLLED_BACK), results=[done])
    store.submit(a_command("long after"))

    assert store.command_result("in time") == done
    for command_id in ("just too late", "long after"):
        answer = store.command_result(command_id)
        assert not answer.accepted
        assert answer.sentence == "Too late: the rollout had already ended (rolled back)."
    assert store.pending_commands("r1") == []


# --- Cells ---------------------------------------------------------------------------------------------------------


def _cell(ok: int, failed: int = 0) -> Cell:
    return Cell(histograms={"ok": {50: ok}, "5xx": {60: failed}} if failed else {"ok": {50: ok}})


def _put(
    store: Store, cells: Mapping[str, Mapping[int, Cell]], *, closed: int = 0, window=(0, 100), source="logs", ref=REF
):
    return store.put_cells(source, ref, cells, window=window, closed_before=closed, read_at=NOON)


def _get(store: Store, source: str = "logs", ref: EndpointRef = REF):
    return store.cells(source, ref, start=0, end=1000)


def test_open_cells_are_replaced_and_those_that_vanished_are_removed(store: Store) -> None:
    assert _put(store, {"blue": {1: _cell(5), 2: _cell(6)}, "green": {1: _cell(1, 2)}})
    assert _put(store, {"blue": {1: _cell(5), 2: _cell(7)}, "red": {2: Cell()}})

    found = _get(store)
    assert found.cells == {"blue": {1: _cell(5), 2: _cell(7)}, "red": {2: Cell()}}
    assert found.unchanged == {"blue": {1: 1, 2: 0}, "red": {2: 0}}
    assert found.read_at == NOON
    assert found.late == 0


def test_the_minute_before_which_all_is_closed_never_moves_back(store: Store) -> None:
    assert _get(store).closed_before == 0
    _put(store, {"blue": {1: _cell(5)}}, closed=7)
    assert _get(store).closed_before == 7
    _put(store, {"blue": {1: _cell(5)}}, closed=3)
    assert _get(store).closed_before == 7
    _put(store, {}, closed=9)
    assert _get(store).closed_before == 9
    assert _get(store, source="metrics").closed_before == 0


def test_only_the_window_is_replaced_and_only_what_is_asked_for_is_returned(store: Store) -> None:
    _put(store, {"blue": {minute: _cell(minute) for minute in range(1, 9)}})
    _put(store, {"blue": {2: _cell(20), 4: _cell(40), 7: _cell(70)}}, window=(4, 7))

    assert [cell.count() for cell in _get(store).cells["blue"].values()] == [1, 2, 3, 40, 7, 8]
    assert set(store.cells("logs", REF, start=2, end=4).cells["blue"]) == {2, 3}
    assert store.cells("logs", REF, start=20, end=40).cells == {}


def test_sources_and_endpoints_do_not_mix(store: Store) -> None:
    _put(store, {"blue": {1: _cell(1)}})
    _put(store, {"blue": {1: _cell(2)}}, source="metrics")
    _put(store, {"blue": {1: _cell(3)}}, ref=OTHER)
    _put(store, {}, ref=OTHER, source="metrics")

    assert _get(store).cells == {"blue": {1: _cell(1)}}
    assert _get(store, "metrics").cells == {"blue": {1: _cell(2)}}
    assert _get(store, ref=OTHER).cells == {"blue": {1: _cell(3)}}
    empty = _get(store, "metrics", OTHER)
    assert (empty.cells, empty.read_at) == ({}, NOON)
    assert _get(store, "probes").read_at is None


def test_it_is_news_when_a_cell_changes_becomes_steady_or_closes(store: Store) -> None:
    cells = {"blue": {1: _cell(5)}}
    news = [_put(store, cells) for _ in range(5)]
    assert news == [True, True, True, False, False]  # new, seen again once, twice: steady
    assert _get(store).unchanged == {"blue": {1: 2}}

    assert _put(store, cells, closed=2)
    assert not _put(store, cells, closed=2)
    assert not _put(store, cells, closed=9)


def test_a_closed_minute_never_changes_and_what_comes_late_is_counted(reopen: Reopen) -> None:
    store = reopen()
    _put(store, {"blue": {1: _cell(5)}}, closed=2)
    late = {"blue": {1: _cell(7, 1)}, "green": {1: _cell(3)}}

    assert not _put(store, late, closed=2)
    assert not _put(store, late, closed=2)  # the same rows again are counted once
    store = reopen()

    assert _get(store).cells == {"blue": {1: _cell(5)}}
    assert _get(store).late == 6
    _put(store, {"blue": {1: _cell(5)}}, closed=2)
    assert _get(store).late == 0
    _put(store, {}, closed=2)
    assert _get(store).cells == {"blue": {1: _cell(5)}}
    assert _get(store).late == 5


def test_a_minute_of_which_nothing_was_seen_may_still_come_as_a_whole(store: Store) -> None:
    _put(store, {"blue": {2: _cell(5)}}, closed=3)
    assert _put(store, {"blue": {1: _cell(4), 2: _cell(5)}, "green": {1: _cell(1)}}, closed=3)

    assert _get(store).cells == {"blue": {1: _cell(4), 2: _cell(5)}, "green": {1: _cell(1)}}
    assert _get(store).late == 0


def test_old_cells_are_forgotten(store: Store) -> None:
    _put(store, {"blue": {1: _cell(1), 2: _cell(2), 3: _cell(3)}}, closed=9)
    store.prune(now=datetime.fromtimestamp(3 * 60, UTC) + retention.KEEP_CELLS)

    assert _get(store).cells == {"blue": {3: _cell(3)}}


# --- Exhibits ------------------------------------------------------------------------------------------------------


def test_what_the_judge_was_shown_comes_back_in_order(reopen: Reopen) -> None:
    store = reopen()
    store.create(a_rollout(), [], [])
    shown = [an_exhibit(NOON + number * MINUTE, minutes=number) for number in range(3)]
    lease = _claim(store)
    for exhibit in shown:
        store.save(lease, a_rollout(), exhibit=exhibit)
    store.save(lease, a_rollout(step=1))

    assert reopen().exhibits("r1") == shown


def test_an_exhibit_of_a_lost_lease_is_not_kept(store: Store) -> None:
    store.create(a_rollout(), [], [])
    lease = _claim(store)
    _claim(store, "somebody else", NOON + 2 * LEASE)

    with pytest.raises(ConflictError):
        store.save(lease, a_rollout(), exhibit=an_exhibit(NOON))
    assert store.exhibits("r1") == []


def test_the_last_rollouts_of_each_endpoint_keep_what_was_shown(store: Store) -> None:
    for number in range(12):
        _end_one(store, f"mine{number}")
    _end_one(store, "other", OTHER)
    store.prune(now=NOON)

    kept = [number for number in range(12) if store.exhibits(f"mine{number}")]
    assert kept == list(range(12 - retention.KEEP_EXHIBITS_OF, 12))
    assert store.exhibits("other") == [an_exhibit(NOON)]


# --- What is forgotten ---------------------------------------------------------------------------------------------


def _end_one(store: Store, name: str, ref: EndpointRef = REF, *, at: datetime = NOON) -> None:
    """A rollout that has all that hangs on one, and has ended."""
    ended = a_rollout(name, ref, phase=Phase.ROLLED_BACK, created_at=at)
    store.create(
        replace(ended, phase=Phase.PROGRESSING), [an_event(f"{name} began.")], [an_alert(name, rollout_id=name)]
    )
    store.submit(a_command(name, rollout_id=name))
    store.save(_claim(store, at=at), ended, exhibit=an_exhibit(at))


def test_old_rollouts_are_forgotten_with_all_that_hangs_on_them(store: Store) -> None:
    late = NOON + retention.KEEP_ROLLOUTS_FOR + MINUTE
    _end_one(store, "only", OTHER)  # however old
    for number in range(3):
        _end_one(store, f"old{number}")
    for number in range(retention.KEEP_ROLLOUTS - 1):
        _end_one(store, f"new{number}", at=late)
    store.prune(now=late)

    names = {rollout.id for rollout in store.rollouts(limit=1000)}
    assert {name for name in names if not name.startswith("new")} == {"only", "old2"}
    assert {delivery.alert.rollout_id for delivery in store.deliveries(limit=1000)} == names
    assert [store.history(f"old{number}") for number in range(2)] == [[], []]
    assert store.command_result("old0") is None
    assert store.command_result("old2") is not None
    with pytest.raises(RefusedError, match="no rollout old0"):
        store.load("old0")


def test_rollouts_of_the_last_months_are_kept_however_many(store: Store) -> None:
    for number in range(retention.KEEP_ROLLOUTS + 2):
        _end_one(store, f"r{number}")
    store.prune(now=NOON + retention.KEEP_ROLLOUTS_FOR)
    assert len(store.rollouts(limit=1000)) == retention.KEEP_ROLLOUTS + 2


_COUNTS = st.dictionaries(
    st.sampled_from(["blue", "green"]), st.dictionaries(st.integers(0, 4), st.integers(1, 3), max_size=5), max_size=2
)
_READING = st.tuples(_COUNTS, st.integers(0, 3), st.integers(2, 5), st.integers(0, 5))


@settings(max_examples=40, deadline=None)
@given(readings=st.lists(_READING, max_size=8))
def test_any_row_of_readings_leaves_what_a_simple_account_says(
    readings: list[tuple[dict[str, dict[int, int]], int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The account: a minute is as the last reading showed it, or as the first that showed something after its time."""
    account: dict[int, dict[str, int]] = {}
    closed: set[int] = set()
    late: dict[int, int] = {}
    store = _sqlite(tmp_path_factory.mktemp("readings"))
    for counts, start, end, before in readings:
        cells = {name: {minute: _cell(count) for minute, count in of.items()} for name, of in counts.items()}
        _put(store, cells, window=(start, end), closed=before)
        for minute in range(start, end):
            shown = {name: of[minute] for name, of in counts.items() if minute in of}
            if minute in closed:
                names = shown.keys() | account[minute].keys()
                late[minute] = sum(abs(shown.get(name, 0) - account[minute].get(name, 0)) for name in names)
                continue
            account[minute] = shown
            if shown and minute < before:
                closed.add(minute)
    found = _get(store)
    store.close()

    flat = {(name, minute): cell.count() for name, of in found.cells.items() for minute, cell in of.items()}
    assert flat == {(name, minute): count for minute, of in account.items() for name, count in of.items()}
    assert found.late == sum(late.values())


# --- Outbox --------------------------------------------------------------------------------------------------------


def test_an_alert_waits_for_each_of_its_channels(reopen: Reopen) -> None:
    store = reopen()
    alert = an_alert("a1", "mail", "hook", details={"now": "blue 100 %", "n": [1, 2.5]})
    store.create(a_rollout(), [], [alert])
    store = reopen()

    mail, hook = store.due_deliveries(now=NOON)
    assert [(one.alert, one.channel, one.attempts) for one in (mail, hook)] == [(alert, "mail", 0), (alert, "hook", 0)]
    store.delivered(mail, now=NOON)
    store.delivery_failed(hook, error="It answered 500.", next_at=NOON + MINUTE)

    assert store.due_deliveries(now=NOON + MINUTE - SECOND) == []
    (hook,) = store.due_deliveries(now=NOON + MINUTE)
    assert (hook.attempts, hook.error) == (1, "It answered 500.")
    store.delivery_failed(hook, error="It is gone.", next_at=None)
    assert store.due_deliveries(now=NOON + 9 * MINUTE) == []
    assert [(one.channel, one.state) for one in store.deliveries()] == [("hook", "dead"), ("mail", "delivered")]
    assert [one.error for one in store.deliveries("r1", state="dead")] == ["It is gone."]
    assert store.deliveries("r2") == []


def test_the_same_alert_is_posted_once(store: Store) -> None:
    store.create(a_rollout(), [], [an_alert("a1", "mail")])
    store.save(_claim(store), a_rollout(), alerts=[an_alert("a1", "mail", "hook", "hook"), an_alert("a2", "mail")])

    assert sorted((one.alert.id, one.channel) for one in store.deliveries()) == [
        ("a1", "hook"),
        ("a1", "mail"),
        ("a2", "mail"),
    ]


def test_a_channel_with_many_waiting_leaves_room_for_the_others(store: Store) -> None:
    many = [an_alert(f"a{number}", "dead") for number in range(30)]
    store.create(a_rollout(), [], [*many, an_alert("b", "alive")])

    due = store.due_deliveries(now=NOON, limit=5)

    assert [one.alert.id for one in due] == ["a0", "a1", "a2", "a3", "a4", "b"]


def test_an_alert_leaves_only_with_the_change_that_it_tells(store: Store) -> None:
    store.create(a_rollout(), [], [])
    lease = _claim(store)
    store.release_all("me")
    with pytest.raises(ConflictError):
        store.save(lease, a_rollout(step=1), events=[an_event()], alerts=[an_alert()])

    assert store.deliveries() == []


# --- Sudden death --------------------------------------------------------------------------------------------------


def _wait_for(process: subprocess.Popen[str], number: int) -> None:
    for line in process.stdout:
        if int(line) >= number:
            return
    raise AssertionError("the process ended before its time")


@pytest.mark.parametrize("number", [3, 40])
def test_a_process_killed_in_the_middle_of_saves_leaves_all_that_it_was_promised(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "tests.support.saver", str(tmp_path / "rollout.db"), "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            _wait_for(process, number)
        finally:
            process.kill()
            watchdog.cancel()
        acknowledged = max([number, *(int(line) for line in process.stdout if line.endswith("\n"))])

    store = _sqlite(tmp_path)
    saved = store.load("r1").step
    assert acknowledged <= saved <= acknowledged + 1
    assert [event.sentence for event in store.history("r1")] == [f"Save {one}." for one in range(1, saved + 1)]
    assert len(store.deliveries(limit=10 * saved)) == saved
    assert _claim(store, "heir").fence == 2
    store.close()
