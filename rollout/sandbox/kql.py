"""Log Analytics' engine: runs the KQL it is sent over the rows that have arrived.

The rule: what is asked is what is run, or it is refused with Log Analytics' words (`QueryError`); no answer is made up.
KQL is translated by duckdb-kql and run by DuckDB. Two things are done here: `ingestion_time()` is read from a column,
and a translation is kept for the next query whose text differs only in its `datetime(…)` literals.

One thread owns the engine; nothing here waits or locks.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import duckdb
import duckdb_kql
import numpy as np
from duckdb_kql.translate import CLOCK_SLOT

from rollout.sandbox.kql_errors import QueryError, refusal, syntax_error
from rollout.sandbox.telemetry import TrafficRow

TABLE = "AmlOnlineEndpointTrafficLog"
MAX_ROWS = 500_000  # a longer answer is cut and marked as partial, as Log Analytics does
RETENTION = timedelta(hours=3)  # of the sandbox's clock: an hour of history and a long rollout
KEPT_TRANSLATIONS = 64
MAX_KEPT = 1_000_000  # rows, of about 360 bytes; above it the older half is forgotten
MEMORY = "1GB"  # for the rows and for the queries

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INGESTED = "__ingestion_time"  # never seen by a query that does not ask for it

#: Column, its DuckDB type, the attribute of `TrafficRow` it holds; in the order of the documentation.
_COLUMNS = (
    ("TimeGenerated", "TIMESTAMP", "time_generated"),
    ("EndpointName", "VARCHAR", "endpoint_name"),
    ("DeploymentName", "VARCHAR", "deployment_name"),
    ("Method", "VARCHAR", "method"),
    ("Path", "VARCHAR", "path"),
    ("Protocol", "VARCHAR", "protocol"),
    ("UserAgent", "VARCHAR", "user_agent"),
    ("AuthType", "VARCHAR", "auth_type"),
    ("IdentityData", "VARCHAR", "identity_data"),
    ("ResponseCode", "INTEGER", "response_code"),
    ("ResponseCodeReason", "VARCHAR", "response_code_reason"),
    ("ModelStatusCode", "INTEGER", "model_status_code"),
    ("ModelStatusReason", "VARCHAR", "model_status_reason"),
    ("TotalDurationMs", "INTEGER", "total_duration_ms"),
    ("RequestDurationMs", "INTEGER", "request_duration_ms"),
    ("ResponseDurationMs", "INTEGER", "response_duration_ms"),
    ("RequestThrottlingDelayMs", "INTEGER", "request_throttling_delay_ms"),
    ("ResponseThrottlingDelayMs", "INTEGER", "response_throttling_delay_ms"),
    ("RequestPayloadSize", "INTEGER", "request_payload_size"),
    ("ResponsePayloadSize", "INTEGER", "response_payload_size"),
    ("XRequestId", "VARCHAR", "x_request_id"),
    ("XMSClientRequestId", "VARCHAR", "xms_client_request_id"),
    ("_ResourceId", "VARCHAR", "resource_id"),
)
_ATTRIBUTES = attrgetter(*(attribute for _, _, attribute in _COLUMNS))
_DTYPES: Mapping[str, Any] = {"INTEGER": np.int32, "VARCHAR": object}

# Strings and comments are matched first, so that what stands inside them is left alone.
_SKIPPED = r"""@"(?:[^"]|"")*"|@'(?:[^']|'')*'|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|//[^\n]*"""
_INGESTION_TIME = re.compile(rf"(?P<skipped>{_SKIPPED})|\bingestion_time\s*\(\s*\)")
_MOMENT = re.compile(r"(?<=datetime\()\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z(?=\))")
_MAX_MOMENTS = 60


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A table: (name, DuckDB type) of each column, and the rows with DuckDB's Python values."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class Translation:
    """SQL, the values it binds, and whether `now()` is one of them."""

    sql: str
    parameters: Mapping[str, Any]
    reads_clock: bool

    def at(self, now: datetime) -> Mapping[str, Any]:
        """The values to bind when it is run at `now`."""
        return {**self.parameters, CLOCK_SLOT: _plain(now)} if self.reads_clock else self.parameters


class Engine:
    """The log workspace's tables. `constants` are columns that are the same in every row, by name."""

    def __init__(self, constants: Mapping[str, str | float], *, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._constants = dict(constants)
        self._names = [name for name, _, _ in _COLUMNS] + list(constants)
        self._translations: OrderedDict[tuple[str, bool], Translation] = OrderedDict()
        self._newest: datetime | None = None
        self._pruned: datetime | None = None
        self._connection = duckdb_kql.connect()
        self._connection.execute(f"SET memory_limit = '{MEMORY}'; SET threads = 1; SET enable_external_access = false")
        self._connection.execute("CREATE SCHEMA kept")
        columns = ", ".join(f'"{name}" {kind}' for name, kind, _ in _COLUMNS)
        self._connection.execute(f'CREATE TABLE kept.traffic ({columns}, "{_INGESTED}" TIMESTAMP)')

    @property
    def empty(self) -> bool:
        """Whether no row has ever arrived: Log Analytics then does not know the table."""
        return self._newest is None

    def append(self, arrived: Sequence[tuple[datetime, TrafficRow]]) -> None:
        """Add rows, each with its ingestion time; rows older than the retention are dropped now and then."""
        if not arrived:
            return
        values = zip(*(_ATTRIBUTES(row) for _, row in arrived), strict=True)
        batch: dict[str, Any] = {
            name: _moments(column) if kind == "TIMESTAMP" else np.array(column, dtype=_DTYPES[kind])
            for (name, kind, _), column in zip(_COLUMNS, values, strict=True)
        }
        batch[_INGESTED] = _moments(at for at, _ in arrived)
        self._connection.register("batch", batch)
        self._connection.execute("INSERT INTO kept.traffic BY NAME SELECT * FROM batch")
        self._connection.unregister("batch")
        self._newest = max(at for at, _ in arrived)
        self._prune(self._newest)

    def query(self, text: str, *, span: tuple[datetime, datetime] | None, now: datetime) -> Answer:
        """Run KQL over the rows with TimeGenerated in [start, end) of `span`. Raises QueryError."""
        text, wants_ingestion = _with_ingestion_column(text)
        translation = self._translate(text, ingestion=wants_ingestion, now=now)
        self._show(span, ingestion=wants_ingestion)
        try:
            cursor = self._connection.execute(translation.sql, dict(translation.at(now)) or None)
            columns = [(str(item[0]), str(item[1])) for item in cursor.description or ()]
            rows = cursor.fetchmany(MAX_ROWS + 1)
            cursor.abort()  # what is left of a longer answer
        except duckdb.Error as error:
            raise refusal(error, text) from error
        return Answer(columns=columns, rows=rows[:MAX_ROWS], truncated=len(rows) > MAX_ROWS)

    def interrupt(self) -> None:
        """Stop the query that runs; may be called from any thread."""
        self._connection.interrupt()

    def _show(self, span: tuple[datetime, datetime] | None, *, ingestion: bool) -> None:
        """Put the table's view over the rows that this query may see."""
        if self.empty:
            return
        columns = [f'"{name}"' for name, _, _ in _COLUMNS]
        columns += [f'{_literal(value)} AS "{name}"' for name, value in self._constants.items()]
        columns += [f'"{_INGESTED}"'] if ingestion else []
        within = ""
        if span is not None:
            start, end = (f"TIMESTAMP '{_plain(moment):%Y-%m-%d %H:%M:%S.%f}'" for moment in span)
            within = f' WHERE "TimeGenerated" >= {start} AND "TimeGenerated" < {end}'
        shown = ", ".join(columns)  # our own names and values: nothing of the query stands in this text
        self._connection.execute(f"CREATE OR REPLACE VIEW {TABLE} AS SELECT {shown} FROM kept.traffic{within}")  # noqa: S608

    def _translate(self, text: str, *, ingestion: bool, now: datetime) -> Translation:
        """SQL for the query; from memory where only the moments in it are new."""
        moments = _MOMENT.findall(text)
        numbers = iter(range(len(moments)))
        pattern = text if len(moments) > _MAX_MOMENTS else _MOMENT.sub(lambda _: _placeholder(next(numbers)), text)
        key = (pattern, self.empty)
        kept = self._translations.get(key)
        if kept is None:
            kept = self._translated(pattern, ingestion=ingestion, now=now)
            if not all(_placeholder(number) in kept.sql for number in range(len(moments))):
                return self._translated(text, ingestion=ingestion, now=now)
            self._remember(key, kept)
        self._translations.move_to_end(key)
        sql = kept.sql
        for number, moment in enumerate(moments):
            sql = sql.replace(_placeholder(number), moment)
        return replace(kept, sql=sql)

    def _remember(self, key: tuple[str, bool], translation: Translation) -> None:
        self._translations[key] = translation
        while len(self._translations) > KEPT_TRANSLATIONS:
            self._translations.popitem(last=False)

    def _translated(self, text: str, *, ingestion: bool, now: datetime) -> Translation:
        if text.lstrip().startswith("."):
            raise syntax_error("Query could not be parsed at '.': Log Analytics has no control commands")
        columns = [*self._names, _INGESTED] if ingestion else self._names
        try:
            result = duckdb_kql.to_sql(
                text, schema={} if self.empty else {TABLE: columns}, allow_write=False, query_now=_plain(now)
            )
        except duckdb_kql.KqlError as error:
            raise refusal(error, text) from error
        parameters = dict(result.parameters)
        return Translation(
            sql=str(result), parameters=parameters, reads_clock=parameters.get(CLOCK_SLOT) == _plain(now)
        )

    def _prune(self, now: datetime) -> None:
        """Forget what is older than the retention, a few times in each; and the older half of too many rows."""
        self._pruned = self._pruned or now
        if now - self._pruned >= RETENTION / 10:
            self._pruned = now
            self._connection.execute('DELETE FROM kept.traffic WHERE "TimeGenerated" < ?', [_plain(now - RETENTION)])
        if self._kept() > self._max_kept:
            older = 'SELECT median("TimeGenerated") FROM kept.traffic'
            self._connection.execute(f'DELETE FROM kept.traffic WHERE "TimeGenerated" < ({older})')  # noqa: S608

    def _kept(self) -> int:
        ((count,),) = self._connection.execute("SELECT count(*) FROM kept.traffic").fetchall()
        return int(count)


def _moments(column: Iterable[datetime]) -> Any:
    return np.array([(moment - EPOCH) // _MICROSECOND for moment in column], dtype=np.int64).view("datetime64[us]")


def _plain(moment: datetime) -> datetime:
    """UTC without saying so, as DuckDB's TIMESTAMP and duckdb-kql have it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _placeholder(number: int) -> str:
    """A moment that no query of ours asks for."""
    return f"1900-01-01T00:00:{number:02d}Z"


def _literal(value: str | float) -> str:
    return f"{value}::DOUBLE" if isinstance(value, float) else "'" + value.replace("'", "''") + "'"


def _with_ingestion_column(text: str) -> tuple[str, bool]:
    """The query with `ingestion_time()` read from its column, and whether it stood there at all."""
    found = False

    def replaced(match: re.Match[str]) -> str:
        nonlocal found
        if match["skipped"] is not None:
            return match["skipped"]
        found = True
        return _INGESTED

    return _INGESTION_TIME.sub(replaced, text), found


__all__ = ["Answer", "Engine", "QueryError"]
