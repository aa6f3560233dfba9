"""What the query of a policy's own check returned, as counts.

The rule: nothing is guessed. A row that is not what the check promises (see `rollout.policy.queries`) is told with check,
row, column and value, and the whole answer is then none: a check that counts wrongly would judge wrongly.

The query itself is sent as it was written: what it may use stands before its first line, on the same line, so that the
lines of Azure's messages are the author's.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from azure.monitor.query import LogsTable

from rollout.azure.kql import time_of
from rollout.errors import RefusedError
from rollout.ports import Counted, CountQuery

COLUMNS = ("minute", "deployment", "n", "bad")
MAX_ROWS = 10_000


def counting_query(query: CountQuery, *, start: int, end: int) -> str:
    """The text to send for the minutes [start, end) since the epoch."""
    given = {"_endpoint": json.dumps(query.endpoint), "_from": _moment(start), "_to": _moment(end)}
    return " ".join(f"let {name} = {value};" for name, value in given.items()) + " " + query.kql


def counted(table: LogsTable | None, query: CountQuery, *, start: int, end: int) -> Sequence[Counted]:
    """The rows as counts. Raises RefusedError with the first thing that is not as promised."""
    if table is None or not table.columns:
        return []
    _check_columns(table.columns, query.check)
    if len(table.rows) > MAX_ROWS:
        raise _refused(
            query.check,
            f"the query returns {len(table.rows):,} rows, and at most {MAX_ROWS:,} are read: summarize by minute and deployment",
        )
    return list(_rows(table, _Reader(query.check, start, end)))


def _check_columns(columns: Sequence[str], check: str) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise _refused(
            check,
            f"the query returns {', '.join(columns)}, without {' and '.join(missing)}: end it with "
            "`| summarize n = count(), bad = countif(…) by minute = bin(TimeGenerated, 1m), deployment = DeploymentName`",
        )


def _rows(table: LogsTable, reader: "_Reader") -> Iterator[Counted]:
    places = [table.columns.index(name) for name in COLUMNS]
    for number, row in enumerate(table.rows, start=1):
        yield reader.read(number, [row[place] for place in places])


class _Reader:
    """Reads one row after the other, and names what is wrong with it."""

    def __init__(self, check: str, start: int, end: int) -> None:
        self._check = check
        self._start = start
        self._end = end
        self._number = 0

    def read(self, number: int, values: Sequence[Any]) -> Counted:
        self._number = number
        minute, deployment, n, bad = values
        found = Counted(
            self._minute(minute), self._deployment(deployment), self._count("n", n), self._count("bad", bad)
        )
        if found.bad > found.n:
            raise self._wrong("bad", bad, f"more than n, which is {found.n}: count both over the same rows")
        return found

    def _minute(self, value: Any) -> int:
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            seconds = moment.timestamp()
            if seconds % 60:
                raise self._wrong("minute", value, "not a whole minute: write `minute = bin(TimeGenerated, 1m)`")
            minute = int(seconds) // 60
        elif _is_whole(value):
            minute = int(value)
        else:
            raise self._wrong("minute", value, "no time: write `minute = bin(TimeGenerated, 1m)`")
        if not self._start <= minute < self._end:
            raise self._wrong("minute", value, f"outside {self._window()}: keep to `_from` and `_to`, minute by minute")
        return minute

    def _deployment(self, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._wrong("deployment", value, "no name: leave rows without a DeploymentName out")
        return value.strip().casefold()

    def _count(self, column: str, value: Any) -> int:
        if not _is_whole(value):
            raise self._wrong(column, value, "no whole number: use count() or countif()")
        if value < 0:
            raise self._wrong(column, value, "below zero, which is no count")
        return int(value)

    def _window(self) -> str:
        return f"the time asked for ({time_of(self._start):%H:%M} to {time_of(self._end):%H:%M} UTC)"

    def _wrong(self, column: str, value: Any, why: str) -> RefusedError:
        shown = f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else _short(value)
        return _refused(self._check, f"row {self._number}: {column} is {shown}, {why}")


def _is_whole(value: Any) -> bool:
    """A number without a fraction; NaN and truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1


def _short(value: Any) -> str:
    text = "null" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _refused(check: str, what: str) -> RefusedError:
    return RefusedError(f"Check {check}: {what}.")


def _moment(minute: int) -> str:
    return f"datetime({time_of(minute):%Y-%m-%dT%H:%M:00Z})"
