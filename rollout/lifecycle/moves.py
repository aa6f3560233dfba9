"""The moves of a rollout that more than one reason can lead to: enter a step, retreat, pause, roll back, finish.

The rule: each move leaves one sentence, and sets everything that the phase needs; whoever calls it has the reason.
"""

from rollout.lifecycle import sentences
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.splits import step_share
from rollout.lifecycle.story import Story
from rollout.world import Severity, Split

NO_HOLD = {"held_since": None, "held_reason": None}
#: A retreat cuts the share to what still shows this many requests a minute (ANALYSIS: retreat), within these percents.
RETREAT_PER_MINUTE, RETREAT_LEAST, RETREAT_MOST = 20, 2, 10
#: The first minutes run at the share that shows this many requests a minute, within the same percents.
SIZED_PER_MINUTE = 300


def share_for(per_minute: float | None, wanted: float) -> int:
    """The share, 2 to 10 percent, at which a deployment sees about `wanted` requests a minute."""
    if not per_minute:
        return RETREAT_MOST
    return round(min(max(100 * wanted / per_minute, RETREAT_LEAST), RETREAT_MOST))


def enter_step(story: Story, index: int, why: str, *, per_minute: float | None = None, approved: bool = False) -> None:
    """Begin a step, or wait for its approval with the share as it is."""
    rollout = story.rollout
    step = rollout.policy.steps[index]
    if step.approve and not approved:
        story.move(
            Phase.WAITING,
            f"{why} Step {index + 1} ({step.traffic} %) waits for an approval: `rollout approve {rollout.ref.name}`.",
            severity=Severity.ACTION,
            next_step=index,
            resume_phase=None,
            retreated_at=None,
            sized_share=None,
            **NO_HOLD,
        )
        return
    share, sized = step_share(rollout.policy, index), None
    if index == 0 and rollout.policy.first_step == "auto":
        smaller = share_for(per_minute, SIZED_PER_MINUTE)
        share, sized = (smaller, smaller) if smaller < share else (share, None)
    story.move(
        Phase.PROGRESSING,
        f"{why} Step {index + 1} of {len(rollout.policy.steps)} began: {sentences.split_words(rollout, share)}.",
        severity=Severity.NOTICE if index == 0 else None,
        step=index,
        share=share,
        sized_share=sized,
        step_since=None,
        next_step=None,
        resume_phase=None,
        retreated_at=None,
        **NO_HOLD,
    )


def finish(story: Story, why: str) -> None:
    """The last bake is over: the candidate gets everything."""
    story.move(
        Phase.PROMOTING,
        f"{why} {story.rollout.candidate} gets all traffic.",
        share=100,
        step_since=None,
        retreated_at=None,
        next_step=None,
        resume_phase=None,
        **NO_HOLD,
    )


def retreat(story: Story, sentence: str, per_minute: float | None) -> None:
    """Cut the share while in doubt; a rollout that waited for an approval waits on afterwards."""
    rollout = story.rollout
    share = min(rollout.share, share_for(per_minute, RETREAT_PER_MINUTE))
    story.move(
        Phase.RETREATED,
        f"Retreated from {rollout.share} % to {share} % while in doubt. {sentence}",
        severity=Severity.NOTICE,
        share=share,
        retreated_at=story.now,
        step_since=None,
        resume_phase=Phase.WAITING if rollout.phase is Phase.WAITING else None,
        **NO_HOLD,
    )


def end_retreat(story: Story, sentence: str) -> None:
    """The doubt is gone: back to the step's share."""
    rollout = story.rollout
    share = rollout.sized_share or step_share(rollout.policy, rollout.step)
    story.move(
        rollout.resume_phase or Phase.PROGRESSING,
        f"Resumed {sentences.step_words(rollout).lower()} at {share} %. {sentence}",
        severity=Severity.NOTICE,
        share=share,
        retreated_at=None,
        step_since=None,
        resume_phase=None,
        **NO_HOLD,
    )


def pause(story: Story, because: str, sentence: str, *, severity: Severity | None = Severity.ACTION) -> None:
    """Leave the share alone until a person says how to go on."""
    rollout = story.rollout
    where = rollout.resume_phase if rollout.phase is Phase.PAUSED else rollout.phase
    back = where if where in {Phase.WAITING, Phase.PROMOTING} else Phase.PROGRESSING
    story.move(Phase.PAUSED, sentence, severity=severity, paused_because=because, resume_phase=back, **NO_HOLD)


def roll_back(story: Story, cause: str, sentence: str, *, ending: Phase = Phase.ROLLED_BACK) -> None:
    """Send all traffic back to stable; the line that tells its end follows when Azure has confirmed it."""
    story.set(cause=cause, was_share=story.rollout.share, decided_at=story.now, sent_at=None, late_told=False)
    story.move(
        Phase.ROLLING_BACK,
        sentence,
        severity=Severity.NOTICE,
        details=sentences.ending_details(story.rollout, story.now),
        share=0,
        ending=ending,
        retreated_at=None,
        step_since=None,
        next_step=None,
        foreign=None,
        **NO_HOLD,
    )


def halt(story: Story, sentence: str) -> None:
    """Stable cannot serve: leave traffic alone and page."""
    story.move(
        Phase.HALTED,
        f"Halted, act now: {sentence} Traffic was left as it is ({shown_split(story)}).",
        severity=Severity.PAGE,
        details=sentences.ending_details(story.rollout, story.now),
    )


def shown_split(story: Story) -> Split | str:
    """The last split that Azure confirmed, in words."""
    return story.rollout.confirmed or "not known"
