"""The actions that rollouts need of Azure's roles, and whether given roles allow them.

The rule: an action is allowed if one role's `actions` match it and the same role's `notActions` do not; `*` stands for
anything, and letters' case does not count (Microsoft, "Understand Azure role definitions").
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollout.azure.examining.facts import Assignment, Permission, Seen, Unread, Who, WorkspaceFacts
from rollout.cli.doctor.findings import Finding, Mark, ok, problem, unread, warning
from rollout.cli.words import ago

_AML = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
CHECK = "roles"
#: Azure says that an assignment may take ten minutes to be in effect; past an hour it is something else.
FRESH = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class Need:
    """An action, and what needs it."""

    action: str
    what_for: str


MUST = (
    Need(action=f"{_AML}/read", what_for="read endpoints"),
    Need(action=f"{_AML}/deployments/read", what_for="read deployments"),
    Need(action=f"{_AML}/write", what_for="move traffic"),
)
CREATE = Need(action=f"{_AML}/deployments/write", what_for="create deployments")
SCALE = Need(action=f"{_AML}/deployments/write", what_for="scale deployments")
DELETE = Need(action=f"{_AML}/deployments/delete", what_for="delete deployments")
AUTOSCALE = Need(action="Microsoft.Insights/autoscaleSettings/write", what_for="change autoscale settings")
KEYS = (
    Need(action=f"{_AML}/listKeys/action", what_for="send probes to endpoints with keys"),
    Need(action=f"{_AML}/token/action", what_for="send probes to endpoints with tokens"),
)
MAY = (
    *KEYS,
    Need(action=f"{_AML}/score/action", what_for="send probes to aad_token endpoints"),
    CREATE,
    SCALE,
    DELETE,
    AUTOSCALE,
)


def allows(permissions: Iterable[Permission], action: str) -> bool:
    """Whether these roles allow an action."""
    return any(_any(each.actions, action) and not _any(each.not_actions, action) for each in permissions)


def _any(patterns: Iterable[str], action: str) -> bool:
    return any(
        re.fullmatch(re.escape(each).replace(r"\*", ".*"), action, re.IGNORECASE) is not None for each in patterns
    )


def role_command(who: Seen[Who], role: str, scope: str) -> str:
    """The command that assigns a role to us."""
    known = None if isinstance(who, Unread) else who
    principal = known.object_id if known and known.object_id else "OBJECT-ID"
    kind = "User" if known and "@" in (known.name or "") else "ServicePrincipal"
    return (
        f"az role assignment create --assignee-object-id {principal} --assignee-principal-type {kind} "
        f'--role "{role}" --scope {scope}'
    )


def reader(facts: WorkspaceFacts, *, everywhere: bool = False) -> tuple[str, ...]:
    """The command that lets us read all that doctor looks at: around the workspace, or in the subscription."""
    scope = "/".join(facts.id.split("/")[: 3 if everywhere else 5])
    return (
        "# doctor reads more than the daemon; for it (or look as somebody who may):",
        role_command(facts.who, "Reader", scope),
    )


def role_findings(facts: WorkspaceFacts, needs: Sequence[Need] = ()) -> list[Finding]:
    """What our roles allow in the workspace; `needs` are what the policies that were named need beyond the rest."""
    command = role_command(facts.who, "Rollout", facts.id)
    if isinstance(facts.permissions, Unread):
        read = (
            "Reading its endpoints works" if not isinstance(facts.endpoints, Unread) else "Its endpoints cannot be read"
        )
        means = f"{read}; whether traffic may be moved shows only at the first write."
        return [unread(CHECK, facts.permissions, mark=Mark.WARNING, means=means, role=reader(facts))]
    given = facts.permissions
    missing = [need for need in (*MUST, *needs) if not allows(given, need.action)]
    if missing:
        return [_missing(missing, facts, command)]
    without = [need for need in MAY if not allows(given, need.action)]
    rest = f" Not allowed, and needed only to {_what_for(without)}: {_names(without)}." if without else ""
    return [ok(CHECK, f"This identity may read endpoints and deployments and move traffic.{rest}")]


def _missing(missing: Sequence[Need], facts: WorkspaceFacts, command: str) -> Finding:
    told = f"This identity may not {_what_for(missing)}: no role here allows {_names(missing)}."
    fresh = _on_the_way(facts.assignments, missing, facts.looked_at)
    if fresh is not None and fresh.since is not None:
        when = ago(fresh.since, now=facts.looked_at)
        return warning(
            CHECK,
            f"{told} Role {fresh.role}, which does, was assigned {when}: it takes up to ten minutes to arrive.",
            remedy=("# wait, then look again: rollout doctor",),
        )
    only_write = [need.action for need in missing] == [MUST[-1].action]
    tail = " Observing (`mode: observe`) works without." if only_write else ""
    return problem(CHECK, f"{told}{tail}", remedy=_remedy(missing, facts, command))


def _remedy(missing: Sequence[Need], facts: WorkspaceFacts, command: str) -> list[str]:
    """The assignments that bring what is missing: the project's own role, and built-in ones for the rest."""
    group = "/".join(facts.id.split("/")[:5])
    found = ["# the role of deploy/role.json:", command] if set(missing) & set(MUST) else []
    if CREATE in missing:
        found.append(role_command(facts.who, "AzureML Data Scientist", facts.id))
    if set(missing) & {SCALE, DELETE, AUTOSCALE}:
        found += ["# the role of deploy/role-capacity.json:", role_command(facts.who, "Rollout capacity", group)]
    return found


def arriving(given: Seen[tuple[Assignment, ...]], now: datetime) -> str:
    """A sentence about the newest role that cannot be expected to be in effect yet; empty where there is none."""
    new = [] if isinstance(given, Unread) else [each for each in given if each.since and now - each.since <= FRESH]
    if not new or new[0].since is None:
        return ""
    return f"Role {new[0].role} was assigned {ago(new[0].since, now=now)}: it takes up to ten minutes to arrive."


def _on_the_way(given: Seen[tuple[Assignment, ...]], missing: Sequence[Need], now: datetime) -> Assignment | None:
    """A new assignment of a role that allows all that is missing."""
    if isinstance(given, Unread):
        return None
    for each in given:
        new = each.since is not None and now - each.since <= FRESH
        if new and all(allows(each.permissions, need.action) for need in missing):
            return each
    return None


def _what_for(needs: Sequence[Need]) -> str:
    words = [need.what_for for need in needs]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _names(needs: Sequence[Need]) -> str:
    return ", ".join(dict.fromkeys(need.action for need in needs))
