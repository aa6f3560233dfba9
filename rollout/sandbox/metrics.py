"""Platform metrics of online endpoints, as metrics:getBatch answers them: computed from the rows that have arrived.

The rule: a minute's value is what one emitter would have sent for it. A coarser grain is the mean of minutes, and a
series that is not split by all its dimensions is the mean over what it hides, never the sum: so are Azure's averages.
A minute without requests is null (or 0, a knob). Pure.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

import numpy as np

from rollout.sandbox.metric_catalog import (
    GRAINS,
    Condition,
    Metric,
    MetricsError,
    check_aggregations,
    check_dimensions,
    find_metrics,
    parse_filter,
)
from rollout.sandbox.telemetry import TrafficRow

MAX_RESOURCES = 50  # in one batch
DEFAULT_TOP = 10  # series for each metric and resource; counts only where there is a filter
RETENTION_MINUTES = 3 * 60
UNROUTED = "__Empty"  # the deployment of a request that was refused before it was routed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)

Key = tuple[str, int, int]  # deployment, status, model status
Cells = dict[int, dict[Key, list[int]]]  # minute, key -> durations in ms
Series = tuple[str, ...]  # values of the dimensions it is split by
Points = dict[int, list[float]]  # minute -> the values that are averaged


@dataclass(frozen=True, kw_only=True)
class MetricsRequest:
    """What was asked, checked."""

    namespace: str
    metrics: Sequence[Metric]
    conditions: Sequence[Condition]
    start: datetime
    end: datetime
    grain: timedelta
    interval: str
    top: int
    aggregations: Sequence[str]
    descending: bool

    @property
    def minutes(self) -> range:
        """The first minute of each point, aligned to the grain."""
        step = self.grain // _MINUTE
        first = (self.start - _EPOCH) // _MINUTE
        first = first if self.interval == "FULL" else first // step * step
        return range(first, max(first + 1, -((_EPOCH - self.end) // _MINUTE)), step)


def parse_request(query: Mapping[str, str], *, now: datetime) -> MetricsRequest:
    """The query string of metrics:getBatch. Raises MetricsError with what the service would answer."""
    namespace = query.get("metricnamespace", "")
    if not namespace:
        raise MetricsError("Missing required parameter: metricnamespace")
    metrics = find_metrics(namespace, _names(query.get("metricnames", "")))
    aggregations = [name.lower() for name in _names(query.get("aggregation", "average"))]
    conditions = parse_filter(query.get("filter", ""))
    check_aggregations(metrics, aggregations)
    check_dimensions(metrics, conditions)
    if query.get("rollupby"):
        raise MetricsError("rollupby: the sandbox does not offer it; split by the dimension and add the series up")
    start, end = _timespan(query, now=now)
    interval = query.get("interval", "PT1M")
    return MetricsRequest(
        namespace=namespace,
        metrics=metrics,
        conditions=conditions,
        start=start,
        end=end,
        grain=_grain(interval, start, end),
        interval=interval,
        top=_top(query.get("top")) if conditions else 2**31 - 1,
        aggregations=aggregations,
        descending=not query.get("orderby", "").lower().endswith(" asc"),
    )


class MetricStore:
    """The requests of each endpoint by minute, deployment and status."""

    def __init__(self, *, region: str, idle_is_zero: bool = False) -> None:
        self.idle_is_zero = idle_is_zero
        self._region = region
        self._cells: dict[str, Cells] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))

    def append(self, arrived: Sequence[tuple[datetime, TrafficRow]]) -> None:
        """Add rows; minutes older than the retention are forgotten."""
        for _, row in arrived:
            minute = (row.time_generated - _EPOCH) // _MINUTE
            key = (row.deployment_name, row.response_code, row.model_status_code)
            self._cells[row.resource_id.lower()][minute][key].append(row.total_duration_ms)
        for cells in self._cells.values():
            newest = max(cells, default=0)
            for minute in [minute for minute in cells if minute < newest - RETENTION_MINUTES]:
                del cells[minute]

    def answer(self, request: MetricsRequest, resources: Sequence[str]) -> dict[str, Any]:
        """The body of metrics:getBatch for these resource ids."""
        if not 0 < len(resources) <= MAX_RESOURCES:
            raise MetricsError(
                f"The number of resource ids must be between 1 and {MAX_RESOURCES}, was {len(resources)}"
            )
        return {"values": [self._resource(request, resource) for resource in resources]}

    def _resource(self, request: MetricsRequest, resource: str) -> dict[str, Any]:
        return {
            "starttime": _iso(request.start),
            "endtime": _iso(request.end),
            "interval": request.interval,
            "value": [self._metric(request, metric, resource) for metric in request.metrics],
            "namespace": request.namespace.lower(),
            "resourceregion": self._region,
            "resourceid": resource,
        }

    def _metric(self, request: MetricsRequest, metric: Metric, resource: str) -> dict[str, Any]:
        series = self._series(request, metric, resource)
        ranked = sorted(series.items(), key=lambda item: _weight(item[1]), reverse=request.descending)
        shown = ranked[: request.top]
        return {
            "id": f"{resource}/providers/Microsoft.Insights/metrics/{metric.name}",
            "type": "Microsoft.Insights/metrics",
            "name": {"value": metric.name, "localizedValue": metric.name},
            "displayDescription": metric.description,
            "unit": metric.unit,
            "timeseries": [
                {"metadatavalues": _named(request, key), "data": list(self._points(request, points))}
                for key, points in shown
            ],
            "errorCode": "Success",
        }

    def _points(self, request: MetricsRequest, points: Points) -> Iterator[dict[str, Any]]:
        step = request.grain // _MINUTE
        for first in request.minutes:
            values = [value for minute in range(first, first + step) for value in points.get(minute, ())]
            point: dict[str, Any] = {"timeStamp": _iso(_EPOCH + first * _MINUTE)}
            if values or self.idle_is_zero:
                point["average"] = fmean(values) if values else 0.0
            yield point

    def _series(self, request: MetricsRequest, metric: Metric, resource: str) -> dict[Series, Points]:
        """Each series that the filter shows: for each minute the values of the emitters it stands for."""
        series: dict[Series, Points] = defaultdict(lambda: defaultdict(list))
        cells, deployment = self._cells_of(resource)
        minutes = request.minutes
        for minute in range(minutes[0], minutes[-1] + minutes.step):
            for dimensions, value in _emitted(metric, cells.get(minute, {}), deployment):
                if all(each.accepts(dimensions[each.dimension]) for each in request.conditions):
                    series[tuple(dimensions[each.dimension] for each in request.conditions)][minute].append(value)
        return series

    def _cells_of(self, resource: str) -> tuple[Cells, str | None]:
        """The cells of an endpoint; of a deployment: those of its endpoint, and its name."""
        endpoint, found, deployment = resource.lower().partition("/deployments/")
        return self._cells.get(endpoint, {}), deployment if found else None


def _emitted(
    metric: Metric, cell: Mapping[Key, Sequence[int]], deployment: str | None
) -> Iterator[tuple[dict[str, str], float]]:
    """What was sent for one minute: lower-cased dimensions and the value."""
    chosen = {key: values for key, values in cell.items() if deployment is None or key[0].lower() == deployment}
    if metric.name == "RequestsPerMinute":
        for (name, status, model), durations in sorted(chosen.items()):
            yield _dimensions(name, status, model), float(len(durations))
    elif metric.name.startswith("RequestLatency"):
        for name in sorted({key[0] for key in chosen if key[0]}):
            durations = [value for key, values in chosen.items() if key[0] == name for value in values]
            yield {"deployment": name}, _latency(durations, metric.percentile)


def _dimensions(name: str, status: int, model: int) -> dict[str, str]:
    return {
        "deployment": name or UNROUTED,
        "statuscode": str(status),
        "statuscodeclass": f"{status // 100}xx",
        "modelstatuscode": str(model),
        "envoy_response_code": str(status),
    }


def _latency(durations: Sequence[int], percentile: float | None) -> float:
    return fmean(durations) if percentile is None else float(np.percentile(durations, percentile))


def _weight(points: Points) -> float:
    return sum(sum(values) for values in points.values())


def _named(request: MetricsRequest, key: Series) -> list[dict[str, Any]]:
    """`metadatavalues`: the service writes dimensions in lower case."""
    return [
        {"name": {"value": each.dimension, "localizedValue": each.dimension}, "value": value}
        for each, value in zip(request.conditions, key, strict=True)
    ]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _grain(interval: str, start: datetime, end: datetime) -> timedelta:
    if interval == "FULL":
        return max(_MINUTE, -((start - end) // _MINUTE) * _MINUTE)
    if interval not in GRAINS:
        supported = "00:01:00,00:05:00,00:15:00,00:30:00,01:00:00,06:00:00,12:00:00,1.00:00:00"
        raise MetricsError(f"Invalid time grain duration: {interval}, supported ones are: {supported}", wrapped=False)
    return GRAINS[interval]


def _top(text: str | None) -> int:
    if text is None:
        return DEFAULT_TOP
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise MetricsError(f"Invalid value for parameter top: {text}")
    return int(text)


def _timespan(query: Mapping[str, str], *, now: datetime) -> tuple[datetime, datetime]:
    try:
        end = datetime.fromisoformat(query["endtime"]) if "endtime" in query else now
        start = datetime.fromisoformat(query["starttime"]) if "starttime" in query else end - timedelta(hours=1)
    except ValueError as error:
        raise MetricsError(f"Invalid time: {error}") from error
    start, end = (moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in (start, end))
    if start >= end:
        raise MetricsError(f"Invalid timespan: starttime {_iso(start)} is not before endtime {_iso(end)}")
    return start, end


__all__ = ["MetricStore", "MetricsError", "MetricsRequest", "parse_request"]
