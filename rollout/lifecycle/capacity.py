"""Capacity: the candidate is given its instances once, before its first live request.

The rule: nothing here happens after the first split was asked for, and nothing is changed of which the rollout has not
written down how it was (`Rollout.originals`); `settling.py` puts that back when the rollout has ended. The candidate is
never made smaller. Where Azure refuses, the rollout ends before any traffic moved.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from rollout.lifecycle.autoscaling import copied, is_on, limits_of, raised
from rollout.lifecycle.errands import said_no
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.prepare import NotYet, Ready, Refused, awaited_since
from rollout.lifecycle.rollout import Original, Rollout
from rollout.lifecycle.story import Story
from rollout.world import Autoscale, EndpointState, Scale, SetAutoscale

#: A large scale-out takes half an hour.
AWAITED = timedelta(hours=2)


def check_refused(rollout: Rollout) -> Refused | None:
    """What Azure refused, or failed to do, before the first split: the rollout does not start."""
    for intent in rollout.errands:
        why = said_no(rollout, intent.errand)
        if why is not None and isinstance(intent.errand, Scale):
            what = f"{intent.errand.deployment} needs {_instances(intent.errand.instances)}, and Azure refused"
            return Refused(
                sentence=f"{what}: {why.rstrip('.')}. Mend that, or write another `capacity` into the policy"
            )
        if why is not None and isinstance(intent.errand, SetAutoscale):
            what = f"the autoscale setting of {intent.errand.deployment} could not be written"
            return Refused(sentence=f"{what}: {why.rstrip('.')}. Mend that, or write `capacity: keep` into the policy")
    return None


def check_capacity(story: Story, facts: Facts, ready: Ready) -> Ready | NotYet | Refused:
    """Ready once the candidate has the instances that its largest share needs, and both keep theirs."""
    endpoint = facts.snapshot.endpoint if facts.snapshot else None
    if story.rollout.policy.capacity.keeps or story.rollout.observes or endpoint is None:
        return ready
    until = awaited_since(story.rollout) + AWAITED
    if facts.autoscale is None:
        why = facts.fleet_trouble or "the autoscale settings have not been read yet"
        return NotYet(sentence=why.rstrip("."), until=until)
    stable, candidate = ready.pins[0].instances, ready.pins[1].instances
    if stable is None or candidate is None:
        return Refused(
            sentence="Azure does not say how many instances the deployments have, so `capacity` cannot be kept; write "
            "`capacity: keep`, and size the candidate by hand"
        )
    held, needed = _sizes(story, stable=stable, candidate=candidate)
    story.set(stable=ready.stable, candidate=ready.candidate)
    settings = _settings(ready, facts.autoscale, endpoint, held=held, needed=needed)
    written = [_write(story, each) for each in settings]
    if any(written):
        return NotYet(sentence=f"the autoscale settings of {endpoint.name} are being written", until=until)
    if candidate < needed:
        _remember(story, Original(deployment=ready.candidate, instances=candidate))
        story.want(Scale(deployment=ready.candidate, instances=needed))
        return NotYet(
            sentence=f"{ready.candidate} is being scaled from {candidate} to {_instances(needed)} "
            f"({ready.stable} has {stable})",
            until=until,
        )
    told = f"{ready.candidate} has {_instances(candidate)}, {ready.stable} {stable}."
    return replace(ready, told=" ".join([ready.told, told]).lstrip())


def _sizes(story: Story, *, stable: int, candidate: int) -> tuple[int, int]:
    """What stable keeps and what the candidate's largest share needs, counted once: that share is all traffic."""
    if story.rollout.sizes is None:
        capacity = story.rollout.policy.capacity
        asked = capacity.instances or math.ceil(round(stable * (capacity.match_stable or 1), 6))
        story.set(sizes=(stable, max(asked, candidate)))
    return story.rollout.sizes or (stable, candidate)


def _settings(
    ready: Ready, settings: Mapping[str, Autoscale], endpoint: EndpointState, *, held: int, needed: int
) -> Iterator[Original]:
    """The autoscale settings that keep both at their size, each with what it replaces."""
    own, other = (settings.get(name.casefold()) for name in (ready.stable, ready.candidate))
    if own is not None and is_on(own):
        yield Original(deployment=ready.stable, autoscale=own, ours=raised(own, held), promoted=own)
    if other is not None and is_on(other):
        yield Original(deployment=ready.candidate, autoscale=other, ours=raised(other, needed), promoted=other)
    elif own is not None and is_on(own):
        copy = copied(own, endpoint_id=endpoint.resource_id, source=ready.stable, target=ready.candidate)
        copy = replace(copy, id=other.id) if other is not None else copy  # a deployment has one at most
        yield Original(deployment=ready.candidate, autoscale=other, ours=raised(copy, needed), promoted=copy)


def _write(story: Story, each: Original) -> bool:
    """Ask for a setting, if it is not there yet."""
    if each.ours is None or limits_of(each.ours) == limits_of(each.autoscale):
        return False
    _remember(story, each)
    story.want(SetAutoscale(deployment=each.deployment, setting=each.ours.id, body=each.ours.body))
    return True


def _remember(story: Story, found: Original) -> None:
    """Write down how a deployment was, unless that was done: what is seen later may be ours already."""
    kept = {each.deployment.casefold(): each for each in story.rollout.originals}
    known = kept.get(found.deployment.casefold(), found)
    if known.ours is None:
        known = replace(known, autoscale=found.autoscale, ours=found.ours, promoted=found.promoted)
    if known.instances is None:
        known = replace(known, instances=found.instances)
    kept[found.deployment.casefold()] = known
    story.set(originals=tuple(kept.values()))


def _instances(number: int) -> str:
    return f"{number} instance{'' if number == 1 else 's'}"
