"""Rows of the traffic log for tests, and the query that Rollout asks of them.

Minutes are counted from `START`. The query is kept apart from the product's own: the sandbox must run what it is sent.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from rollout.sandbox.telemetry import TrafficRow

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
ENDPOINT = (
    "/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/w/onlineEndpoints/e"
)

CELLS = """
let _eps  = dynamic(["{endpoint}"]);
let _from = datetime({start});
let _to   = datetime({end});
let _base = datatable(TimeGenerated:datetime, _ResourceId:string, DeploymentName:string, rc:int, mc:int, ms:int, ing:datetime)[];
union isfuzzy=true _base,
  (AmlOnlineEndpointTrafficLog
   | where TimeGenerated >= _from and TimeGenerated < _to
   | where _ResourceId in~ (_eps) and isnotempty(DeploymentName) and UserAgent !startswith "azureml-rollout"
   | project TimeGenerated, _ResourceId, DeploymentName, rc = toint(ResponseCode), mc = toint(ModelStatusCode), ms = toint(TotalDurationMs), ing = ingestion_time())
| summarize c = count(), ing = max(ing) by _ResourceId, DeploymentName, at = bin(TimeGenerated, 1m), rc, mc, ms
| where rc != 100
| extend cls = case(rc == 424 and mc >= 500, "model_5xx", rc == 424, "model_4xx", rc == 429, "throttled", rc == 408, "timeout",
                    rc >= 500, "5xx", rc >= 400, "4xx", rc between (200 .. 399), "ok", "gone")
| extend b = toint(bin(log2(max_of(1.0, todouble(ms))) * 8 + 1e-9, 1.0))
| summarize c = sum(c), ing = max(ing) by _ResourceId, DeploymentName, at, cls, b
| summarize n = sum(c), h = make_list(pack_array(b, c)), ing = max(ing) by rid = tolower(_ResourceId), DeploymentName, at, cls
| project rid, deployment = DeploymentName, minute = tolong((at - datetime(1970-01-01)) / 1m), cls, n, h, ingested = tolong((ing - datetime(1970-01-01)) / 1s)
"""  # noqa: E501


def cells_query(
    start: datetime = START, end: datetime = START + timedelta(minutes=20), endpoint: str = ENDPOINT
) -> str:
    """The query for the cells of an endpoint between two moments."""
    moments = {"start": start.strftime("%Y-%m-%dT%H:%M:%SZ"), "end": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return CELLS.format(endpoint=endpoint.lower(), **moments)


def row(minute: float = 0, **changes: Any) -> TrafficRow:
    """A good answer of blue in 12 ms, so many minutes after `START`."""
    given: dict[str, Any] = {
        "time_generated": START + timedelta(minutes=minute),
        "resource_id": ENDPOINT.lower(),
        "endpoint_name": "e",
        "deployment_name": "blue",
        "response_code": 200,
        "model_status_code": 200,
        "total_duration_ms": 12,
    }
    return TrafficRow(**(given | changes))


def arrived(rows: Iterable[TrafficRow], *, after: float = 4) -> list[tuple[datetime, TrafficRow]]:
    """The rows with their ingestion times, so many minutes later."""
    return [(each.time_generated + timedelta(minutes=after), each) for each in rows]
