"""Saves per second: how much of what bare SQLite can do, at the same durability, is left after our store.

Each save is one durable transaction: the rollout with its judgement, one history line, one alert for one channel.
The yardstick, in the same run on the same disk, is a bare `sqlite3` commit of one row (WAL, `synchronous=FULL`).
Run: python -m tests.benchmarks.bench_store
"""

import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from rollout.analysis.cells import Cell
from rollout.store import SqlStore, open_store
from tests.support.stories import NOON, REF, a_rollout, an_alert, an_event

ROUNDS, SAVES = 5, 400


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/rollout.db", exclusive=True)
        save, commit, put = _saves(store), _commits(Path(folder) / "bare.db"), _puts(store)
        rounds = [(_per_second(save), _per_second(commit), _per_second(put)) for _ in range(ROUNDS)]
        store.close()
    saves, commits, puts = (median(column) for column in zip(*rounds, strict=True))
    ratio = median(one / bare for one, bare, _ in rounds)
    print(f"store: {saves:,.0f} saves/s, {ratio:.2f} of bare sqlite3 ({commits:,.0f} commits/s), both synchronous=FULL")
    print(f"store: {puts:,.0f} readings/s (window of 15 minutes, 2 deployments, 1 minute new)")


def _per_second(act: Callable[[int], None]) -> float:
    begun = time.perf_counter()
    for number in range(SAVES):
        act(number)
    return SAVES / (time.perf_counter() - begun)


def _saves(store: SqlStore) -> Callable[[int], None]:
    rollout = a_rollout()
    store.create(rollout, [], [])
    (lease,) = store.claim_due(now=NOON, owner="bench", lease=timedelta(days=1))
    alerts = iter(range(10**9))

    def save(number: int) -> None:
        alert = an_alert(f"a{next(alerts)}")
        store.save(lease, replace(rollout, step=number), events=[an_event("It went on.")], alerts=[alert])

    return save


def _puts(store: SqlStore) -> Callable[[int], None]:
    minutes = iter(range(100, 10**9))

    def put(_: int) -> None:
        last = next(minutes)
        window = (last - 14, last + 1)
        cells = {
            name: {
                minute: Cell(histograms={"ok": {50 + part: minute + part for part in range(12)}})
                for minute in range(*window)
            }
            for name in ("blue", "green")
        }
        store.put_cells("logs", REF, cells, window=window, closed_before=last - 9, read_at=NOON)

    return put


def _commits(file: Path) -> Callable[[int], None]:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE bare (number INTEGER)")

    def commit(number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO bare VALUES (?)", (number,))
        connection.execute("COMMIT")

    return commit


if __name__ == "__main__":
    main()
