"""Mirror steps: before it gets live requests, the candidate answers copies of them, and nobody reads what it says.

The rule: told as what they are, unjudged: Azure does not say whether copies are logged, so only their time counts, and that the
candidate still stands and answers afterwards. The mirror is level-triggered as the split is, never written over a person's,
and off, seen so, before the first live step; where a rollout ends before that, taking it off is owed.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from rollout.lifecycle import sentences
from rollout.lifecycle.errands import said_no
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.prepare import NotYet, Ready, Refused, check_start
from rollout.lifecycle.rollout import Mirroring, Rollout
from rollout.lifecycle.splits import LATE_WRITE
from rollout.lifecycle.story import Story
from rollout.world import EndpointState, Mirror, Severity

#: A mirror that Azure does not show after this time: a person must look.
SHOWN_WITHIN = timedelta(hours=1)
#: How long is tried to end the copies after the rollout's end.
TRIED = timedelta(days=1)
#: Two looks so far apart must show that a person has changed the mirror: reads may lag.
STRANGE_FOR = timedelta(seconds=5)
UNJUDGED = "unjudged, as Azure does not log copies for certain"


def begin_mirror(story: Story, ready: Ready) -> bool:
    """Begin the first mirror step, where the policy has one that was not played; whether it did."""
    rollout = story.rollout
    if not rollout.policy.mirror or rollout.mirroring is not None or rollout.observes or rollout.first:
        return False
    story.set(stable=ready.stable, candidate=ready.candidate, pins=ready.pins, held_reason=None)
    story.set(mirroring=Mirroring(step=0, asked_at=story.now))
    _tell_step(story)
    _want(story)
    return True


def _tell_step(story: Story) -> None:
    rollout, mirroring = story.rollout, story.rollout.mirroring
    if mirroring is None:
        return
    story.set(held_reason=_waits(rollout, mirroring))  # what is told now says as much
    step, count = rollout.policy.mirror[mirroring.step], len(rollout.policy.mirror)
    story.tell(
        "mirroring",
        f"Mirror step {mirroring.step + 1} of {count} began: {rollout.candidate} gets copies of {step.mirror_traffic} % of the "
        f"live requests for {sentences.minutes(step.bake)}, {UNJUDGED}.",
        Severity.NOTICE if mirroring.step == 0 else None,
    )


def wanted_mirror(rollout: Rollout) -> int:
    """The share of copies that the candidate is wanted to get now."""
    mirroring = rollout.mirroring
    if mirroring is None or not rollout.mirrors or mirroring.over_at is not None or rollout.ended:
        return 0
    return rollout.policy.mirror[mirroring.step].mirror_traffic


def check_mirror(story: Story, facts: Facts) -> NotYet | Refused | None:
    """Go through the mirror steps; None once the mirror is off again."""
    rollout, mirroring = story.rollout, story.rollout.mirroring
    if mirroring is None or mirroring.off_at is not None:
        return None
    refused = _refused(rollout, facts, story.now)
    if refused is not None:
        return refused
    endpoint = facts.snapshot.endpoint if facts.snapshot else None
    if endpoint is not None and _can_tell(rollout, endpoint, facts):
        if endpoint.mirror_traffic.share(rollout.candidate or "") == wanted_mirror(rollout):
            _seen(story, mirroring)
        elif mirroring.since is not None and (gone := _changed_by_hand(story, mirroring, endpoint)):
            return gone
    mirroring = story.rollout.mirroring or mirroring
    if mirroring.off_at is not None:
        return None
    if mirroring.since is None:  # what was seen and is gone was taken by a person, or the look lags
        _want(story)
    return NotYet(sentence=_waits(story.rollout, mirroring), until=_until(story, mirroring))


def _refused(rollout: Rollout, facts: Facts, now: datetime) -> Refused | None:
    """What speaks against going on."""
    found = check_start(rollout, facts, now)
    if isinstance(found, Ready) and rollout.pins and (what := rollout.pins[1].difference(found.pins[1])):
        return Refused(sentence=f"{rollout.candidate} was changed in place ({what}) while it got copies; start again")
    if isinstance(found, Refused):
        return found
    why = said_no(rollout, _errand(rollout))
    return Refused(sentence=why.rstrip(".")) if why is not None else None


def _seen(story: Story, mirroring: Mirroring) -> None:
    """Azure shows what is wanted."""
    now, policy = story.now, story.rollout.policy
    if mirroring.over_at is not None:
        story.set(mirroring=replace(mirroring, off_at=now))
    elif mirroring.since is None:
        story.set(mirroring=replace(mirroring, since=now, strange_at=None))
    elif now - mirroring.since < policy.mirror[mirroring.step].bake:
        story.set(mirroring=replace(mirroring, strange_at=None))
    elif mirroring.step + 1 < len(policy.mirror):
        story.set(mirroring=Mirroring(step=mirroring.step + 1, asked_at=now))
        _tell_step(story)
    else:
        story.set(mirroring=replace(mirroring, over_at=now, since=None, asked_at=now))
        name = story.rollout.candidate
        story.tell(
            "mirrored", f"The mirror steps are over ({UNJUDGED}): the copies to {name} end, and it is asked again."
        )


def _changed_by_hand(story: Story, mirroring: Mirroring, endpoint: EndpointState) -> Refused | None:
    """A person has changed the mirror: it is left as it is."""
    if mirroring.strange_at is None:
        story.set(mirroring=replace(mirroring, strange_at=story.now))
        return None
    if story.now - mirroring.strange_at < STRANGE_FOR:
        return None
    story.set(mirroring=replace(mirroring, off_at=story.now))  # it is theirs now
    shown = endpoint.mirror_traffic if endpoint.mirror_traffic.shares else "off"
    return Refused(
        sentence=f"somebody changed the mirror traffic of {endpoint.name}: it is {shown} now, and is left so; start again when "
        "that is settled"
    )


def take_off(story: Story, facts: Facts) -> None:
    """After an end: no copies any more. What a person has set meanwhile is theirs."""
    rollout, mirroring = story.rollout, story.rollout.mirroring
    if mirroring is None or mirroring.off_at is not None or facts.snapshot is None:
        return
    endpoint = facts.snapshot.endpoint
    known = facts.snapshot.deployments is not None
    gone = endpoint is None or (known and facts.snapshot.deployment(rollout.candidate or "") is None)
    off = endpoint is not None and _can_tell(rollout, endpoint, facts) and not _ours(rollout, endpoint)
    if gone or off:
        story.set(mirroring=replace(mirroring, off_at=story.now))
    elif story.now - rollout.phase_since > TRIED:
        story.set(mirroring=replace(mirroring, off_at=story.now))
        why = said_no(rollout, _errand(rollout)) or "Azure did not answer."
        story.tell("left", f"The copies to {rollout.candidate} could not be ended in a day: {why}", Severity.ACTION)
    else:
        _want(story)


def _ours(rollout: Rollout, endpoint: EndpointState) -> bool:
    share = endpoint.mirror_traffic.share(rollout.candidate or "")
    return share in {step.mirror_traffic for step in rollout.policy.mirror}


def _can_tell(rollout: Rollout, endpoint: EndpointState, facts: Facts) -> bool:
    """A settled endpoint that was asked for after our last request about the mirror was answered."""
    last = next((each for each in rollout.errands if isinstance(each.errand, Mirror)), None)
    if not endpoint.settled or facts.snapshot is None:
        return False
    if last is None or last.ended_at is None or last.outcome == "accepted":
        return last is None
    late = LATE_WRITE if last.outcome == "unknown" else timedelta()
    return facts.snapshot.requested_at > last.ended_at + late


def _errand(rollout: Rollout) -> Mirror:
    return Mirror(deployment=rollout.candidate or "", share=wanted_mirror(rollout))


def _want(story: Story) -> None:
    story.want(_errand(story.rollout))


def _waits(rollout: Rollout, mirroring: Mirroring) -> str:
    share = wanted_mirror(rollout)
    if not share:
        return f"the copies to {rollout.candidate} are being ended"
    if mirroring.since is None:
        return f"copies of {share} % of the live requests are being sent to {rollout.candidate}"
    until = mirroring.since + rollout.policy.mirror[mirroring.step].bake
    return (
        f"{rollout.candidate} gets copies of {share} % of the live requests until {sentences.moment(until)}, {UNJUDGED}"
    )


def _until(story: Story, mirroring: Mirroring) -> datetime:
    return (story.now if mirroring.since is not None else mirroring.asked_at) + SHOWN_WITHIN
