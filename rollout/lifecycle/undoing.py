"""The begin of an undo: can the kept stable take all traffic again, and is it large enough for it?

The rule: nothing is judged, and nothing is guessed: the deployment must exist and be able to serve, no third one may hold
traffic, and one that was scaled down meanwhile is scaled up before it gets any.
"""

from datetime import timedelta

from rollout.lifecycle import moves
from rollout.lifecycle.errands import may_still_change, said_no
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.prepare import NotYet, Refused
from rollout.lifecycle.rollout import Undo
from rollout.lifecycle.story import Story
from rollout.world import DeleteDeployment, DeploymentState, EndpointState, Scale, Severity, Unreadable

#: How long Azure's description of what to go back to, and the end of a scale-up, are awaited.
AWAITED = timedelta(hours=1)


def prepare_undo(story: Story, facts: Facts, undo: Undo) -> None:
    """One tick before the traffic moves."""
    found = _check(story, facts, undo)
    if isinstance(found, Refused) or (isinstance(found, NotYet) and story.now >= found.until):
        story.move(Phase.ABORTED, f"Not undone: {found.sentence}.", severity=Severity.ACTION)
    elif isinstance(found, NotYet):
        if story.rollout.held_reason != found.sentence:
            story.set(held_reason=found.sentence)
            story.tell(Phase.PREPARING.value, f"Not undone yet: {found.sentence}.")
    else:
        _begin(story, facts, found)


def _begin(story: Story, facts: Facts, endpoint: EndpointState) -> None:
    rollout = story.rollout
    story.set(
        share=endpoint.traffic.share(rollout.candidate or ""),
        confirmed=endpoint.traffic,
        confirmed_at=facts.snapshot.requested_at if facts.snapshot else story.now,
        started_at=story.now,
        resource_id=endpoint.resource_id,
        held_reason=None,
    )
    why = f": {rollout.undo.reason.rstrip('.')}" if rollout.undo and rollout.undo.reason else ""
    cause = f"undone by {rollout.created_by}{why}"
    moves.roll_back(story, cause, f"Going back to {rollout.stable} 100 %: {cause}. Nothing is judged.")


def _check(story: Story, facts: Facts, undo: Undo) -> EndpointState | NotYet | Refused:
    rollout, snapshot = story.rollout, facts.snapshot
    until = rollout.created_at + AWAITED
    if snapshot is None or (snapshot.endpoint is not None and snapshot.deployments is None):
        return NotYet(sentence=(facts.trouble or "Azure has not answered yet").rstrip("."), until=until)
    endpoint, stable, candidate = snapshot.endpoint, rollout.stable or "", rollout.candidate or ""
    if endpoint is None:
        return Refused(sentence=f"endpoint {rollout.ref.name} does not exist any more")
    in_vain = _in_vain(endpoint, stable, candidate)
    if in_vain:
        return Refused(sentence=in_vain)
    kept = snapshot.deployment(stable)
    if isinstance(kept, Unreadable) or _given_up(story, undo):
        what = f"Azure's description of {stable} cannot be used ({kept.why})" if isinstance(kept, Unreadable) else ""
        given_up = f"{stable} was just being given up, and Azure is not done with that"
        return NotYet(sentence=what or given_up, until=until)
    gone = _gone(kept, stable) if kept is None or not kept.exists_to_serve else None
    if kept is None or gone or facts.stable_serves is False:
        errors = f"most of the last answers of {stable} were errors; set the traffic by hand, if you must"
        return Refused(sentence=gone or errors)
    return _large_enough(story, kept, undo) or endpoint


def _given_up(story: Story, undo: Undo) -> bool:
    """What was begun after the promotion is not over: stable may yet be deleted or made small, whatever is shown of it."""
    found = may_still_change(story.rollout, story.rollout.stable or "", story.now)
    shrunk = (isinstance(each, Scale) and (undo.instances is None or each.instances < undo.instances) for each in found)
    return any(shrunk) or any(isinstance(each, DeleteDeployment) for each in found)


def _in_vain(endpoint: EndpointState, stable: str, candidate: str) -> str | None:
    """Why this split is nothing to go back from."""
    others = endpoint.traffic.others(stable, candidate)
    if others:
        return (
            f"{' and '.join(others)} of {endpoint.name} also has traffic, which is never changed by a rollout; set the "
            "traffic by hand with `az ml online-endpoint update`"
        )
    if not endpoint.traffic.share(candidate):
        return f"{candidate} has no traffic: {endpoint.name} is on {endpoint.traffic} already"
    return None


def _gone(kept: DeploymentState | None, stable: str) -> str:
    what = "does not exist any more" if kept is None else f"is {kept.state}"
    return f"{stable} {what}, so there is nothing to go back to; roll out a good version instead"


def _large_enough(story: Story, stable: DeploymentState, undo: Undo) -> NotYet | Refused | None:
    """Scaled up to what it served all traffic with, where it has fewer instances now."""
    has, wanted = stable.pin.instances, undo.instances
    if has is None or wanted is None or has >= wanted:
        begun = any(isinstance(each.errand, Scale) for each in story.rollout.errands)
        awaited = begun and stable.state != "Succeeded"
        until = story.rollout.created_at + AWAITED
        return NotYet(sentence=f"{stable.name} is still {stable.state}", until=until) if awaited else None
    scale = Scale(deployment=stable.name, instances=wanted)
    no = said_no(story.rollout, scale)
    if no is not None:
        return Refused(
            sentence=f"{stable.name} has {has} of the {wanted} instances that it served all traffic with, and could not be "
            f"scaled up: {no.rstrip('.')}; scale it by hand, or set the traffic by hand with `az ml online-endpoint update`"
        )
    story.want(scale)
    return NotYet(
        sentence=f"{stable.name} is scaled up first, from {has} to the {wanted} instances that it served all traffic with; "
        "Azure takes 5 to 20 minutes",
        until=story.rollout.created_at + AWAITED,
    )
