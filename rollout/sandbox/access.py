"""Who may do what in the sandbox: three roles, and single actions that nobody has.

The rule: a client is Contributor unless a knob says otherwise: `readers` have Reader and no more; `newcomers` were given
Contributor beside it a moment ago, which takes ten minutes to arrive, as Azure warns; `denied` are actions that no role here holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

ARRIVES = timedelta(minutes=10)
CONTRIBUTOR, READER = "b24988ac-6180-42a0-ab88-20f7382dd24c", "acdd72a7-3385-48ef-bd42-f606fba81ae7"  # built in
NAMES = {CONTRIBUTOR: "Contributor", READER: "Reader"}
_NOT_OF_CONTRIBUTORS = (
    "Microsoft.Authorization/*/Delete",
    "Microsoft.Authorization/*/Write",
    "Microsoft.Authorization/elevateAccess/Action",
)


@dataclass(frozen=True, kw_only=True)
class Access:
    """The knobs; client ids and actions case-folded, newcomers with the moment of their assignment."""

    readers: frozenset[str] = frozenset()
    newcomers: Mapping[str, datetime] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()

    def reads_only(self, client: str, *, now: datetime) -> bool:
        """Whether nothing but Reader is in effect for this client."""
        since = self.newcomers.get(client.casefold())
        return client.casefold() in self.readers or (since is not None and now < since + ARRIVES)

    def allows(self, client: str, action: str, *, now: datetime) -> bool:
        """Whether a request of this action is let through."""
        if action.casefold() in self.denied:
            return False
        return action.endswith("/read") or not self.reads_only(client, now=now)

    def permissions(self, client: str, *, now: datetime) -> dict[str, Any]:
        """What the client may do, as `Microsoft.Authorization/permissions` lists it."""
        role = READER if self.reads_only(client, now=now) else CONTRIBUTOR
        return permission(role, denied=self.denied)

    def roles(self, client: str, *, born: datetime) -> list[tuple[str, datetime]]:
        """The client's assignments: role id, and when it was made; `born` for those that were always there."""
        since = self.newcomers.get(client.casefold())
        if since is not None:
            return [(READER, born), (CONTRIBUTOR, since)]
        return [(READER if client.casefold() in self.readers else CONTRIBUTOR, born)]


def permission(role: str, *, denied: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One role's entry."""
    actions, less = (["*/read"], []) if role == READER else (["*"], list(_NOT_OF_CONTRIBUTORS))
    return {"actions": actions, "notActions": [*less, *sorted(denied)], "dataActions": [], "notDataActions": []}
