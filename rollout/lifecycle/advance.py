"""The one place that decides: a rollout and the facts of one tick -> what it becomes, what is told, what is written.

The rule: pure, level-triggered and idempotent. The order is the safety order: what Azure shows, what people ask, what
makes going on impossible, what the evidence says, what time says, and last what to write.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from rollout.lifecycle import guards, moves
from rollout.lifecycle.capacity import check_capacity, check_refused
from rollout.lifecycle.commands import carry_out
from rollout.lifecycle.created import check_created
from rollout.lifecycle.errands import due_errands, lost_answers, operations_over, with_intents
from rollout.lifecycle.facts import Decision, Facts
from rollout.lifecycle.gated import allowed_write, begin_approved, start_waits, tell_freezes
from rollout.lifecycle.guarding import guard
from rollout.lifecycle.judged import judged
from rollout.lifecycle.mirrored import begin_mirror, check_mirror, take_off
from rollout.lifecycle.observed import observe, promoted_already, settle_step
from rollout.lifecycle.observing.follow import begin, follow
from rollout.lifecycle.own_checks import guard_blind
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.prepare import NotYet, Ready, Refused, check_start
from rollout.lifecycle.rollout import Outcome, Rollout
from rollout.lifecycle.settling import settle
from rollout.lifecycle.splits import due_write, wanted_traffic, with_write
from rollout.lifecycle.story import Story
from rollout.lifecycle.tried import check_trial
from rollout.lifecycle.undoing import prepare_undo
from rollout.policy import Policy
from rollout.world import EndpointRef, Event, Severity, Split


def new_rollout(
    *, rollout_id: str, ref: EndpointRef, policy: Policy, candidate: str | None, by: str, now: datetime
) -> tuple[Rollout, tuple[Event, ...]]:
    """A rollout that was asked for, and the event that tells it. `candidate` overrides the policy's."""
    sentence = f"{by} asked for a rollout of {ref.name} with policy {policy.name}."
    rollout = Rollout(
        id=rollout_id,
        ref=ref,
        policy=policy,
        stable=policy.stable,
        candidate=candidate or policy.candidate,
        phase=Phase.PENDING,
        created_at=now,
        created_by=by,
        phase_since=now,
        sentence=sentence,
    )
    return rollout, (Event(at=now, kind=Phase.PENDING.value, sentence=sentence),)


def advance(rollout: Rollout, facts: Facts, now: datetime) -> Decision:
    """Decide what this tick does. The decision is saved whole before `write` and `errands` are sent."""
    story = Story(lost_answers(_write_ended(rollout, now), now), now, freezes=facts.freezes)
    operations_over(story, facts)
    if rollout.owes:
        return _settle(story, facts)
    if story.rollout.phase is Phase.PENDING:
        story.move(Phase.PREPARING, f"Checking {rollout.ref.name}, its deployments and its data.")
    return _observe(story, facts, rollout) if rollout.observes else _act(story, facts, rollout)


def _settle(story: Story, facts: Facts) -> Decision:
    """A tick of a rollout that has ended and still owes something."""
    for command in facts.commands:
        carry_out(story, command, facts)
    take_off(story, facts)
    settle(story, facts)
    return _decided(story, facts, write=None)


def _observe(story: Story, facts: Facts, before: Rollout) -> Decision:
    """A tick of a rollout that judges what people do: there is no write that it could decide."""
    for command in facts.commands:
        carry_out(story, command, facts)
    _prepare(story, facts)
    follow(story, facts, before)
    guard_blind(story, facts)
    return _decided(story, facts, write=None)


def _act(story: Story, facts: Facts, rollout: Rollout) -> Decision:
    now = story.now
    observe(story, facts)
    tell_freezes(story)
    for command in facts.commands:
        carry_out(story, command, facts)
    _prepare(story, facts)
    guards.guard_endpoint(story, facts)
    guards.guard_deployments(story, facts)
    judged(story, facts, rollout)
    begin_approved(story, facts)
    guard(story, facts, rollout)
    if wanted_traffic(story.rollout) != wanted_traffic(rollout):
        story.set(wanted_since=now)  # before the guards: what is wanted from now on is not late yet
    guard_blind(story, facts)
    guards.guard_deadline(story)
    guards.guard_approval(story, facts)
    guards.guard_unconfirmed(story, facts)
    guards.page_if_late(story)
    promoted_already(story)
    settle_step(story)
    write = allowed_write(story, facts, due_write(story.rollout, facts.snapshot, now))
    if write is not None:
        if not story.rollout.writes:
            story.set(wanted_since=now)
        story.rollout = with_write(story.rollout, write, now)
    return _decided(story, facts, write=write)


def _decided(story: Story, facts: Facts, *, write: Split | None) -> Decision:
    errands = due_errands(story.rollout, story.errands, story.now)
    story.rollout = with_intents(story.rollout, errands, story.now)
    return Decision(
        rollout=story.rollout,
        events=tuple(story.events),
        results=tuple(story.results),
        write=write,
        errands=errands,
        judged=facts.verdict is not None and facts.judgement is not None,
        exhibit=facts.exhibit if story.rollout.judgement is facts.judgement else None,
    )


def _write_ended(rollout: Rollout, now: datetime) -> Rollout:
    """A tick runs alone: a write that is still open then was sent by a process that is gone; its outcome is unknown."""
    if rollout.writes and rollout.writes[-1].ended_at is None:
        gone = replace(rollout.writes[-1], ended_at=now, outcome="unknown")
        return replace(rollout, writes=(*rollout.writes[:-1], gone))
    return rollout


def _prepare(story: Story, facts: Facts) -> None:
    if story.rollout.phase is not Phase.PREPARING:
        return
    if story.rollout.undo is not None:
        prepare_undo(story, facts, story.rollout.undo)
        return
    found = (
        check_mirror(story, facts)
        or check_created(story, facts)
        or check_refused(story.rollout)
        or check_start(story.rollout, facts, story.now)
    )
    if not isinstance(found, Refused) and start_waits(story, facts):
        return
    if isinstance(found, Ready):
        found = check_trial(story, facts, found)
    if isinstance(found, Ready):
        found = check_capacity(story, facts, found)
    if isinstance(found, Ready) and begin_mirror(story, found):
        return
    if isinstance(found, Ready):
        story.set(
            stable=found.stable,
            candidate=found.candidate,
            pins=found.pins,
            stable_instances=found.pins[0].instances,
            confirmed=Split.of({found.stable: 100}),
            confirmed_at=facts.snapshot.requested_at if facts.snapshot else story.now,
            resource_id=facts.snapshot.endpoint.resource_id if facts.snapshot and facts.snapshot.endpoint else None,
            held_reason=None,
        )
        if story.rollout.observes:
            begin(story, facts, found.why)
            return
        told = " ".join([f"{found.stable} is stable, {found.candidate} the candidate.", found.told]).rstrip()
        moves.enter_step(story, story.rollout.first, told, per_minute=facts.per_minute)
    elif isinstance(found, NotYet) and story.now < _awaited_until(story.rollout, found):
        if story.rollout.held_reason != found.sentence:
            story.set(held_reason=found.sentence)
            story.tell(Phase.PREPARING.value, f"Not started yet: {found.sentence}.")
    else:
        more = f" {found.more}" if isinstance(found, Refused) and found.more else ""
        story.move(Phase.ABORTED, f"Not started: {found.sentence}.{more}", severity=Severity.ACTION)


def _awaited_until(rollout: Rollout, found: NotYet) -> datetime:
    """A start that waited for a window has, once it opens, as long as any other."""
    return found.until + (rollout.opened_at - rollout.created_at if rollout.opened_at else timedelta())


def written(rollout: Rollout, *, outcome: Outcome, now: datetime, not_before: datetime | None = None) -> Rollout:
    """The rollout after its write was answered; `not_before`: Azure asked to be left alone until then."""
    if not rollout.writes:
        return rollout
    last = replace(rollout.writes[-1], ended_at=now, outcome=outcome, not_before=not_before)
    first = outcome == "accepted" and rollout.phase is Phase.ROLLING_BACK and rollout.sent_at is None
    return replace(rollout, writes=(*rollout.writes[:-1], last), sent_at=now if first else rollout.sent_at)


def refused(rollout: Rollout, why: str, now: datetime) -> Decision:
    """Azure refused our write: a person must act. A roll back is still tried, and paged."""
    if rollout.phase is Phase.ROLLING_BACK:
        story = Story(written(rollout, outcome="refused", now=now), now)
        guards.page_roll_back(story, f"It was refused: {why.rstrip('.')}. It is still being tried.")
    else:
        story = Story(replace(rollout, writes=rollout.writes[:-1]), now)  # it has not happened, for certain
        moves.pause_refused(story, why)
    return Decision(rollout=story.rollout, events=tuple(story.events))
