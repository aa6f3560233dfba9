"""Who wrote to the endpoints and deployments of a workspace lately, by Azure's activity log.

The rule: the log tells who, what and when, never what was written: no split can be read from it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rollout.azure.examining.causes import attempt
from rollout.azure.examining.facts import Change, Seen, Who
from rollout.azure.examining.manager import ResourceManager

VERSION = "2015-04-01"
_SELECT = "caller,claims,eventTimestamp,operationName,resourceId,status"
_ENDPOINT = "microsoft.machinelearningservices/workspaces/onlineendpoints"
_WRITES = frozenset({f"{_ENDPOINT}/write", f"{_ENDPOINT}/deployments/write"})


def changes(
    manager: ResourceManager, *, subscription: str, group: str, since: datetime, us: Who | None
) -> Seen[tuple[Change, ...]]:
    """Writes that succeeded, oldest first."""
    path = f"/subscriptions/{subscription}/providers/Microsoft.Insights/eventtypes/management/values"
    when = f"eventTimestamp ge '{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}' and resourceGroupName eq '{group}'"

    def read() -> tuple[Change, ...]:
        items = manager.pages(path, VERSION, filter=when, select=_SELECT)
        found = {_change(each, us) for each in items if _is_write(each)}
        return tuple(sorted(found, key=lambda change: change.at))

    return attempt("read the activity log", read)


def _is_write(item: Mapping[str, Any]) -> bool:
    return _value(item, "operationName") in _WRITES and _value(item, "status") == "succeeded"


def _change(item: Mapping[str, Any], us: Who | None) -> Change:
    claims = {str(key).rpartition("/")[2]: str(value) for key, value in (item.get("claims") or {}).items()}
    ids = {claims.get("appid", "").casefold(), claims.get("objectidentifier", "").casefold()}
    ids.add(str(item.get("caller")).casefold())
    mine = {us.client_id.casefold(), us.object_id.casefold()} - {""} if us else set()
    return Change(
        resource=str(item["resourceId"]).casefold(),
        by=str(item.get("caller") or claims.get("appid") or "somebody"),
        ours=bool(ids & mine),
        at=datetime.fromisoformat(str(item["eventTimestamp"])).astimezone(UTC),
    )


def _value(item: Mapping[str, Any], name: str) -> str:
    return str((item.get(name) or {}).get("value")).casefold()
