"""What the facts of an endpoint mean for a rollout on it: its log, its machines, its scoring address, its other writers.

The rule: pure, one finding for each question, the same questions for every endpoint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address

from rollout.azure.examining.facts import Cause, EndpointFacts, Rows, Seen, Unread, WorkspaceFacts
from rollout.cli.doctor.actions import reader
from rollout.cli.doctor.findings import Finding, Mark, ok, problem, unread, warning
from rollout.cli.doctor.of_machines import autoscale_findings, quota_findings
from rollout.cli.doctor.of_workspace import log_workspace_of
from rollout.cli.doctor.of_writers import writer_findings
from rollout.cli.words import duration, milliseconds, number
from rollout.world import EndpointKind

CATEGORY = "AmlOnlineEndpointTrafficLog"
SILENT = timedelta(minutes=25)  # Azure's logs are three to ten minutes late, twenty at worst
EXPENSIVE = 10e9  # bytes a day that are worth a word
LEAST_SPAN = timedelta(minutes=5)
DAY = timedelta(days=1)
ENOUGH_MIRRORED, LEAST_MIRRORED = 0.5, 10  # of the copies sent; copies


def endpoint_findings(name: str, facts: EndpointFacts, all_facts: WorkspaceFacts, *, probed: bool) -> list[Finding]:
    """About one endpoint. `probed`: a policy sends it requests of its own."""
    found = [
        *_state(facts),
        *(_log(facts, all_facts) if facts.state.kind is EndpointKind.MANAGED else _kubernetes(probed=probed)),
        *_scoring(facts, probed=probed),
        *quota_findings(facts, all_facts),
        *autoscale_findings(facts, all_facts),
        *writer_findings(facts, all_facts),
    ]
    return [replace(each, endpoint=facts.state.name or name) for each in found]


def _state(facts: EndpointFacts) -> Iterator[Finding]:
    state, deployments = facts.state, facts.deployments
    if isinstance(deployments, Unread):
        yield unread("deployments", deployments, mark=Mark.PROBLEM)
        return
    names = {each.name.casefold() for each in deployments}
    told = (
        f"{state.state}, traffic {state.traffic}, {len(deployments)} deployment{'s' if len(deployments) != 1 else ''}."
    )
    serving = [name for name, _ in state.traffic.shares]
    if not serving:
        yield problem("traffic", f"{told} No deployment gets traffic: there is nothing to compare a candidate with.")
    elif len(serving) > 2:
        yield problem(
            "traffic", f"{told} A rollout moves traffic between two deployments, and {len(serving)} get some."
        )
    elif len(names) < 2:
        yield ok("traffic", f"{told} A candidate is still to be created.")
    else:
        yield ok("traffic", told)


# --- the traffic log


def _kubernetes(*, probed: bool) -> Iterator[Finding]:
    told = "A Kubernetes endpoint has neither a traffic log nor metrics: it is judged by probes."
    if probed:
        yield ok("traffic log", told)
    else:
        yield warning("traffic log", told, remedy=("# in its policy: expert: {evidence: [probes]}, and probes: …",))


def _log(facts: EndpointFacts, all_facts: WorkspaceFacts) -> Iterator[Finding]:
    rows = _rows(facts, all_facts.rows)
    yield from _diagnostics(facts, all_facts, arriving=bool(rows))
    if rows is None:
        return
    if not rows:
        yield _no_rows(facts, all_facts)
        return
    newest = max(each.newest for each in rows.values())
    age = all_facts.looked_at - newest
    seen = f"The newest row is {duration(age.total_seconds())} old."
    asked = _requests(facts, all_facts)
    if age > SILENT and asked:
        yield problem(
            "first row", f"{seen} Metrics show {number(asked)} requests in the last minutes: rows do not arrive."
        )
    elif age > SILENT:
        yield warning("first row", f"{seen} Either nobody asks this endpoint now, or rows do not arrive.")
    else:
        yield ok("first row", seen)
    yield _volume(rows)
    yield from _mirror(facts, rows, all_facts.looked_at)


def _diagnostics(facts: EndpointFacts, all_facts: WorkspaceFacts, *, arriving: bool) -> Iterator[Finding]:
    found = facts.diagnostics
    if isinstance(found, Unread):
        if arriving:
            yield ok("diagnostic setting", "Not readable for this identity, but rows arrive: there is one.")
        else:
            yield unread("diagnostic setting", found, mark=Mark.WARNING, role=reader(all_facts))
        return
    sending = [each for each in found if each.workspace_id and (each.all_logs or CATEGORY in each.categories)]
    wanted = log_workspace_of(all_facts, all_facts.log_workspace)
    if not sending:
        yield problem(
            "diagnostic setting",
            f"None of its {len(found)} diagnostic settings sends {CATEGORY} to a log workspace: rollouts would be blind."
            if found
            else "It has no diagnostic setting: its requests are not logged, and rollouts would be blind.",
            remedy=(create_setting(facts.state.resource_id, wanted.id if wanted else None, all_facts.log_workspace),),
        )
        return
    elsewhere = wanted is not None and wanted.id.casefold() not in {
        str(each.workspace_id).casefold() for each in sending
    }
    names = " and ".join(f"{each.name} sends to {str(each.workspace_id).rpartition('/')[2]}" for each in sending)
    if elsewhere and wanted is not None:
        yield problem(
            "diagnostic setting",
            f"{names}, and the settings name {wanted.id.rpartition('/')[2]} as log_workspace: Rollout would look in vain.",
            remedy=(create_setting(facts.state.resource_id, wanted.id, all_facts.log_workspace),),
        )
    else:
        yield ok("diagnostic setting", f"{names}.")


def create_setting(resource: str, workspace_id: str | None, customer_id: str | None) -> str:
    """The command that sends the traffic log to the log workspace."""
    query = f"[?customerId=='{customer_id}'].id" if customer_id else "[0].id"
    target = workspace_id or f'$(az monitor log-analytics workspace list --query "{query}" -o tsv)'
    return (
        f"az monitor diagnostic-settings create --name rollout --resource {resource} --workspace {target} "
        f'--logs \'[{{"category": "{CATEGORY}", "enabled": true}}]\''
    )


def _rows(facts: EndpointFacts, seen: Seen[Mapping[str, Mapping[str, Rows]]] | None) -> Mapping[str, Rows] | None:
    return None if seen is None or isinstance(seen, Unread) else seen.get(facts.state.resource_id.casefold(), {})


def _requests(facts: EndpointFacts, all_facts: WorkspaceFacts) -> int:
    """By metrics, in the last minutes; 0 where they were not read."""
    found = all_facts.batch
    return 0 if found is None or isinstance(found, Unread) else found.get(facts.state.resource_id.casefold(), 0)


def _no_rows(facts: EndpointFacts, all_facts: WorkspaceFacts) -> Finding:
    asked = _requests(facts, all_facts)
    told = f"No row in {all_facts.hours} h."
    if asked:
        late = "A new diagnostic setting takes up to an hour to send its first row."
        return problem("first row", f"{told} Metrics show {number(asked)} requests in the last minutes. {late}")
    return warning(
        "first row", f"{told} Nobody asked this endpoint, or its log does not arrive: send it a request and look again."
    )


def _volume(rows: Mapping[str, Rows]) -> Finding:
    count, size = sum(each.rows for each in rows.values()), sum(each.size for each in rows.values())
    span = max(each.newest for each in rows.values()) - min(each.oldest for each in rows.values())
    times = DAY / max(span, LEAST_SPAN)
    told = f"About {number(float(f'{count * times:.2g}'))} rows a day, {_gigabytes(size * times)}."
    if size * times > EXPENSIVE:
        return warning("log volume", f"{told} Azure bills what it takes in: the other categories can be switched off.")
    return ok("log volume", told)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2g} GB" if size >= 1e8 else f"{size / 1e6:.2g} MB"


def _mirror(facts: EndpointFacts, rows: Mapping[str, Rows], now: datetime) -> Iterator[Finding]:
    """Whether the log holds rows of the deployment that gets copies, as many as copies were sent."""
    if not facts.state.mirror_traffic.shares:
        yield ok(
            "mirrored rows", "Nothing is mirrored now: whether Azure logs the copies shows only while they are sent."
        )
    for name, share in facts.state.mirror_traffic.shares:
        live = sum(each.recent for other, each in rows.items() if other != name)
        own = rows[name].recent if name in rows else 0
        yield _copies(name, share, own=own, wanted=live * share / 100, soon=_changed_lately(facts, now))


def _copies(name: str, share: int, *, own: int, wanted: float, soon: bool) -> Finding:
    """What the rows of the last hour say of a deployment that gets copies only; `wanted` if it got them all the hour."""
    if own >= ENOUGH_MIRRORED * wanted and own:
        return ok(
            "mirrored rows", f"{number(own)} rows of {name}, which gets copies only: mirrored requests are logged."
        )
    if own or wanted < LEAST_MIRRORED or soon:
        why = f"{number(own)} rows of it in the last hour" if own else "too early, or too few requests"
        return ok(
            "mirrored rows", f"{name} gets copies of {share} %: whether they are logged cannot be told yet ({why})."
        )
    told = f"No row of {name}, where about {number(wanted)} copies were sent: mirrored requests are not logged."
    return warning("mirrored rows", f"{told} A mirror step cannot be judged here.")


def _changed_lately(facts: EndpointFacts, now: datetime) -> bool:
    """Whether the copies may have begun so lately that none of their rows has arrived."""
    changed = facts.state.last_modified_at
    return changed is not None and now - changed < SILENT


# --- the scoring address


def _scoring(facts: EndpointFacts, *, probed: bool) -> Iterator[Finding]:
    reach = facts.reach
    if isinstance(reach.status, Unread):
        mark = Mark.PROBLEM if probed else Mark.WARNING
        means = "Probes would not get through; a rollout without probes does not need it."
        yield unread("scoring address", reach.status, mark=mark, means=means)
    else:
        yield _answered(facts, reach.status, probed=probed)
    if isinstance(facts.secret, Unread):
        mark = Mark.PROBLEM if probed else Mark.OK
        means = "" if probed else "Only probes need it."
        if facts.secret.cause is Cause.ROLE and not probed:
            yield ok("key", "This identity may not have its key, which only probes need.")
        else:
            yield unread(
                "key", facts.secret, mark=mark, means=means, role=("# add the actions for probes: docs/azure.md",)
            )
    else:
        yield ok("key", f"Its {facts.secret} can be read.")
    yield from _sample(facts)


def _answered(facts: EndpointFacts, status: int, *, probed: bool) -> Finding:
    reach = facts.reach
    private = all(ip_address(address).is_private for address in reach.addresses)
    where = f"{reach.host} ({'private' if private else 'public'} address)" if reach.addresses else reach.host
    if status == 403:
        closed = (
            "its public network access is switched off" if not facts.public else "a firewall or a gateway keeps us out"
        )
        told = f"{where} answers 403 before any key is looked at: {closed}. That is the network, not a role."
        return (problem if probed else warning)("scoring address", told)
    if status >= 500:
        return warning("scoring address", f"{where} answers {status} to a request without a key.")
    return ok("scoring address", f"{where} answers ({status} without a key, as it should); no prediction was sent.")


def _sample(facts: EndpointFacts) -> Iterator[Finding]:
    if facts.sample is None:
        return
    if isinstance(facts.sample, Unread):
        yield unread("sample", facts.sample, mark=Mark.PROBLEM)
    elif facts.sample.good:
        by = f" by {facts.sample.deployment}" if facts.sample.deployment else ""
        yield ok("sample", f"The policy's sample was answered{by} in {milliseconds(facts.sample.milliseconds)}.")
    else:
        yield problem("sample", f"The policy's sample was answered {facts.sample.told}: probes would fail.")
