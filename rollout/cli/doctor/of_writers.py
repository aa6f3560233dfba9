"""Who else writes to an endpoint: old pipelines that deploy with `--all-traffic` take a rollout's traffic away.

The rule: pure, and no more is said than Azure tells. Its activity log knows who wrote what and when, not the split; a
deployment and then the endpoint's traffic, written by the same somebody within the hour, is what `--all-traffic` leaves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from rollout.azure.examining.facts import Change, EndpointFacts, Unread, WorkspaceFacts
from rollout.cli.doctor.actions import reader
from rollout.cli.doctor.findings import Finding, Mark, ok, unread, warning

CHECK = "other writers"
#: A deployment takes about ten minutes to be created, and half an hour at most.
FOLLOWS = timedelta(minutes=60)


def writer_findings(facts: EndpointFacts, all_facts: WorkspaceFacts) -> Iterator[Finding]:
    """Who wrote to the endpoint and its deployments, and whether it looks like `--all-traffic`."""
    if isinstance(all_facts.changes, Unread):
        role = reader(all_facts, everywhere=True)
        yield unread(CHECK, all_facts.changes, mark=Mark.WARNING, means=_last_writer(facts), role=role)
        return
    base = facts.state.resource_id.casefold()
    mine = [each for each in all_facts.changes if each.resource == base or each.resource.startswith(f"{base}/")]
    others = [each for each in mine if not each.ours]
    looked = f"in {all_facts.days} days of Azure's activity log, which does not tell splits"
    if not others:
        yield ok(CHECK, f"Nobody but this identity wrote to it {looked}.")
        return
    pairs = all_traffic(others, base)
    for deployed, moved in pairs[-1:]:
        name = deployed.resource.rpartition("/")[2]
        often = f" ({len(pairs)} times in {all_facts.days} days)" if len(pairs) > 1 else ""
        yield warning(
            CHECK,
            f"{deployed.by} wrote deployment {name} at {deployed.at:%Y-%m-%d %H:%M} UTC and the endpoint at {moved.at:%H:%M}"
            f"{often}, as a pipeline with --all-traffic does: it would undo a rollout's steps.",
            remedy=("# take --all-traffic out of that pipeline: az ml online-deployment create -f deployment.yml",),
        )
    if not pairs:
        counts = Counter(each.by for each in others)
        names = ", ".join(f"{by} ({count}×)" for by, count in counts.most_common(5))
        yield ok(CHECK, f"Others wrote to it {looked}: {names}; none of them a deployment and then the traffic.")


def all_traffic(changes: Sequence[Change], endpoint: str) -> list[tuple[Change, Change]]:
    """Pairs of a deployment's write and the endpoint's that followed it, by the same somebody; oldest first."""
    found = []
    for at, deployed in enumerate(changes):
        if deployed.resource == endpoint:
            continue
        for moved in changes[at + 1 :]:
            if moved.at - deployed.at > FOLLOWS:
                break
            if moved.resource == endpoint and moved.by == deployed.by:
                found.append((deployed, moved))
                break
    return found


def _last_writer(facts: EndpointFacts) -> str:
    by, at = facts.state.last_modified_by, facts.state.last_modified_at
    if by is None or at is None:
        return "Nor does the endpoint tell who wrote to it last."
    return f"All that is known is who wrote to the endpoint last: {by}, at {at:%Y-%m-%d %H:%M} UTC ({facts.state.traffic} now)."
