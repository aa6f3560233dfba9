"""What our roles allow on a workspace, and which of them are new.

The rule: Azure tells the sum of our roles at a place (`permissions`) to whoever may read there; assignments are asked for
to tell a role that is missing from one that has not arrived yet.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rollout.azure.examining.causes import attempt
from rollout.azure.examining.facts import Assignment, Permission, Seen, Unread
from rollout.azure.examining.manager import ResourceManager

VERSION = "2022-04-01"
_PART = "/providers/Microsoft.Authorization"
MOST_ROLES = 10  # whose definitions are read


def permissions(manager: ResourceManager, scope: str) -> Seen[tuple[Permission, ...]]:
    """What we may do at this scope, role by role."""
    return attempt(
        "read what this identity may do in the workspace",
        lambda: tuple(_permission(each) for each in manager.pages(f"{scope}{_PART}/permissions", VERSION)),
    )


def assignments(manager: ResourceManager, scope: str, *, object_id: str) -> Seen[tuple[Assignment, ...]]:
    """The roles that we were given at this scope and above, ourselves or through a group."""
    assigned = attempt(
        "read the role assignments of this identity",
        lambda: manager.pages(f"{scope}{_PART}/roleAssignments", VERSION, filter=f"assignedTo('{object_id}')"),
    )
    if isinstance(assigned, Unread):
        return assigned
    newest = sorted(assigned, key=lambda each: str(_properties(each).get("createdOn")), reverse=True)[:MOST_ROLES]
    return tuple(_assignment(manager, _properties(each)) for each in newest)


def _assignment(manager: ResourceManager, given: Mapping[str, Any]) -> Assignment:
    definition = str(given.get("roleDefinitionId"))
    role = attempt("read a role", lambda: _properties(manager.get(definition, VERSION)))
    known = {} if isinstance(role, Unread) else role
    return Assignment(
        role=str(known.get("roleName") or definition.rpartition("/")[2]),
        scope=str(given.get("scope")),
        since=_time(given.get("createdOn")),
        permissions=tuple(_permission(each) for each in known.get("permissions") or ()),
    )


def _permission(item: Mapping[str, Any]) -> Permission:
    return Permission(actions=tuple(item.get("actions") or ()), not_actions=tuple(item.get("notActions") or ()))


def _properties(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = item["properties"]
    return found


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None
