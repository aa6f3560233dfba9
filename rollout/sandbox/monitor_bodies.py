"""How Log Analytics and the metrics batch spell their answers and refusals in JSON.

The rule: shapes are those of recorded answers. Dynamic values are JSON text, datetimes are ISO with a Z, null is null.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite, isnan
from typing import Any
from uuid import uuid4

from rollout.sandbox.kql import Answer
from rollout.sandbox.kql_errors import QueryError
from rollout.sandbox.metric_catalog import MetricsError

_TYPES: Mapping[str, str] = {
    "VARCHAR": "string",
    "BOOLEAN": "bool",
    "TINYINT": "int",
    "SMALLINT": "int",
    "INTEGER": "int",
    "BIGINT": "long",
    "HUGEINT": "long",
    "UBIGINT": "long",
    "FLOAT": "real",
    "DOUBLE": "real",
    "INTERVAL": "timespan",
    "UUID": "guid",
}
_DURATION = re.compile(
    r"P(?:(?P<days>[\d.]+)D)?(?:T(?:(?P<hours>[\d.]+)H)?(?:(?P<minutes>[\d.]+)M)?(?:(?P<seconds>[\d.]+)S)?)?"
)


class ArgumentError(Exception):
    """The request itself is wrong."""


# Tables


def table_json(answer: Answer) -> dict[str, Any]:
    """`PrimaryResult`."""
    kinds = [kind for _, kind in answer.columns]
    return {
        "name": "PrimaryResult",
        "columns": [{"name": name, "type": kql_type(kind)} for name, kind in answer.columns],
        "rows": [[_cell(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in answer.rows],
    }


def kql_type(kind: str) -> str:
    """Kusto's name of a DuckDB type."""
    if kind.startswith("TIMESTAMP"):
        return "datetime"
    if kind.startswith("DECIMAL"):
        return "decimal"
    return _TYPES.get(kind, "dynamic")


def _cell(value: Any, kind: str) -> Any:
    name = kql_type(kind)
    if value is None or name in ("string", "bool", "int", "long"):
        return value
    if name == "real":
        return value if isfinite(value) else _odd(value)
    if name == "dynamic":
        return json.dumps(_dynamic(value, kind), separators=(",", ":"))
    return _iso(value) if name == "datetime" else _timespan(value) if name == "timespan" else str(value)


def _odd(value: float) -> str:
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _dynamic(value: Any, kind: str) -> Any:
    """The parsed JSON of a dynamic value; inside a list, DuckDB gives JSON as text."""
    if value is None:
        return None
    if kind == "JSON":
        return json.loads(value)
    if kind.endswith("[]"):
        return [_dynamic(item, kind.removesuffix("[]")) for item in value]
    if isinstance(value, dict):
        return {str(key): _dynamic(item, "") for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool) else _cell(value, kind)


def _iso(moment: datetime) -> str:
    plain = moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    text = plain.isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"


def _timespan(value: timedelta) -> str:
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    hours, rest = divmod(value.seconds, 3600)
    days = f"{value.days}." if value.days else ""
    fraction = f".{value.microseconds:06d}0" if value.microseconds else ""
    return f"{sign}{days}{hours:02d}:{rest // 60:02d}:{rest % 60:02d}{fraction}"


# Refusals


def error_json(code: str, message: str, inner: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An error of Log Analytics."""
    error: dict[str, Any] = {"message": message, "code": code, "correlationId": str(uuid4())}
    if inner is not None:
        error["innererror"] = inner
    return {"error": error}


def query_error_json(error: QueryError) -> dict[str, Any]:
    """A query that was refused."""
    said = {
        "SemanticError": "A semantic error occurred.",
        "SyntaxError": "A recognition error occurred in the query.",
    }
    inner = {
        "code": error.kind,
        "message": said[error.kind],
        "innererror": {"code": error.code, "message": error.message},
    }
    return error_json("BadArgumentError", "The request had some invalid properties", inner)


def partial_error(message: str, *, code: str = "-2133196788") -> dict[str, Any]:
    """What stands beside the tables of a partial answer."""
    return {
        "code": "PartialError",
        "message": "There were some errors when processing your query.",
        "details": [
            {
                "code": "EngineError",
                "message": "Something went wrong processing your query on the server.",
                "innererror": {"code": code, "message": message, "severity": 2, "severityName": "Error"},
            }
        ],
    }


def metrics_error_json(error: MetricsError) -> dict[str, Any]:
    """A metrics request that was refused."""
    plain = {"code": error.code, "message": error.message}
    return {"error": plain} if error.wrapped else plain


# Requests


def parse_query(body: object) -> tuple[str, str | None]:
    """The query and the timespan of a request body. Raises ArgumentError."""
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise ArgumentError("Request is invalid: 'query' is missing")
    if body.get("workspaces"):
        raise ArgumentError("The sandbox has one log workspace: 'workspaces' must be empty")
    timespan = body.get("timespan")
    if timespan is not None and not isinstance(timespan, str):
        raise ArgumentError(f"Failed parsing timespan argument: {timespan}")
    return body["query"], timespan or None


def parse_timespan(text: str | None, *, now: datetime) -> tuple[datetime, datetime] | None:
    """`start/end`, `start/duration`, `duration/end` or a duration that ends now. Raises ArgumentError."""
    if text is None:
        return None
    parts = text.split("/")
    try:
        if len(parts) == 1:
            return now - _duration(parts[0]), now
        first, second = parts
        if first.startswith("P"):
            end = _moment(second)
            return end - _duration(first), end
        start = _moment(first)
        return start, start + _duration(second) if second.startswith("P") else _moment(second)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"Failed parsing timespan argument: {text}") from error


def parse_wait(prefer: str, *, default: float, longest: float) -> float:
    """Seconds the server may take: `wait=N` of the Prefer header."""
    found = re.search(r"\bwait=(\d+)", prefer)
    return min(float(found[1]), longest) if found else default


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(text)
    return timedelta(**{name: float(value) for name, value in match.groupdict().items() if value})


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def halved(rows: Sequence[Any]) -> Sequence[Any]:
    """The first half: what a partial answer still has."""
    return rows[: len(rows) // 2]
