"""The traffic log: who sends it where, whether rows arrive, and how many; and whether the metrics can be read.

The rule: one query for all endpoints of a log workspace, one metrics call for at most fifty of them, and one single
resource's metrics only where the call for many was refused.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.monitor.query import LogsQueryClient, LogsQueryPartialResult, LogsTable

from rollout.azure.calls import send
from rollout.azure.examining.causes import attempt
from rollout.azure.examining.facts import Diagnostic, LogWorkspace, Rows, Seen
from rollout.azure.examining.manager import ResourceManager
from rollout.azure.kql import time_of
from rollout.azure.logs import QUERY_READ_TIMEOUT, SERVER_TIMEOUT
from rollout.errors import UnavailableError
from rollout.ports import Telemetry

DIAGNOSTICS_VERSION, WORKSPACES_VERSION, METRICS_VERSION = "2021-05-01-preview", "2023-09-01", "2024-02-01"
CATEGORY = "AmlOnlineEndpointTrafficLog"
METRICS_MINUTES = 15
_QUERY = """\
// rollout-doctor/v1
let _eps  = dynamic({endpoints});
let _from = datetime({start});
let _to   = datetime({end});
let _late = datetime({recent});
let _base = datatable(TimeGenerated:datetime, _ResourceId:string, DeploymentName:string, size:real, ours:int)[];
union isfuzzy=true _base,
  (AmlOnlineEndpointTrafficLog
   | where TimeGenerated >= _from and TimeGenerated < _to
   | where _ResourceId in~ (_eps) and isnotempty(DeploymentName)
   | project TimeGenerated, _ResourceId, DeploymentName, size = toreal(_BilledSize),
             ours = iff(UserAgent startswith "azureml-rollout", 1, 0))
| summarize n = count(), size = sum(size), recent = countif(TimeGenerated >= _late and ours == 0),
            oldest = min(TimeGenerated), newest = max(TimeGenerated) by rid = tolower(_ResourceId), deployment = DeploymentName
| project rid, deployment, n, size, recent, oldest = tolong((oldest - datetime(1970-01-01)) / 1s),
          newest = tolong((newest - datetime(1970-01-01)) / 1s)
"""


def diagnostics(manager: ResourceManager, resource: str) -> Seen[tuple[Diagnostic, ...]]:
    """The diagnostic settings of an endpoint."""
    path = f"{resource}/providers/Microsoft.Insights/diagnosticSettings"
    return attempt(
        "read the diagnostic settings of the endpoint",
        lambda: tuple(_diagnostic(each) for each in manager.pages(path, DIAGNOSTICS_VERSION)),
    )


def log_workspaces(manager: ResourceManager, *, subscription: str) -> Seen[tuple[LogWorkspace, ...]]:
    """The log workspaces of the subscription."""
    path = f"/subscriptions/{subscription}/providers/Microsoft.OperationalInsights/workspaces"
    return attempt(
        "list the log workspaces of the subscription",
        lambda: tuple(_log_workspace(each) for each in manager.pages(path, WORKSPACES_VERSION)),
    )


def log_workspace(manager: ResourceManager, place: str) -> Seen[LogWorkspace]:
    """The log workspace with this ARM id."""
    return attempt(
        f"read log workspace {place.rpartition('/')[2]}", lambda: _log_workspace(manager.get(place, WORKSPACES_VERSION))
    )


def rows(
    client: LogsQueryClient, *, log_workspace: str, endpoints: Sequence[str], start: int, end: int
) -> Seen[Mapping[str, Mapping[str, Rows]]]:
    """Rows by endpoint and deployment (case-folded) in the minutes [start, end) since the epoch."""
    query = _QUERY.format(
        endpoints=json.dumps([each.casefold() for each in endpoints]),
        start=_moment(start),
        end=_moment(end),
        recent=_moment(end - 60),
    )
    doing = f"query the traffic log in {log_workspace}"
    return attempt(doing, lambda: _rows(_ask(client, log_workspace, query, start, end)))


def batch(metrics: Telemetry, endpoints: Sequence[str], *, now: int) -> Seen[Mapping[str, int]]:
    """Requests of the last minutes by endpoint, from one call for many; a missing endpoint had none."""

    def read() -> Mapping[str, int]:
        cells = metrics.read(endpoints, start=now - METRICS_MINUTES, end=now).cells
        return {
            endpoint: sum(cell.count() for minutes in deployments.values() for cell in minutes.values())
            for endpoint, deployments in cells.items()
        }

    return attempt("read the metrics in one call", read)


def single(manager: ResourceManager, endpoint: str, *, now: datetime) -> Seen[bool]:
    """Whether one endpoint's metrics can be read by themselves."""
    span = f"{now - timedelta(minutes=METRICS_MINUTES):%Y-%m-%dT%H:%M:00Z}/{now:%Y-%m-%dT%H:%M:00Z}"
    path = f"{endpoint}/providers/Microsoft.Insights/metrics"
    query = {"metricnames": "RequestsPerMinute", "aggregation": "Average", "interval": "PT1M", "timespan": span}
    return attempt(
        "read the metrics of one endpoint", lambda: bool(manager.get(path, METRICS_VERSION, **query)["value"])
    )


def _ask(client: LogsQueryClient, log_workspace: str, query: str, start: int, end: int) -> LogsTable | None:
    result = send(
        client.query_workspace,
        log_workspace,
        query,
        timespan=(time_of(start), time_of(end)),
        server_timeout=SERVER_TIMEOUT,
        read_timeout=QUERY_READ_TIMEOUT,
        headers={"Cache-Control": "no-cache"},
    )
    if isinstance(result, LogsQueryPartialResult):
        raise UnavailableError(f"The traffic log in {log_workspace} gave a partial answer, which is none.")
    return result.tables[0] if result is not None and result.tables else None


def _rows(table: LogsTable | None) -> Mapping[str, Mapping[str, Rows]]:
    found: defaultdict[str, dict[str, Rows]] = defaultdict(dict)
    for row in table.rows if table else ():
        found[row["rid"]][row["deployment"].casefold()] = Rows(
            rows=int(row["n"]),
            size=float(row["size"] or 0.0),
            recent=int(row["recent"]),
            oldest=datetime.fromtimestamp(row["oldest"], UTC),
            newest=datetime.fromtimestamp(row["newest"], UTC),
        )
    return dict(found)


def _diagnostic(item: Mapping[str, Any]) -> Diagnostic:
    properties = item["properties"]
    on = [each for each in properties.get("logs") or () if each.get("enabled")]
    return Diagnostic(
        name=str(item.get("name")),
        workspace_id=properties.get("workspaceId"),
        categories=frozenset(str(each["category"]) for each in on if each.get("category")),
        all_logs=any(str(each.get("categoryGroup")).casefold() == "alllogs" for each in on),
    )


def _log_workspace(item: Mapping[str, Any]) -> LogWorkspace:
    properties = item["properties"]
    cap = float((properties.get("workspaceCapping") or {}).get("dailyQuotaGb") or -1)
    return LogWorkspace(
        id=str(item["id"]),
        customer_id=str(properties["customerId"]),
        daily_cap_gb=cap if cap > 0 else None,
        public_queries=properties.get("publicNetworkAccessForQuery") != "Disabled",
    )


def _moment(minute: int) -> str:
    return f"{time_of(minute):%Y-%m-%dT%H:%M:00Z}"
