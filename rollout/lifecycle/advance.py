"""The one place that decides: a rollout and the facts of one tick -> what it becomes, what is told, what is written.

The rule: pure, level-triggered and idempotent. The order is the safety order: what Azure shows, what people ask, what
makes going on impossible, what the evidence says, what time says, and last what to write.
"""

from dataclasses import replace
from datetime import datetime

from rollout.lifecycle import guards, moves, sentences
from rollout.lifecycle.commands import carry_out
from rollout.lifecycle.facts import Decision, Facts
from rollout.lifecycle.judged import judged
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.prepare import NotYet, Ready, check_start
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.splits import (
    HOLDS_TRAFFIC,
    due_write,
    noted_foreign,
    shows_wanted,
    wanted_traffic,
    with_write,
)
from rollout.lifecycle.story import Story
from rollout.policy import Policy
from rollout.world import EndpointRef, EndpointState, Event, Severity, Snapshot, Split


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
    """Decide what this tick does. The decision is saved whole before `write` is sent."""
    story = Story(_write_ended(rollout, now), now)
    if story.rollout.phase is Phase.PENDING:
        story.move(Phase.PREPARING, f"Checking {rollout.ref.name}, its deployments and its data.")
    _observe(story, facts)
    for command in facts.commands:
        carry_out(story, command, facts)
    _prepare(story, facts)
    guards.guard_endpoint(story, facts)
    guards.guard_deployments(story, facts)
    judged(story, facts)
    guards.guard_deadline(story)
    guards.guard_approval(story)
    guards.page_if_late(story)
    write = due_write(story.rollout, facts.snapshot, now)
    if write is not None:
        story.rollout = with_write(story.rollout, write, now)
    return Decision(rollout=story.rollout, events=tuple(story.events), results=tuple(story.results), write=write)


def _write_ended(rollout: Rollout, now: datetime) -> Rollout:
    """A tick runs alone: a write that is still open then was sent by a process that is gone; its outcome is unknown."""
    if rollout.writes and rollout.writes[-1].ended_at is None:
        gone = replace(rollout.writes[-1], ended_at=now, outcome="unknown")
        return replace(rollout, writes=(*rollout.writes[:-1], gone))
    return rollout


def _observe(story: Story, facts: Facts) -> None:
    """What Azure shows: our split confirmed, or a person's."""
    snapshot = facts.snapshot
    if snapshot is None or snapshot.endpoint is None or story.rollout.ended:
        return
    if shows_wanted(story.rollout, snapshot):
        _confirmed(story)
    elif story.rollout.phase in (HOLDS_TRAFFIC | {Phase.PAUSED}) - {Phase.ROLLING_BACK}:
        noted, settled = noted_foreign(story.rollout, snapshot)
        story.rollout = noted
        if settled:
            _drifted(story, snapshot.endpoint)


def _confirmed(story: Story) -> None:
    rollout = story.rollout
    wanted = wanted_traffic(rollout)
    first = rollout.confirmed != wanted or bool(rollout.writes)
    if first:
        story.set(confirmed=wanted, confirmed_at=story.now, writes=())
    story.set(foreign=None)
    if rollout.phase is Phase.ROLLING_BACK:
        _rolled_back(story)
    elif rollout.phase is Phase.PROMOTING:
        _promoted(story)
    elif rollout.step_since is None:
        started = rollout.started_at or (story.now if rollout.share else None)
        story.set(step_since=story.now, started_at=started)
        if first:
            story.tell("confirmed", f"Azure confirmed {sentences.split_words(rollout, rollout.share)}.")


def _rolled_back(story: Story) -> None:
    rollout = story.rollout
    ending = rollout.ending or Phase.ROLLED_BACK
    story.set(confirmed_at=story.now)
    if ending is Phase.ABORTED:
        sentence = (
            f"Aborted: {rollout.ref.name} back on {rollout.stable} 100 % since {sentences.clock(story.now)} "
            f"(was {rollout.was_share} % {rollout.candidate}), {rollout.cause}."
        )
    else:
        sentence = sentences.rolled_back(rollout, story.now)
    story.move(ending, sentence, severity=Severity.ACTION)
    story.events[-1] = replace(story.events[-1], details=sentences.ending_details(story.rollout, story.now))


def _promoted(story: Story) -> None:
    rollout = story.rollout
    took = story.now - rollout.created_at
    story.move(
        Phase.SUCCEEDED,
        f"Promoted: {rollout.ref.name} is on {rollout.candidate} 100 % since {sentences.clock(story.now)}, "
        f"{round(took.total_seconds() / 60)} min after the start; {rollout.stable} is kept without traffic.",
        severity=Severity.NOTICE,
        details=sentences.ending_details(rollout, story.now),
    )


def _drifted(story: Story, endpoint: EndpointState) -> None:
    """A person moved the traffic: they win."""
    rollout = story.rollout
    by = f" by {endpoint.last_modified_by}" if endpoint.last_modified_by else ""
    if rollout.candidate and endpoint.traffic.share(rollout.candidate) == 0:
        story.set(confirmed=endpoint.traffic, share=0)
        story.move(
            Phase.ABORTED,
            f"Rolled back by hand: {rollout.candidate} was taken off the traffic of {rollout.ref.name}{by} "
            f"(now {endpoint.traffic}); the rollout ended and will not apply it again.",
            severity=Severity.ACTION,
        )
    elif rollout.phase is not Phase.PAUSED or rollout.paused_because != "drift":
        moves.pause(
            story,
            "drift",
            f"Paused: the traffic of {rollout.ref.name} was changed{by} to {endpoint.traffic} (the rollout had set "
            f"{rollout.confirmed}). `rollout resume {rollout.ref.name} --adopt` goes on from there, `--restore` sets it back.",
        )


def _prepare(story: Story, facts: Facts) -> None:
    if story.rollout.phase is not Phase.PREPARING:
        return
    found = check_start(story.rollout, facts, story.now)
    if isinstance(found, Ready):
        stable_split = Split.of({found.stable: 100})
        story.set(
            stable=found.stable,
            candidate=found.candidate,
            pins=found.pins,
            confirmed=stable_split,
            confirmed_at=_seen_at(facts.snapshot, story.now),
        )
        moves.enter_step(
            story, 0, f"{found.stable} is stable, {found.candidate} the candidate.", per_minute=facts.per_minute
        )
    elif isinstance(found, NotYet) and story.now < found.until:
        if story.rollout.held_reason != found.sentence:
            story.set(held_reason=found.sentence)
            story.tell("waiting", f"Not started yet: {found.sentence}.")
    else:
        story.move(Phase.ABORTED, f"Not started: {found.sentence}.", severity=Severity.ACTION)


def _seen_at(snapshot: Snapshot | None, now: datetime) -> datetime:
    return snapshot.requested_at if snapshot else now


def written(rollout: Rollout, *, outcome: str, now: datetime) -> Rollout:
    """The rollout after its write was answered: `accepted`, `conflict`, `unknown` or `refused`."""
    if not rollout.writes:
        return rollout
    last = replace(rollout.writes[-1], ended_at=now, outcome=outcome)  # type: ignore[arg-type]
    sent = now if outcome == "accepted" and rollout.phase is Phase.ROLLING_BACK else rollout.sent_at
    return replace(rollout, writes=(*rollout.writes[:-1], last), sent_at=sent)


def refused(rollout: Rollout, why: str, now: datetime) -> Decision:
    """Azure refused our write: a person must act. A roll back is still tried, and paged."""
    story = Story(written(rollout, outcome="refused", now=now), now)
    if rollout.phase is Phase.ROLLING_BACK:
        if not rollout.late_told:
            story.set(late_told=True)
            story.tell(
                "unconfirmed",
                f"Act now: Azure refused the roll back of {rollout.ref.name}: {why} By hand: {sentences.by_hand(rollout)}",
                Severity.PAGE,
                {**sentences.ending_details(story.rollout, now), "by_hand": sentences.by_hand(rollout)},
            )
    else:
        moves.pause(story, "refused", f"Paused: Azure refused the new split of {rollout.ref.name}: {why}")
    return Decision(rollout=story.rollout, events=tuple(story.events))
