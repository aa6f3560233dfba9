"""The candidate that a policy brings as a file: created before anything else is asked of it.

The rule: asked for once in each rollout, whatever is there already: Azure's side compares, and writes only what differs, so
that a deployment that is as its file says is left alone. Nothing is created for a rollout that could not start.
"""

from rollout.lifecycle.errands import LONGEST, intent_for
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.prepare import CANDIDATE_AWAITED, NotYet, Refused, could_start
from rollout.lifecycle.rollout import Intent, Rollout
from rollout.lifecycle.story import Story
from rollout.policy import Manifest
from rollout.world import CreateDeployment, EndpointState

#: What stands before the last lines of a deployment's console, and how many characters of these are told.
CONSOLE = "Its console ends:"
MOST_CONSOLE = 800


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
        return _too_late(manifest, last)
    if last is not None and last.outcome in {"refused", "failed"}:
        return _failed(last.why or "Azure gave no reason")
    refused = could_start(rollout, snapshot.endpoint) or _serves(manifest, snapshot.endpoint)
    if refused is not None:
        return refused
    story.want(errand)
    doing = facts.doing.get(last.operation or "") if last else None
    said = f"{manifest.name} is being created from {manifest.path}"
    return NotYet(sentence=f"{said}: {doing}" if doing else said, until=rollout.created_at + CANDIDATE_AWAITED)


def _failed(why: str) -> Refused:
    """Azure's sentence, and the end of the console where one follows it."""
    said, _, console = why.partition(f"\n{CONSOLE}\n")
    sentence = "; ".join(line.strip().rstrip(".") for line in said.splitlines() if line.strip())
    lines = [" ".join(line.split()) for line in console.splitlines() if line.strip()]
    tail = " / ".join(lines)[-MOST_CONSOLE:].replace('"', "'")
    return Refused(sentence=sentence, more=f'{CONSOLE} "{tail}"' if tail else "")


def _serves(manifest: Manifest, endpoint: EndpointState) -> Refused | None:
    share = endpoint.traffic.share(manifest.name)
    if not share:
        return None
    return Refused(
        sentence=f"{manifest.name} has {share} % of the traffic of {endpoint.name}, and a rollout creates its candidate without: "
        f"write another name into {manifest.path}, or `candidate: NAME` into the policy"
    )


def _too_late(manifest: Manifest, last: Intent) -> Refused | None:
    """An operation of which nothing is heard for that long is over, and nobody knows how."""
    if last.ended_at is None or last.ended_at - last.begun_at < LONGEST:
        return None
    return Refused(
        sentence=f"{manifest.name} was not created from {manifest.path} within {LONGEST.seconds // 60} minutes"
    )
