"""The query that turns the traffic log of online endpoints into cells, in Kusto's language.

The rule: one query for all endpoints of one log workspace, whose answer does not grow with traffic: a row per endpoint,
deployment, minute and class, with the histogram of durations packed into it. Times leave as whole numbers, because parsing
dates would cost more than all the rest. Only the three `let` values differ between two calls.

`union isfuzzy` with an empty table keeps the query valid while the log table does not exist yet (before its first row).
Code 100 is an interim answer, not a request's end. 424 says that the model did not answer 200; what it answered is in
ModelStatusCode: a 4xx there is the caller's fault, all else (also no answer at all) the model's.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

_QUERY = """\
// rollout-cells/v1
let _eps  = dynamic({endpoints});
let _from = datetime({start});
let _to   = datetime({end});
let _base = datatable(TimeGenerated:datetime, _ResourceId:string, DeploymentName:string,
                      rc:int, mc:int, ms:int, ing:datetime)[];
union isfuzzy=true _base,
  (AmlOnlineEndpointTrafficLog
   | where TimeGenerated >= _from and TimeGenerated < _to
   | where _ResourceId in~ (_eps) and isnotempty(DeploymentName) and UserAgent !startswith "azureml-rollout"
   | project TimeGenerated, _ResourceId, DeploymentName, rc = toint(ResponseCode), mc = toint(ModelStatusCode),
             ms = toint(TotalDurationMs), ing = ingestion_time())
| summarize c = count(), ing = max(ing) by _ResourceId, DeploymentName, at = bin(TimeGenerated, 1m), rc, mc, ms
| where rc != 100
| extend cls = case(rc == 424 and mc >= 400 and mc < 500, "model_4xx", rc == 424, "model_5xx",
                    rc == 429, "throttled", rc == 408, "timeout",
                    rc >= 500, "5xx", rc >= 400, "4xx", rc between (200 .. 399), "ok", "gone")
| extend b = toint(bin(log2(max_of(1.0, todouble(ms))) * 8 + 1e-9, 1.0))
| summarize c = sum(c), ing = max(ing) by _ResourceId, DeploymentName, at, cls, b
| summarize n = sum(c), h = make_list(pack_array(b, c)), ing = max(ing) by rid = tolower(_ResourceId), DeploymentName, at, cls
| project rid, deployment = DeploymentName, minute = tolong((at - datetime(1970-01-01)) / 1m), cls, n, h,
          ingested = tolong((ing - datetime(1970-01-01)) / 1s)
"""


def cells_query(endpoints: Sequence[str], *, start: int, end: int) -> str:
    """The query for these endpoints (resource ids, lower case) and the minutes [start, end) since the epoch."""
    return _QUERY.format(endpoints=json.dumps(list(endpoints)), start=_minute(start), end=_minute(end))


def time_of(minute: int) -> datetime:
    """The begin of a minute since the epoch, UTC."""
    return datetime.fromtimestamp(minute * 60, UTC)


def _minute(minute: int) -> str:
    return time_of(minute).strftime("%Y-%m-%dT%H:%M:00Z")
