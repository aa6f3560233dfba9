"""Whether there is room for a second deployment of the same size, and what scales the deployments that are there.

The rule: pure. A deployment is charged for a fifth more instances than it has, as Azure reserves them for its upgrades.
"""

from collections.abc import Iterator
from math import ceil

from rollout.azure.examining.capacity import family_key
from rollout.azure.examining.facts import EndpointFacts, Machines, Unread, WorkspaceFacts
from rollout.cli.doctor.actions import reader
from rollout.cli.doctor.findings import Finding, Mark, ok, problem, unread, warning
from rollout.world import EndpointKind

RESERVE = 1.2
QUOTA_PAGE = "https://ml.azure.com/quota"


def quota_findings(facts: EndpointFacts, all_facts: WorkspaceFacts) -> Iterator[Finding]:
    """vCPUs for a second deployment of the size of the largest that serves."""
    if facts.state.kind is not EndpointKind.MANAGED or isinstance(facts.deployments, Unread):
        return
    serving = [each for each in facts.deployments if facts.state.traffic.share(each.name)]
    if not serving:
        return
    missing = next((each for each in (all_facts.quotas, all_facts.sizes) if isinstance(each, Unread)), None)
    if missing is not None:
        means = "Whether a second deployment of this size has room shows when it is created."
        yield unread("quota", missing, mark=Mark.WARNING, means=means, role=reader(all_facts, everywhere=True))
        return
    yield _room(max(serving, key=lambda each: each.instances), all_facts)


def _room(stable: Machines, all_facts: WorkspaceFacts) -> Finding:
    kind = stable.instance_type or ""
    sizes = {} if isinstance(all_facts.sizes, Unread) else all_facts.sizes
    size = sizes.get(kind.casefold())
    quotas = () if isinstance(all_facts.quotas, Unread) else all_facts.quotas
    found = [each for each in quotas if size is not None and family_key(each.family) == family_key(size.family)]
    if size is None or not found:
        return warning(
            "quota", f"Azure lists no quota for {kind or 'its machines'}: whether there is room is not known."
        )
    needed = ceil(stable.instances * RESERVE) * size.cores
    tightest = min(found, key=lambda each: each.limit - each.used)
    left = max(0, tightest.limit - tightest.used)
    told = (
        f"{left} of {tightest.limit} vCPUs of {size.family} are left in {all_facts.region}; a second deployment like "
        f"{stable.name} ({stable.instances} × {kind}, and a fifth in reserve) takes {needed}."
    )
    if left >= needed:
        return ok("quota", told)
    return problem("quota", told, remedy=(f"# ask for {needed - left} more vCPUs of {size.family}: {QUOTA_PAGE}",))


def autoscale_findings(facts: EndpointFacts, all_facts: WorkspaceFacts) -> Iterator[Finding]:
    """Which deployments of the endpoint are scaled by Azure Monitor."""
    if facts.state.kind is not EndpointKind.MANAGED:
        return
    if isinstance(all_facts.autoscale, Unread):
        means = "Whether Azure scales the deployments by itself is not known."
        yield unread("autoscale", all_facts.autoscale, mark=Mark.WARNING, means=means, role=reader(all_facts))
        return
    base = f"{facts.state.resource_id.casefold()}/deployments/"
    mine = [each for each in all_facts.autoscale if each.target.startswith(base)]
    there = [] if isinstance(facts.deployments, Unread) else [each.name.casefold() for each in facts.deployments]
    if not mine:
        yield ok("autoscale", "No autoscale setting targets its deployments: their instances stay as they are.")
    for each in mine:
        target = each.target.removeprefix(base)
        if target not in there and not isinstance(facts.deployments, Unread):
            yield warning("autoscale", f"Setting {each.name} targets {target}, which does not exist (any more).")
        else:
            state = "" if each.enabled else ", but is switched off"
            yield ok(
                "autoscale",
                f"Setting {each.name} keeps {target} between {each.least} and {each.most} instances{state}.",
            )
