"""What the facts of a workspace mean for rollouts on it: identity, roles, the log workspace, metrics.

The rule: pure; what could not be read is told with its cause, and judged by what a rollout loses by it.
"""

from collections.abc import Iterator, Sequence

from rollout.azure.examining.facts import Cause, LogWorkspace, Unread, WorkspaceFacts
from rollout.cli.doctor.actions import Need, arriving, role_command, role_findings
from rollout.cli.doctor.findings import Finding, Mark, ok, problem, unread, warning
from rollout.cli.words import number

LIST = 'az monitor log-analytics workspace list --query "[].{name:name, log_workspace:customerId}" -o table'
LOGS_ROLE, METRICS_ROLE = "Log Analytics Data Reader", "Monitoring Reader"


def workspace_findings(facts: WorkspaceFacts, needs: Sequence[Need] = ()) -> list[Finding]:
    """About everything but single endpoints; `needs` are the actions that policies want beyond the usual."""
    found = [*_credential(facts)]
    if isinstance(facts.who, Unread):
        return found
    return [*found, *role_findings(facts, needs), *_endpoints(facts), *_logs(facts), *_metrics(facts)]


def _credential(facts: WorkspaceFacts) -> Iterator[Finding]:
    if isinstance(facts.who, Unread):
        yield unread("credential", facts.who, mark=Mark.PROBLEM, means="Nothing else can be looked at.")
        return
    who = facts.who
    name = f"{who.name}, " if who.name else ""
    yield ok(
        "credential",
        f"{who.way}: {name}application {who.client_id or 'unknown'}, object {who.object_id or 'unknown'}, "
        f"tenant {who.tenant_id or 'unknown'}.",
    )
    for service, missing in facts.tokens.items():
        if missing is not None:
            yield unread("credential", missing, mark=Mark.PROBLEM, means=f"{service} cannot be asked.")


def _endpoints(facts: WorkspaceFacts) -> Iterator[Finding]:
    role = ("# the role of deploy/role.json:", role_command(facts.who, "Rollout", facts.id))
    if isinstance(facts.endpoints, Unread):
        if facts.endpoints.cause is Cause.ABSENT:
            hint = "# check `subscription_id`, `resource_group` and `workspace_name` of this workspace in the settings"
            yield problem("endpoints", facts.endpoints.why, remedy=(hint,))
        else:
            yield unread("endpoints", facts.endpoints, mark=Mark.PROBLEM, role=role)
        return
    for name in facts.missing:
        yield problem(
            "endpoints", f"There is no endpoint {name} in the workspace: `rollout endpoint list` shows what there is."
        )
    for name, why in facts.broken.items():
        yield problem("endpoints", f"Azure's description of endpoint {name} cannot be used: {why}.")
    if facts.left_out:
        names = ", ".join(facts.left_out)
        yield warning(
            "endpoints", f"{len(facts.left_out)} more endpoints were not looked at: name them with -n: {names}."
        )
    if not facts.endpoints and not facts.missing:
        yield warning("endpoints", "The workspace has no online endpoint.")


# --- logs


def log_workspace_of(facts: WorkspaceFacts, customer_id: str | None) -> LogWorkspace | None:
    """The log workspace with this customer id, where it could be found."""
    if isinstance(facts.log_workspaces, Unread) or customer_id is None:
        return None
    found = (each for each in facts.log_workspaces if each.customer_id.casefold() == customer_id.casefold())
    return next(found, None)


def _logs(facts: WorkspaceFacts) -> Iterator[Finding]:
    if facts.log_workspace is None:
        yield warning(
            "log workspace",
            f"The settings of workspace {facts.name} name no log_workspace: rollouts are judged on metrics alone, which see "
            "errors but no latency, and promote only where a policy asks for no logs.",
            remedy=(LIST, f"# then, in the settings: workspaces: {facts.name}: log_workspace: CUSTOMER-ID"),
        )
        return
    place = log_workspace_of(facts, facts.log_workspace)
    if isinstance(facts.rows, Unread):
        scope = place.id if place else "LOG-WORKSPACE-ID"
        means = "Rollouts would have no evidence."
        if facts.rows.cause is Cause.ABSENT:
            told = f"{facts.rows.why} log_workspace in the settings is the customer id of no workspace that is there."
            yield problem("log workspace", told, remedy=(LIST,))
            return
        role = (role_command(facts.who, LOGS_ROLE, scope),)
        coming = arriving(facts.log_assignments, facts.looked_at)
        mark = Mark.WARNING if coming else Mark.PROBLEM
        yield unread("log workspace", facts.rows, mark=mark, means=coming or means, role=() if coming else role)
    elif facts.rows is not None:
        where = place.id.rpartition("/")[2] if place else facts.log_workspace
        rows = sum(each.rows for one in facts.rows.values() for each in one.values())
        yield ok("log workspace", f"{where} answers: {number(rows)} rows of these endpoints in {facts.hours} h.")
    if place is not None and not place.public_queries:
        yield ok("log workspace", f"{where_of(place)} takes queries over its private link only.")
    if place is not None and place.daily_cap_gb is not None:
        yield warning(
            "log workspace",
            f"{where_of(place)} stops taking rows in for the day at {place.daily_cap_gb:g} GB: a rollout would then see nothing.",
        )


def where_of(place: LogWorkspace) -> str:
    """A log workspace's own name."""
    return place.id.rpartition("/")[2]


# --- metrics


def _metrics(facts: WorkspaceFacts) -> Iterator[Finding]:
    if facts.batch is None:
        return
    if not isinstance(facts.batch, Unread):
        yield ok("metrics", "One call reads the metrics of all endpoints (metrics: batch).")
        return
    subscription = "/".join(facts.id.split("/")[:3])
    alone = (
        "Those of one endpoint by itself can be read: it is the role on the whole subscription. "
        if facts.single is True
        else ""
    )
    coming = arriving(facts.metrics_assignments, facts.looked_at)
    means = coming or f"{alone}A bad candidate would be noticed a few minutes later, by the logs."
    role = (
        role_command(facts.who, METRICS_ROLE, subscription),
        f"# or go without: workspaces: {facts.name}: metrics: none",
    )
    yield unread("metrics", facts.batch, mark=Mark.WARNING, means=means, role=() if coming else role)
