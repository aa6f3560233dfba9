"""The port `Logs` over Log Analytics: exact counts and latency histograms, three to ten minutes late.

The rule: one query per log workspace for all its endpoints (at most 500 in one query), never from Azure's two-minute
cache, and all or nothing: a partial, cut off or unreadable answer is no answer.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from azure.monitor.query import LogsQueryClient, LogsQueryPartialResult, LogsTable, LogsTableRow

from rollout.azure.calls import Calls, send
from rollout.azure.counting import counted, counting_query
from rollout.azure.kql import cells_query, time_of
from rollout.azure.tally import Tally
from rollout.errors import UnavailableError
from rollout.ports import Counted, CountQuery, Reading

MAX_ENDPOINTS = 500  # per query
MAX_ROWS = 500_000  # Azure's own limit: an answer that reaches it may have been cut off
SERVER_TIMEOUT = 30  # seconds that Azure may work on a query
#: The SDK does not wait longer because the server may.
QUERY_READ_TIMEOUT = SERVER_TIMEOUT + 15.0
_REMEDY = (
    "Check `log_workspace` in the settings (the workspace's customer id) and give this identity the role"
    " Log Analytics Data Reader on that workspace."
)


class _Row(NamedTuple):
    endpoint: str
    deployment: str
    minute: int
    cls: str
    histogram: list[tuple[int, int]]
    ingested: int | None  # seconds since the epoch


class AzureLogs:
    """One Log Analytics workspace (see `rollout.ports.Logs`), named by its customer id."""

    def __init__(
        self,
        client: LogsQueryClient,
        *,
        log_workspace: str,
        calls: Calls,
        max_endpoints: int = MAX_ENDPOINTS,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self._client = client
        self._log_workspace = log_workspace
        self._calls = calls
        self._max_endpoints = max_endpoints
        self._max_rows = max_rows

    def read(self, endpoints: Sequence[str], *, start: int, end: int, measured: Collection[str] = ()) -> Reading:
        """The cells of these endpoints in the minutes [start, end); of those `measured` with the sizes of good answers.

        `arrived` is an upper bound: from the begin of a cell's minute to the ingestion of its newest row.
        """
        wanted = sorted({endpoint.casefold() for endpoint in endpoints})
        sized = {endpoint.casefold() for endpoint in measured}
        tally = Tally()
        delays: list[int] = []
        for first in range(0, len(wanted), self._max_endpoints):
            asked = wanted[first : first + self._max_endpoints]
            query = cells_query(
                asked, start=start, end=end, sized=[endpoint for endpoint in asked if endpoint in sized]
            )
            for row in self._rows(query, start, end):
                tally.add((row.endpoint, row.deployment, row.minute), row.cls, row.histogram)
                if row.ingested is not None:
                    delays.append(row.ingested - row.minute * 60)
        arrived = timedelta(seconds=max(0, *delays)) if delays else None
        return Reading(cells=tally.cells(), start=start, end=end, arrived=arrived)

    def count(self, query: CountQuery, *, start: int, end: int) -> Sequence[Counted]:
        """What the query of a check counts in the minutes [start, end)."""
        what = f"the query of check {query.check} in {self._log_workspace}"

        def ask() -> Sequence[Counted]:
            text = counting_query(replace(query, endpoint=query.endpoint.casefold()), start=start, end=end)
            return counted(self._ask(text, start, end, what=what), query, start=start, end=end)

        return self._calls.run(ask, doing=f"run {what}", remedy=_REMEDY)

    def _rows(self, query: str, start: int, end: int) -> list[_Row]:
        def ask() -> list[_Row]:
            table = self._ask(query, start, end, what=f"the traffic log in {self._log_workspace}")
            rows = table.rows if table else []
            if len(rows) >= self._max_rows:
                raise UnavailableError(
                    f"The traffic log in {self._log_workspace} gave {len(rows)} rows:"
                    " an answer that reaches the limit may be cut off."
                )
            return [_row(row) for row in rows]

        return self._calls.run(ask, doing=f"query the traffic log in {self._log_workspace}", remedy=_REMEDY)

    def _ask(self, query: str, start: int, end: int, *, what: str) -> LogsTable | None:
        result = send(
            self._client.query_workspace,
            self._log_workspace,
            query,
            timespan=(time_of(start), time_of(end)),  # the same as in the query: Azure takes what both have in common
            server_timeout=SERVER_TIMEOUT,
            read_timeout=QUERY_READ_TIMEOUT,
            headers={"Cache-Control": "no-cache"},  # else the answer may be two minutes old
        )
        if isinstance(result, LogsQueryPartialResult):
            raise UnavailableError(f"{what[0].upper()}{what[1:]} gave a partial answer, which is none: {_why(result)}.")
        return result.tables[0] if result is not None and result.tables else None


def _row(row: LogsTableRow) -> _Row:
    return _Row(
        endpoint=row["rid"],
        deployment=row["deployment"],
        minute=row["minute"],
        cls=row["cls"],
        histogram=json.loads(row["h"]),  # dynamic columns arrive as JSON text
        ingested=row["ingested"],
    )


def _why(result: LogsQueryPartialResult) -> str:
    error = result.partial_error
    if error is None:
        return "Azure does not say why"
    for detail in error.details or []:
        inner = detail.get("innererror") or detail
        if message := inner.get("message"):
            return str(message)
    return error.message or error.code
