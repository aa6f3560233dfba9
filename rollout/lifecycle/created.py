"""The candidate that a policy brings as a file: created before anything else is asked of it.

The rule: asked for once in each rollout, whatever is there already: Azure's side compares, and writes only what differs, so
that a deployment that is as its file says is left alone. Nothing is created for a rollout that could not start.
"""

from rollout.lifecycle.errands import intent_for
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.prepare import CANDIDATE_AWAITED, NotYet, Refused, could_start
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.story import Story
from rollout.policy import Manifest
from rollout.world import CreateDeployment


def manifest_of(rollout: Rollout) -> Manifest | None:
    """The file that the candidate is created from; None where another deployment was named, or nothing is ever written."""
    manifest, candidate = rollout.policy.manifest, rollout.candidate
    if manifest is None or rollout.observes or candidate is None:
        return None
    return manifest if manifest.name.casefold() == candidate.casefold() else None


def errand_of(manifest: Manifest) -> CreateDeployment:
    """The errand that creates it."""
    return CreateDeployment(deployment=manifest.name, digest=manifest.digest)


def check_created(story: Story, facts: Facts) -> NotYet | Refused | None:
    """Ask for the candidate until it is there as its file says; None once it is, or where there is no file."""
    rollout, snapshot = story.rollout, facts.snapshot
    manifest = manifest_of(rollout)
    if manifest is None or snapshot is None or snapshot.endpoint is None:
        return None
    errand = errand_of(manifest)
    last = intent_for(rollout, errand)
    if last is not None and last.outcome == "done":
        return None
    if last is not None and last.outcome in {"refused", "failed"}:
        why, _, more = (last.why or "Azure gave no reason").partition("\n")
        return Refused(sentence=why.rstrip("."), more=more)
    refused = could_start(rollout, snapshot.endpoint)
    if refused is not None:
        return refused
    story.want(errand)
    doing = facts.doing.get(last.operation or "") if last else None
    said = f"{manifest.name} is being created from {manifest.path}"
    waits = f" ({last.why.rstrip('.')})" if last and last.why and last.outcome == "conflict" else ""
    return NotYet(
        sentence=f"{said}: {doing}" if doing else f"{said}{waits}", until=rollout.created_at + CANDIDATE_AWAITED
    )
