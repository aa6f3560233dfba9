"""After the end: what a rollout that has ended still puts back.

The rule: an ending never waits for this, and a roll back of traffic least of all. A rollout that owes something stays
active in the store, so that it is ticked, across restarts too, and no other rollout begins on its endpoint meanwhile.
What a person has changed in the meantime is theirs, and a deployment with traffic keeps its instances. After a day the
rest is left to a person.
"""

from dataclasses import replace
from datetime import timedelta

from rollout.lifecycle.autoscaling import limits_of
from rollout.lifecycle.errands import intent_for, may_still_change, said_no
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.rollout import Original, Rollout
from rollout.lifecycle.story import Story
from rollout.world import (
    TERMINAL_STATES,
    Autoscale,
    DeleteDeployment,
    DeploymentState,
    Errand,
    Scale,
    SetAutoscale,
    Severity,
    Snapshot,
)

#: How long is tried to put something back that Azure refuses.
TRIED = timedelta(days=1)


def settle(story: Story, facts: Facts) -> None:
    """Put back what is left to be put back; what is done is struck off. How the rollout ended stays its sentence."""
    ended = story.rollout.sentence
    snapshot = facts.snapshot
    if snapshot is not None and snapshot.endpoint is None:
        story.set(originals=(), retire=None)
    elif snapshot is not None and snapshot.deployments is not None:
        if facts.autoscale is not None and not story.rollout.mirrors:  # copies are requests, too
            left = [_put_back(story, facts, snapshot, each) for each in story.rollout.originals]
            story.set(originals=tuple(each for each in left if each is not None))
        if not story.rollout.originals:
            _retire(story, facts, snapshot)
    _give_up(story, facts)
    story.set(sentence=ended)


def _put_back(story: Story, facts: Facts, snapshot: Snapshot, original: Original) -> Original | None:
    """What of this is still to be done."""
    if may_still_change(story.rollout, original.deployment, story.now):
        return original
    if original.ours is not None:
        return original if _autoscale_back(story, facts, original) else _without_autoscale(original)
    return original if _instances_back(story, snapshot, original) else None


def _without_autoscale(original: Original) -> Original | None:
    return None if original.instances is None else replace(original, ours=None)


# --- autoscale -------------------------------------------------------------------------------------------------------


def _autoscale_back(story: Story, facts: Facts, original: Original) -> bool:
    """Whether the setting is still to be put back."""
    rollout, name = story.rollout, original.deployment
    found = (facts.autoscale or {}).get(name.casefold())
    endpoint = facts.snapshot.endpoint if facts.snapshot else None
    serves = endpoint is not None and endpoint.traffic.share(name) > 0
    wanted = original.promoted if serves or rollout.promoted else original.autoscale
    if limits_of(found) == limits_of(wanted):
        sent = _setting(name, wanted, found or original.ours)
        _done(story, sent, f"The autoscale setting of {name} is as the rollout leaves it.")
        return False
    if limits_of(found) != limits_of(original.ours):
        story.tell("left_alone", f"The autoscale setting of {name} was changed by somebody else, and is left as it is.")
        return False
    _want(story, _setting(name, wanted, found or original.ours))
    return True


def _setting(name: str, wanted: Autoscale | None, found: Autoscale | None) -> SetAutoscale:
    shown = wanted or found
    assert shown is not None  # noqa: S101  (two that are nothing are the same)
    return SetAutoscale(deployment=name, setting=shown.id, body=wanted.body if wanted else None)


# --- instances -------------------------------------------------------------------------------------------------------


def _instances_back(story: Story, snapshot: Snapshot, original: Original) -> bool:
    """Whether the deployment is still to be made as small as it was."""
    rollout, name, wanted = story.rollout, original.deployment, original.instances
    if wanted is None or rollout.promoted:
        return False
    found = snapshot.deployment(name)
    if found is None:
        return False
    if not isinstance(found, DeploymentState) or found.state not in TERMINAL_STATES:
        return True
    if found.pin.instances == wanted:
        sent = Scale(deployment=name, instances=wanted, idle=True)
        _done(story, sent, f"{name} has {wanted} instance{'' if wanted == 1 else 's'} again.")
        return False
    kept = _why_kept(rollout, snapshot, found)
    if kept is not None:
        story.tell("left_alone", f"{name} keeps its {found.pin.instances} instances: {kept}.", Severity.NOTICE)
        return False
    _want(story, Scale(deployment=name, instances=wanted, idle=True))
    return True


def _why_kept(rollout: Rollout, snapshot: Snapshot, found: DeploymentState) -> str | None:
    """Why a deployment is not made smaller again, though the rollout has ended."""
    endpoint = snapshot.endpoint
    if endpoint is not None and (endpoint.traffic.share(found.name) or endpoint.mirror_traffic.share(found.name)):
        return "it has traffic"
    scaled_itself = any(
        _same(each.errand.deployment, found.name) for each in rollout.errands if each.errand.kind == "autoscale"
    )
    if rollout.sizes is not None and found.pin.instances != rollout.sizes[1] and not scaled_itself:
        return "somebody else has changed them"
    return None


# --- the old stable


def _retire(story: Story, facts: Facts, snapshot: Snapshot) -> None:
    """What the policy says of the old stable, as long as nobody needs it."""
    rollout, name = story.rollout, story.rollout.stable or ""
    if rollout.retire is None:
        return
    found = snapshot.deployment(name)
    if found is None:
        gone = DeleteDeployment(deployment=name)
        _done(story, gone, f"{name} is deleted.")
        story.set(retire=None)
    elif isinstance(found, DeploymentState) and found.state in TERMINAL_STATES:
        needed = _why_needed(rollout, snapshot, found)
        if needed is not None:
            told = f"{name} is left as it is, though the policy says `after: {rollout.retire}`: {needed}."
            story.tell("left_alone", told, Severity.ACTION)
            story.set(retire=None)
        elif rollout.retire == "delete":
            _want(story, DeleteDeployment(deployment=name))
        elif facts.autoscale is not None:
            _shrink(story, found, facts.autoscale.get(name.casefold()))


def _why_needed(rollout: Rollout, snapshot: Snapshot, found: DeploymentState) -> str | None:
    endpoint, name = snapshot.endpoint, found.name
    if endpoint is not None and endpoint.traffic.share(name):
        return f"it has {endpoint.traffic.share(name)} % of the traffic"
    if endpoint is not None and endpoint.mirror_traffic.share(name):
        return f"it has {endpoint.mirror_traffic.share(name)} % of the mirrored traffic"
    changed = found.pin.difference(rollout.pins[0]) if rollout.pins else ""
    return f"it was changed in place ({changed})" if changed else None


def _shrink(story: Story, found: DeploymentState, setting: Autoscale | None) -> None:
    """One instance, or the least that its autoscale setting allows."""
    limits = limits_of(setting)
    least = max(1, limits.minimum) if limits is not None else 1
    scale = Scale(deployment=found.name, instances=least, idle=True)
    if (found.pin.instances or 0) <= least:
        why = ", the minimum of its autoscale setting" if least > 1 else ""
        _done(story, scale, f"{found.name} has {least} instance{'' if least == 1 else 's'} now{why}.")
        story.set(retire=None)
    else:
        _want(story, scale)


# --- what does not come true -----------------------------------------------------------------------------------------


def _want(story: Story, errand: Errand) -> None:
    why = said_no(story.rollout, errand)
    if why is not None:
        story.tell_once(
            f"not restored {errand.kind} {errand.deployment}",
            "not_restored",
            f"{_what(errand)} is not done: {why.rstrip('.')}. It is tried again every five minutes, for a day.",
            Severity.ACTION,
        )
    story.want(errand)


def _done(story: Story, errand: Errand, sentence: str) -> None:
    """Told where it was for us to do."""
    if intent_for(story.rollout, errand) is not None:
        story.tell("restored", sentence)


def _give_up(story: Story, facts: Facts) -> None:
    rollout = story.rollout
    if not (rollout.originals or rollout.retire) or story.now - rollout.phase_since < TRIED:
        return
    old = (rollout.stable,) if rollout.retire and not rollout.originals else ()
    names = " and ".join(str(each) for each in (*(each.deployment for each in rollout.originals), *old))
    why = f" ({facts.fleet_trouble.rstrip('.')})" if facts.fleet_trouble else ""
    story.tell(
        "not_restored",
        f"Left to you: the instances or the autoscale settings of {names} could not be written within a day{why}. "
        f"`rollout history {rollout.ref.name}` says how they were.",
        Severity.ACTION,
    )
    story.set(originals=(), retire=None)


def _what(errand: Errand) -> str:
    if isinstance(errand, Scale):
        return f"Scaling {errand.deployment} back to {errand.instances}"
    if isinstance(errand, DeleteDeployment):
        return f"Deleting {errand.deployment}"
    return f"Putting the autoscale setting of {errand.deployment} back"


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
