"""From a verdict to a move: go on, hold, retreat, roll back.

The rule: a pass counts only for the step whose split Azure has confirmed; a hold is always bounded; a roll back never
leads onto a stable that cannot serve, and never over a person's hands.
"""

from datetime import timedelta

from rollout.analysis.verdict import Reason, Verdict
from rollout.lifecycle import moves, sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.guards import stable_cannot_serve
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.splits import step_share
from rollout.lifecycle.story import Story
from rollout.world import Severity

#: Holds because there is nothing (sound) to judge: `when.no_data` bounds them.
BLIND = frozenset({Reason.NO_DATA, Reason.NO_TRAFFIC, Reason.SPLIT, Reason.NOT_COMPARABLE})
#: Holds because the bake ended without an answer: `when.doubt` bounds them.
DOUBTFUL = frozenset({Reason.REQUESTS, Reason.DOUBT, Reason.MAXIMUM})
#: Pauses in which a person's hands are on the traffic, or the evidence is void: a fail is told, not acted upon.
HANDS_ON = frozenset({"drift", "changed", "regression"})


def judged(story: Story, facts: Facts) -> None:
    """Let the verdict of this tick move the rollout."""
    verdict = facts.verdict
    if verdict is None or story.rollout.phase in {Phase.PENDING, Phase.PREPARING, Phase.ROLLING_BACK}:
        return
    if story.rollout.phase.ended:
        return
    story.set(judgement=facts.judgement, verdict=verdict)
    if verdict.action == "fail":
        _fail(story, facts, verdict)
    elif story.rollout.phase is Phase.RETREATED:
        _while_retreated(story, verdict)
    elif verdict.action == "retreat":
        if story.rollout.phase in {Phase.PROGRESSING, Phase.WAITING}:
            moves.retreat(story, verdict.sentence, facts.per_minute)
    elif verdict.action == "pass":
        _pass(story, verdict)
    elif story.rollout.phase is Phase.PROGRESSING:
        _hold(story, verdict)


def _fail(story: Story, facts: Facts, verdict: Verdict) -> None:
    rollout = story.rollout
    if rollout.phase is Phase.PAUSED and rollout.paused_because in HANDS_ON:
        if rollout.held_reason != "told":
            story.set(held_reason="told", held_since=story.now)
            story.tell(
                "regression",
                f"{rollout.ref.name} is paused and left alone, but the candidate is worse. {verdict.sentence}",
                Severity.ACTION,
                sentences.ending_details(rollout, story.now),
            )
        return
    broken = stable_cannot_serve(rollout, facts)
    if broken:
        moves.halt(story, f"{verdict.sentence} It cannot be rolled back: {broken}")
    elif rollout.policy.when.regression == "pause":
        moves.pause(story, "regression", f"Paused on a regression, as the policy says. {verdict.sentence}")
    else:
        moves.roll_back(story, verdict.sentence, f"Rolling back to {rollout.stable} 100 %: {verdict.sentence}")


def _while_retreated(story: Story, verdict: Verdict) -> None:
    if verdict.action == "retreat":
        return
    if verdict.reason in BLIND or verdict.reason is Reason.SHARED_INCIDENT:
        _hold(story, verdict)
    else:
        moves.end_retreat(story, verdict.sentence)


def _pass(story: Story, verdict: Verdict) -> None:
    rollout = story.rollout
    if rollout.phase is not Phase.PROGRESSING or rollout.step_since is None:
        return
    if rollout.sized_share is not None:
        share = step_share(rollout.policy, rollout.step)
        sentence = f"The first minutes at {rollout.share} % passed, now {share} %: {verdict.sentence}"
        story.set(share=share, sized_share=None, step_since=None, **moves.NO_HOLD)
        story.tell("progressing", sentence)
    elif rollout.step + 1 < len(rollout.policy.steps):
        moves.enter_step(story, rollout.step + 1, verdict.sentence)
    else:
        moves.finish(story, verdict.sentence)


def _hold(story: Story, verdict: Verdict) -> None:
    rollout = story.rollout
    bounded = verdict.reason in BLIND | DOUBTFUL
    if not bounded and verdict.reason is not Reason.SHARED_INCIDENT:
        if rollout.held_reason is not None:
            story.set(**moves.NO_HOLD)
            story.tell("going_on", f"Going on after a hold. {verdict.sentence}")
        return
    if rollout.held_reason != verdict.reason:
        same_bound = rollout.held_since is not None and (rollout.held_reason in BLIND) == (verdict.reason in BLIND)
        story.set(held_since=rollout.held_since if same_bound else story.now, held_reason=verdict.reason.value)
        shared = verdict.reason is Reason.SHARED_INCIDENT
        story.tell("held", f"Held: {verdict.sentence}", Severity.ACTION if shared else None)
    if bounded:
        _end_hold(story, verdict)


def _end_hold(story: Story, verdict: Verdict) -> None:
    rollout = story.rollout
    when = rollout.policy.when
    blind = verdict.reason in BLIND
    limit, then = (when.no_data.hold, when.no_data.then) if blind else (when.doubt.extend, when.doubt.then)
    if rollout.held_since is None or story.now - rollout.held_since < limit:
        return
    told = f"after {minutes(limit)} of holding without an answer. {verdict.sentence}"
    if then == "rollback":
        moves.roll_back(story, verdict.sentence, f"Rolling back to {rollout.stable} 100 % {told}")
    else:
        moves.pause(story, "no_data" if blind else "doubt", f"Paused {told}")


def minutes(duration: timedelta) -> str:
    """`45 min`."""
    return f"{round(duration.total_seconds() / 60)} min"
