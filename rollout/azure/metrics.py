"""The port `Telemetry` over platform metrics: counts by class, one to three minutes late, without durations.

The rule: what a metric can say is used, and no more. `RequestsPerMinute` is offered with the aggregation Average only.
At the grain of one minute, split by every dimension (deployment, statusCode, modelStatusCode), each series holds one
sample a minute, so that its average is the count; we add the series up ourselves, because Azure's own value over series
that were not split would be their mean. Whether several emitters are averaged into a sample is not documented: shares of
errors, which compare series of the same minute, bear that; so these cells may stop a rollout early, and never promote one.
Latency metrics are means of percentiles without a count, of no use for a test, and not read: all requests are `UNTIMED`.

A point without a value is a missing minute, and so is a zero: the newest minutes show zeros that become numbers later.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial

from azure.monitor.querymetrics import (
    Metric,
    MetricAggregationType,
    MetricsClient,
    MetricsQueryResult,
    TimeSeriesElement,
)

from rollout.analysis.cells import UNTIMED
from rollout.azure.calls import Calls, send
from rollout.azure.kql import time_of
from rollout.azure.tally import Place, Tally
from rollout.errors import UnavailableError
from rollout.ports import Reading

NAMESPACE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
METRIC = "RequestsPerMinute"
FILTER = "deployment eq '*' and statusCode eq '*' and modelStatusCode eq '*'"
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

Counts = dict[tuple[Place, str], float]


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

    def read(self, endpoints: Sequence[str], *, start: int, end: int) -> Reading:
        """The cells of these endpoints in the minutes [start, end); metrics do not tell when they arrived."""
        wanted = sorted({endpoint.casefold() for endpoint in endpoints})
        tally = Tally()
        for first in range(0, len(wanted), self._max_endpoints):
            ask = partial(self._ask, wanted[first : first + self._max_endpoints], start, end)
            counts = self._calls.run(ask, doing=f"read the metrics of {self._place}", remedy=_REMEDY)
            for (place, cls), requests in counts.items():
                tally.add(place, cls, [(UNTIMED, round(requests))])
        return Reading(cells=tally.cells(), start=start, end=end)

    def _ask(self, endpoints: Sequence[str], start: int, end: int) -> Counts:
        results = send(
            self._client.query_resources,
            resource_ids=endpoints,
            metric_namespace=NAMESPACE,
            metric_names=[METRIC],
            timespan=(time_of(start), time_of(end)),  # whole minutes
            granularity=MINUTE,
            aggregations=[MetricAggregationType.AVERAGE],
            max_results=self._max_series,
            filter=FILTER,
        )
        counts: Counts = defaultdict(float)
        for metric in _metrics(results or ()):
            self._refuse_cut_off(metric)
            for series in metric.timeseries:
                for minute, cls, deployment, requests in _points(series):
                    if start <= minute < end:
                        counts[(_endpoint(metric), deployment, minute), cls] += requests
        return counts

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


def _metrics(results: Iterable[MetricsQueryResult]) -> Iterator[Metric]:
    return (metric for result in results for metric in result.metrics if metric.name.casefold() == METRIC.casefold())


def _endpoint(metric: Metric) -> str:
    """The resource that a metric belongs to: the results themselves do not say, and their order is not promised."""
    return metric.id.casefold().partition(_METRIC_PART)[0]


def _points(series: TimeSeriesElement) -> Iterator[tuple[int, str, str, float]]:
    """Minute, class, deployment and requests of a series; nothing where it belongs to no deployment."""
    labels = {name.casefold(): value for name, value in series.metadata_values.items()}
    deployment = labels.get("deployment", EMPTY)
    cls = classify(_code(labels.get("statuscode")), _code(labels.get("modelstatuscode")))
    if deployment.casefold() == EMPTY or cls is None:
        return
    for point in series.data:
        if point.average:
            yield int(point.timestamp.timestamp()) // 60, cls, deployment, point.average


def _code(value: str | None) -> int | None:
    return int(value) if value is not None and value.strip().isdigit() else None
