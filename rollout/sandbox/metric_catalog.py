"""Which platform metrics online endpoints have, and what a caller of metrics:getBatch may ask of them.

The rule: names, units, aggregations and dimensions are those of Microsoft's generated tables; what is not there is
refused with 400, as the service does. Metrics that this sandbox has no source for are known, and have no data.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

ENDPOINTS = "microsoft.machinelearningservices/workspaces/onlineendpoints"
DEPLOYMENTS = f"{ENDPOINTS}/deployments"

GRAINS: Mapping[str, timedelta] = {
    "PT1M": timedelta(minutes=1),
    "PT5M": timedelta(minutes=5),
    "PT15M": timedelta(minutes=15),
    "PT30M": timedelta(minutes=30),
    "PT1H": timedelta(hours=1),
    "PT6H": timedelta(hours=6),
    "PT12H": timedelta(hours=12),
    "P1D": timedelta(days=1),
}


class MetricsError(Exception):
    """The request was refused. `wrapped`: whether the body stands under `error`."""

    def __init__(self, message: str, *, status: int = 400, code: str = "BadRequest", wrapped: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.wrapped = wrapped


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. `percentile`: of the latency in a minute; None of a latency: its mean. `dimensions` as documented."""

    name: str
    unit: str
    description: str = ""
    dimensions: tuple[str, ...] = ()
    aggregations: tuple[str, ...] = ("average",)
    percentile: float | None = None


def _latency(name: str, percentile: float | None, *dimensions: str) -> Metric:
    text = "The average complete interval of time taken for a request to be responded in milliseconds"
    if percentile is not None:
        text = (
            f"The average P{percentile:g} request latency aggregated by all request latency values "
            "collected over the selected time period"
        )
    return Metric(name=name, unit="MilliSeconds", description=text, dimensions=dimensions, percentile=percentile)


def _percentiles(*dimensions: str) -> list[Metric]:
    return [_latency(f"RequestLatency_P{rank}", rank, *dimensions) for rank in (50, 90, 95, 99)]


_ALL = ("minimum", "maximum", "average")
_BY_STATUS = ("deployment", "statusCode", "statusCodeClass", "modelStatusCode")


def _requests(*dimensions: str) -> Metric:
    return Metric(
        name="RequestsPerMinute",
        unit="Count",
        description="The number of requests sent to online endpoint within a minute",
        dimensions=dimensions,
    )


def _by_name(metrics: Sequence[Metric]) -> Mapping[str, Metric]:
    return {metric.name.casefold(): metric for metric in metrics}


#: Lower-cased namespace, lower-cased metric name.
CATALOG: Mapping[str, Mapping[str, Metric]] = {
    ENDPOINTS: _by_name(
        [
            _latency("RequestLatency", None, "deployment"),
            *_percentiles("deployment"),
            _requests(*_BY_STATUS),
            Metric(name="ConnectionsActive", unit="Count"),
            Metric(name="NewConnectionsPerSecond", unit="CountPerSecond"),
            Metric(name="NetworkBytes", unit="BytesPerSecond"),
            Metric(
                name="DataCollectionErrorsPerMinute",
                unit="Count",
                dimensions=("deployment", "reason", "type"),
                aggregations=_ALL,
            ),
            Metric(
                name="DataCollectionEventsPerMinute",
                unit="Count",
                dimensions=("deployment", "type"),
                aggregations=_ALL,
            ),
        ]
    ),
    DEPLOYMENTS: _by_name(
        [
            *_percentiles(),
            _requests("envoy_response_code"),
            *(
                Metric(name=name, unit="Percent", dimensions=("instanceId",), aggregations=_ALL)
                for name in (
                    "CpuUtilizationPercentage",
                    "CpuMemoryUtilizationPercentage",
                    "GpuUtilizationPercentage",
                    "GpuMemoryUtilizationPercentage",
                )
            ),
        ]
    ),
}


def find_metrics(namespace: str, names: Sequence[str]) -> list[Metric]:
    """The named metrics of a namespace, in the order asked for. Raises MetricsError for what does not exist."""
    metrics = CATALOG.get(namespace.casefold())
    if metrics is None:
        raise MetricsError(f"Cannot find metric namespace: {namespace}. (The sandbox has those of online endpoints.)")
    for name in names:
        if name.casefold() not in metrics:
            valid = ",".join(metric.name for metric in metrics.values())
            raise MetricsError(
                f"Failed to find metric configuration for namespace: {namespace}, metric: {name}, "
                f"Valid metrics: {valid}"
            )
    return [metrics[name.casefold()] for name in names]


def check_aggregations(metrics: Sequence[Metric], wanted: Sequence[str]) -> None:
    """Refuse an aggregation that one of the metrics does not have: 400 for the whole call."""
    for metric in metrics:
        for aggregation in wanted:
            if aggregation not in metric.aggregations:
                raise MetricsError(
                    f"Metric: {metric.name} does not support requested aggregation type: {aggregation}, "
                    f"supported ones are: {','.join(metric.aggregations)}"
                )


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What one dimension must hold: any of `equal` (`*` is any value), none of `different`, any of `starts`."""

    dimension: str  # lower-cased
    equal: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()

    def accepts(self, value: str) -> bool:
        """Whether a series with this value of the dimension is shown; compared without case."""
        value = value.casefold()
        if value in (item.casefold() for item in self.different):
            return False
        wanted = any(item in ("*", value) for item in (each.casefold() for each in self.equal))
        return (
            wanted or any(value.startswith(item.casefold()) for item in self.starts) or not (self.equal or self.starts)
        )


_CLAUSE = re.compile(
    r"\s*(?P<dimension>\w+)\s+(?P<operator>eq|ne|sw|startswith)\s+'(?P<value>(?:[^']|'')*)'\s*", re.IGNORECASE
)
_WORD = re.compile(r"\s*(and|or)\b", re.IGNORECASE)


def parse_filter(text: str) -> list[Condition]:
    """`deployment eq 'a' or deployment eq 'b' and statusCode eq '*'`: `or` joins values, `and` joins dimensions.

    Raises MetricsError where it is not of that form.
    """
    clauses: dict[str, Condition] = {}
    rest = text.replace("(", " ").replace(")", " ").strip()
    previous, joined = "", "and"
    while rest:
        clause = _CLAUSE.match(rest)
        if clause is None:
            raise MetricsError(f"Invalid filter: {text}")
        dimension = clause["dimension"].casefold()
        if joined == "or" and dimension != previous:
            raise MetricsError(f"Invalid filter: {text}. The or operator can only be used within one dimension")
        clauses[dimension] = _with(clauses.get(dimension, Condition(dimension=dimension)), clause)
        rest, previous = rest[clause.end() :], dimension
        if rest:
            word = _WORD.match(rest)
            if word is None or not rest[word.end() :].strip():
                raise MetricsError(f"Invalid filter: {text}")
            joined, rest = word[1].lower(), rest[word.end() :]
    return list(clauses.values())


def _with(condition: Condition, clause: re.Match[str]) -> Condition:
    value = clause["value"].replace("''", "'")
    equal, different, starts = condition.equal, condition.different, condition.starts
    match clause["operator"].lower():
        case "eq":
            equal = (*equal, value)
        case "ne":
            different = (*different, value)
        case _:
            starts = (*starts, value)
    return Condition(dimension=condition.dimension, equal=equal, different=different, starts=starts)


def check_dimensions(metrics: Sequence[Metric], conditions: Sequence[Condition]) -> None:
    """Refuse a filter on a dimension that one of the metrics does not have: 400 for the whole call."""
    for metric in metrics:
        supported = {dimension.casefold() for dimension in metric.dimensions}
        if any(condition.dimension not in supported for condition in conditions):
            asked = ",".join(condition.dimension for condition in conditions)
            offered = ",".join(metric.dimensions)
            raise MetricsError(
                f"Metric: {metric.name} does not support requested dimension combination: {asked}, "
                f"supported ones are: {offered}"
            )
