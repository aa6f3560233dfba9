"""The query that turns the traffic log of online endpoints into cells, in Kusto's language.

The rule: one query for all endpoints of one log workspace, whose answer does not grow with traffic: a row per endpoint,
deployment, minute and class, with the histogram of durations packed into it. Times leave as whole numbers, because parsing
dates would cost more than all the rest. Only the `let` values differ between two calls.
Of endpoints whose answer sizes are wanted there is one row more for each deployment and minute, of class `answer_size`: the
histogram of the bytes of good answers. The rows are then looked through twice, so it is asked for only where it is judged.

`union isfuzzy` with an empty table keeps the query valid while the log table does not exist yet (before its first row).
Code 100 is an interim answer, not a request's end. 424 says that the model did not answer 200; what it answered is in
ModelStatusCode: a 4xx there is the caller's fault, all else (also no answer at all) the model's.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

_ROWS = """\
// rollout-cells/v2
let _eps  = dynamic({endpoints});
let _from = datetime({start});
let _to   = datetime({end});
let _base = datatable(TimeGenerated:datetime, _ResourceId:string, DeploymentName:string,
                      rc:int, mc:int, ms:int,{column} ing:datetime)[];
let _rows = union isfuzzy=true _base,
  (AmlOnlineEndpointTrafficLog
   | where TimeGenerated >= _from and TimeGenerated < _to
   | where _ResourceId in~ (_eps) and isnotempty(DeploymentName) and UserAgent !startswith "azureml-rollout"
   | project TimeGenerated, _ResourceId, DeploymentName, rc = toint(ResponseCode), mc = toint(ModelStatusCode),
             ms = toint(TotalDurationMs),{bytes} ing = ingestion_time());
"""
_DURATIONS = """\
_rows
| summarize c = count(), ing = max(ing) by _ResourceId, DeploymentName, at = bin(TimeGenerated, 1m), rc, mc, v = tolong(ms)
| where rc != 100
| extend cls = case(rc == 424 and mc >= 400 and mc < 500, "model_4xx", rc == 424, "model_5xx",
                    rc == 429, "throttled", rc == 408, "timeout",
                    rc >= 500, "5xx", rc >= 400, "4xx", rc between (200 .. 399), "ok", "gone")
"""
_BOTH = """\
let _sized = dynamic({sized});
let _durations = {durations};
let _sizes = _rows
| where rc between (200 .. 399) and isnotnull(bytes) and _ResourceId in~ (_sized)
| summarize c = count(), ing = max(ing) by _ResourceId, DeploymentName, at = bin(TimeGenerated, 1m), rc, mc, v = bytes
| extend cls = "answer_size";
union _durations, _sizes
"""
_CELLS = """\
| extend b = toint(bin(log2(max_of(1.0, todouble(v))) * 8 + 1e-9, 1.0))
| summarize c = sum(c), ing = max(ing) by _ResourceId, DeploymentName, at, cls, b
| summarize n = sum(c), h = make_list(pack_array(b, c)), ing = max(ing) by rid = tolower(_ResourceId), DeploymentName, at, cls
| project rid, deployment = DeploymentName, minute = tolong((at - datetime(1970-01-01)) / 1m), cls, n, h,
          ingested = tolong((ing - datetime(1970-01-01)) / 1s)
"""


def cells_query(endpoints: Sequence[str], *, start: int, end: int, sized: Sequence[str] = ()) -> str:
    """The query for these endpoints (resource ids, lower case) and the minutes [start, end) since the epoch.

    `sized` names those of them whose sizes of answers are wanted, too.
    """
    rows = _ROWS.format(
        endpoints=json.dumps(list(endpoints)),
        start=_minute(start),
        end=_minute(end),
        column=" bytes:long," if sized else "",
        bytes=" bytes = tolong(ResponsePayloadSize)," if sized else "",
    )
    counted = _BOTH.format(sized=json.dumps(list(sized)), durations=_DURATIONS.rstrip()) if sized else _DURATIONS
    return rows + counted + _CELLS


def time_of(minute: int) -> datetime:
    """The begin of a minute since the epoch, UTC."""
    return datetime.fromtimestamp(minute * 60, UTC)


def _minute(minute: int) -> str:
    return time_of(minute).strftime("%Y-%m-%dT%H:%M:00Z")
