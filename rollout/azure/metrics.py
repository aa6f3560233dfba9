"""The port `Telemetry` over platform metrics: counts by class, one to three minutes late, without requests' durations.

The rule: what a metric can say is used, and no more. `RequestsPerMinute` is offered with the aggregation Average only.
At the grain of one minute, split by every dimension (deployment, statusCode, modelStatusCode), each series holds one
sample a minute, so that its average is the count; we add the series up ourselves, because Azure's own value over series
that were not split would be their mean. Whether several emitters are averaged into a sample is not documented: shares of
errors, which compare series of the same minute, bear that. They may stop a rollout early; they promote one only where its
policy asks for no logs.
All requests are `UNTIMED`: latency metrics are a minute's percentiles without a count, of no use for a test of shares. Where
they are wanted (`measured`) they are read by a call of their own, since a filter by status is refused for them, and become
measures: the bucket of the percentile, once.

A point without a value is a missing minute, and so is a zero: the newest minutes show zeros that become numbers later.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from azure.monitor.querymetrics import (
    Metric,
    MetricAggregationType,
    MetricsClient,
    MetricsQueryResult,
    TimeSeriesElement,
)

from rollout.analysis.cells import REPORTED, UNTIMED, bucket
from rollout.azure.calls import Calls, send
from rollout.azure.kql import time_of
from rollout.azure.tally import Place, Tally
from rollout.errors import UnavailableError
from rollout.ports import Reading

NAMESPACE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
#: The metric of each measure: `reported_p95` is told by `RequestLatency_P95`.
LATENCIES = {measure: f"RequestLatency_P{measure.rpartition('p')[2]}" for measure in REPORTED.values()}
MINUTE = timedelta(minutes=1)
MAX_ENDPOINTS = 50  # per call
#: Azure gives 10 series unless told, without a word that there were more. Twenty deployments with fifty pairs of codes.
MAX_SERIES = 1000
EMPTY = "__empty"  # how a dimension says that it does not apply (case-folded)
_METRIC_PART = "/providers/microsoft.insights/metrics/"
_REMEDY = (
    "Reading the metrics of many endpoints in one call needs the role Monitoring Reader on the subscription"
    " (on the resource group it is not enough); without it, set `metrics: none` for this workspace."
)

Point = tuple[int, str, str, float]  # minute, deployment, class or measure, value


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One kind of call: what is asked for, split by what, and how a series is read."""

    metrics: Sequence[str]
    split: str
    read: Callable[[Metric, TimeSeriesElement], Iterator[Point]]


class AzureMetrics:
    """The online endpoints of one subscription in one region (see `rollout.ports.Telemetry`)."""

    def __init__(
        self,
        client: MetricsClient,
        *,
        place: str,
        calls: Calls,
        max_endpoints: int = MAX_ENDPOINTS,
        max_series: int = MAX_SERIES,
    ) -> None:
        self._client = client
        self._place = place
        self._calls = calls
        self._max_endpoints = max_endpoints
        self._max_series = max_series

    def read(self, endpoints: Sequence[str], *, start: int, end: int, measured: Collection[str] = ()) -> Reading:
        """The cells of these endpoints in the minutes [start, end); of those `measured` with the reported latencies.

        Metrics do not tell when they arrived.
        """
        tally = Tally()
        counted: dict[tuple[Place, str], float] = defaultdict(float)
        for place, cls, requests in self._seen(_COUNTS, endpoints, start, end):
            counted[place, cls] += requests
        for (place, cls), requests in counted.items():
            tally.add(place, cls, [(UNTIMED, round(requests))])
        answered = {place for place, _ in counted}
        for place, measure, milliseconds in self._seen(_LATENCIES, measured, start, end):
            if place in answered:  # a latency of nobody is a remnant of another minute
                tally.add(place, measure, [(bucket(milliseconds), 1)])
        return Reading(cells=tally.cells(), start=start, end=end)

    def _seen(
        self, call: _Call, endpoints: Collection[str], start: int, end: int
    ) -> Iterator[tuple[Place, str, float]]:
        """What such a call shows of these endpoints: place, class or measure, value."""
        wanted = sorted({endpoint.casefold() for endpoint in endpoints})
        for first in range(0, len(wanted), self._max_endpoints):
            ask = partial(self._ask, call, wanted[first : first + self._max_endpoints], start, end)
            yield from self._calls.run(ask, doing=f"read the metrics of {self._place}", remedy=_REMEDY)

    def _ask(self, call: _Call, endpoints: Sequence[str], start: int, end: int) -> Sequence[tuple[Place, str, float]]:
        results = send(
            self._client.query_resources,
            resource_ids=endpoints,
            metric_namespace=NAMESPACE,
            metric_names=list(call.metrics),
            timespan=(time_of(start), time_of(end)),  # whole minutes
            granularity=MINUTE,
            aggregations=[MetricAggregationType.AVERAGE],
            max_results=self._max_series,
            filter=call.split,
        )
        seen = []
        for metric in _metrics(results or (), call.metrics):
            self._refuse_cut_off(metric)
            for series in metric.timeseries:
                for minute, deployment, name, value in call.read(metric, series):
                    if start <= minute < end:
                        seen.append(((_endpoint(metric), deployment.casefold(), minute), name, value))
        return seen

    def _refuse_cut_off(self, metric: Metric) -> None:
        if len(metric.timeseries) >= self._max_series:
            raise UnavailableError(
                f"The metrics of {self._place} gave {len(metric.timeseries)} series for {_endpoint(metric)}:"
                " an answer that reaches the limit may be cut off."
            )


def classify(status: int | None, model_status: int | None) -> str | None:
    """The class of a request by its codes, as in `kql.py`; None for an interim answer (100)."""
    if status == 100:
        return None
    if status == 424:
        return "model_4xx" if model_status is not None and 400 <= model_status < 500 else "model_5xx"
    named = {429: "throttled", 408: "timeout"}
    if status in named:
        return named[status]
    bounds = ((500, "5xx"), (400, "4xx"), (200, "ok"))
    return next((cls for bound, cls in bounds if status is not None and status >= bound), "gone")


def _metrics(results: Iterable[MetricsQueryResult], names: Collection[str]) -> Iterator[Metric]:
    wanted = {name.casefold() for name in names}
    return (metric for result in results for metric in result.metrics if metric.name.casefold() in wanted)


def _endpoint(metric: Metric) -> str:
    """The resource that a metric belongs to: the results themselves do not say, and their order is not promised."""
    return metric.id.casefold().partition(_METRIC_PART)[0]


def _requests(_: Metric, series: TimeSeriesElement) -> Iterator[Point]:
    """Requests by class; nothing where the series is of interim answers."""
    labels = _labels(series)
    cls = classify(_code(labels.get("statuscode")), _code(labels.get("modelstatuscode")))
    return _points(series, cls) if cls is not None else iter(())


def _latency(metric: Metric, series: TimeSeriesElement) -> Iterator[Point]:
    """The quantile that was reported, in milliseconds, under the measure of its metric."""
    measures = {name.casefold(): measure for measure, name in LATENCIES.items()}
    return _points(series, measures[metric.name.casefold()])


def _points(series: TimeSeriesElement, name: str) -> Iterator[Point]:
    """The minutes with a value, under this name; nothing where the series belongs to no deployment."""
    deployment = _labels(series).get("deployment", EMPTY)
    if deployment.casefold() == EMPTY:
        return
    for point in series.data:
        if point.average:
            yield int(point.timestamp.timestamp()) // 60, deployment, name, point.average


def _labels(series: TimeSeriesElement) -> dict[str, str]:
    return {name.casefold(): value for name, value in series.metadata_values.items()}


def _code(value: str | None) -> int | None:
    return int(value) if value is not None and value.strip().isdigit() else None


_COUNTS = _Call(
    metrics=["RequestsPerMinute"],
    split="deployment eq '*' and statusCode eq '*' and modelStatusCode eq '*'",
    read=_requests,
)
_LATENCIES = _Call(metrics=list(LATENCIES.values()), split="deployment eq '*'", read=_latency)
