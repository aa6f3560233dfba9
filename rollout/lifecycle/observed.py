"""What Azure shows of the traffic: our split confirmed, or a person's.

The rule: a person wins. Only a snapshot that was asked for after our last write ended, of an endpoint at rest, is
believed, and a foreign split only when a second one shows it too; while rolling back, nothing is a person's.
"""

from dataclasses import replace

from rollout.lifecycle import moves, sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.guarding import begin_guarding, end_by_hand
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.splits import (
    FOREIGN_SETTLES,
    HOLDS_TRAFFIC,
    confirmed,
    intended_traffic,
    noted_foreign,
    shows_intended,
    unconfirmed,
)
from rollout.lifecycle.story import Story
from rollout.world import EndpointState, Severity, Snapshot

_WATCHED = (HOLDS_TRAFFIC | {Phase.PAUSED, Phase.GUARDING}) - {Phase.ROLLING_BACK}


def observe(story: Story, facts: Facts) -> None:
    """Take in the snapshot of this tick."""
    snapshot, rollout = facts.snapshot, story.rollout
    if snapshot is None or snapshot.endpoint is None or rollout.phase not in _WATCHED | {Phase.ROLLING_BACK}:
        return
    if shows_intended(rollout, snapshot):
        if _believable(story, snapshot):
            _confirmed(story)
    elif rollout.phase is Phase.ROLLING_BACK:
        story.set(shown_at=None)
    else:
        noted, settled = noted_foreign(rollout, snapshot)
        story.rollout = noted
        if settled and noted.foreign is not None and not noted.foreign.told:
            _drifted(story, snapshot.endpoint)


def _believable(story: Story, snapshot: Snapshot) -> bool:
    """Whether one look is enough. A roll back that Azure did not accept from us may be a person's, or a read that lags."""
    rollout = story.rollout
    accepted = any(write.outcome == "accepted" and write.split == intended_traffic(rollout) for write in rollout.writes)
    if rollout.phase is not Phase.ROLLING_BACK or accepted or not rollout.writes:
        return True
    if rollout.shown_at is None:
        story.set(shown_at=snapshot.requested_at)
        return False
    return snapshot.requested_at - rollout.shown_at >= FOREIGN_SETTLES


def _confirmed(story: Story) -> None:
    before = story.rollout
    story.rollout = confirmed(before, story.now)
    if before.foreign is not None and before.foreign.told:
        ways = sentences.ways(before, resume="goes on")
        story.tell("drift_over", f"The traffic is {story.rollout.confirmed} again, as the rollout had set it. {ways}")
    if before.phase is Phase.ROLLING_BACK:
        if not story.rollout.strays:
            _rolled_back(story)
    elif before.phase is Phase.PROMOTING:
        if not story.rollout.strays:
            _promoted(story)
    elif (
        before.phase is not Phase.PAUSED
        and before.share > 0
        and (before.confirmed != story.rollout.confirmed or before.writes)
    ):
        story.tell("confirmed", f"Azure confirmed {sentences.split_words(before, before.share)}.")


def settle_step(story: Story) -> None:
    """A step's minutes count from the moment at which its split is known to be confirmed."""
    rollout = story.rollout
    there = rollout.confirmed == intended_traffic(rollout) and not (
        rollout.writes or rollout.foreign or rollout.replaceable
    )
    if there and rollout.step_since is None and rollout.share > 0 and rollout.phase in _WATCHED:
        story.set(
            step_since=story.now,
            started_at=rollout.started_at or story.now,
            judged_from=rollout.judged_from or story.now,
        )


def _rolled_back(story: Story) -> None:
    rollout = story.rollout
    ending = rollout.ending or Phase.ROLLED_BACK
    sentence = sentences.aborted(rollout) if ending is Phase.ABORTED else sentences.rolled_back(rollout)
    if rollout.undo is not None:
        sentence = sentences.undone(rollout)
    story.move(ending, sentence, severity=Severity.ACTION)
    story.explain()


def promoted_already(story: Story) -> None:
    """Nothing was held back: the candidate has everything as soon as the last bake is over."""
    rollout = story.rollout
    if rollout.phase is Phase.PROMOTING and not unconfirmed(rollout) and not rollout.strays:
        _promoted(story)


def _promoted(story: Story) -> None:
    rollout = story.rollout
    at = rollout.confirmed_at or story.now
    told = (
        f"Promoted: {rollout.ref.name} is on {rollout.candidate} 100 % since {sentences.clock(at)}, "
        f"{sentences.minutes(at - rollout.created_at)} after the start"
    )
    if rollout.policy.after.keep_stable is not None:
        begin_guarding(story, told, rollout.policy.after.keep_stable)
        return
    told = f"{told}; {sentences.fate(rollout)}."
    story.move(Phase.SUCCEEDED, told, severity=Severity.NOTICE, retire=rollout.policy.after.retires)
    story.explain()


def _drifted(story: Story, endpoint: EndpointState) -> None:
    """A person moved the traffic: they win."""
    rollout = story.rollout
    by = f" by {endpoint.last_modified_by}" if endpoint.last_modified_by else ""
    if rollout.foreign is not None:
        story.set(foreign=replace(rollout.foreign, told=True))
    if rollout.share > 0 and rollout.candidate and endpoint.traffic.share(rollout.candidate) == 0:
        story.move(
            Phase.ABORTED,
            f"Rolled back by hand: {rollout.candidate} (was {rollout.share} %) was taken off the traffic of "
            f"{rollout.ref.name}{by}; it is {endpoint.traffic} now. The rollout has ended and will not give "
            f"{rollout.candidate} traffic again.",
            severity=Severity.ACTION,
            share=0,
            confirmed=endpoint.traffic,
        )
        return
    if rollout.phase is Phase.GUARDING:
        end_by_hand(story, f"the traffic of {rollout.ref.name} was changed{by} to {endpoint.traffic}", endpoint.traffic)
        return
    moves.pause(
        story,
        "drift",
        f"Paused: the traffic of {rollout.ref.name} was changed{by} to {endpoint.traffic}; the rollout had set "
        f"{rollout.confirmed}. `rollout resume {rollout.ref.name} --adopt` goes on from there, `--restore` sets it back; "
        f"`rollout abort {rollout.ref.name} --reason …` puts all traffic back on {rollout.stable}.",
    )
