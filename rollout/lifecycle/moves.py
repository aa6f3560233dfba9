"""The moves of a rollout that more than one reason can lead to: enter a step, retreat, pause, roll back, finish.

The rule: each move leaves one sentence, and sets everything that the phase needs; whoever calls it has the reason. Every
move that raises the candidate's share asks `may_rise` first, and no other move ever does.
"""

from datetime import timedelta
from typing import Any

from rollout.lifecycle import sentences
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.splits import intended_traffic, step_share
from rollout.lifecycle.stage import WRITE_TAKES
from rollout.lifecycle.story import Story
from rollout.policy.windows import takes as step_takes
from rollout.windows import Shut, after_open, shut
from rollout.world import Severity, Split

NO_HOLD = {"held_since": None, "held_reason": None, "shut": None}
NO_RETREAT = {"retreated_at": None, "retreated_from": None}
#: A pause left behind.
NO_PAUSE = {"paused_because": None, "resume_phase": None}
#: A retreat cuts the share to what still shows this many requests a minute (ANALYSIS: retreat), within these percents.
RETREAT_PER_MINUTE, RETREAT_LEAST, RETREAT_MOST = 20, 2, 10
#: The first minutes run at the share that shows this many requests a minute, within the same percents.
SIZED_PER_MINUTE = 300


def share_for(per_minute: float | None, wanted: float) -> int:
    """The share, 2 to 10 percent, at which a deployment sees about `wanted` requests a minute."""
    if not per_minute:
        return RETREAT_MOST
    return round(min(max(100 * wanted / per_minute, RETREAT_LEAST), RETREAT_MOST))


def may_rise(story: Story, *, takes: timedelta = WRITE_TAKES) -> Shut | None:
    """The one gate: why the candidate's share may not rise now for something that takes so long; None where it may."""
    return shut(story.rollout.policy.windows, story.freezes, now=story.now, takes=takes)


def may_enter(story: Story, index: int, per_minute: float | None = None) -> Shut | None:
    """The gate before a step, which must be able to end before the window closes."""
    sized = _first_share(story, index, per_minute)[1] is not None
    return may_rise(story, takes=step_takes(story.rollout.policy.steps[index].bake, sized=sized))


def stay(story: Story, closed: Shut, why: str, what: str) -> None:
    """What would raise the share waits, and is tried again with every verdict; people are told once."""
    rollout = story.rollout
    if rollout.shut == closed.key:
        return
    story.move(
        Phase.RETREATED if rollout.phase is Phase.RETREATED else Phase.WAITING,
        f"{why} {what} waits: {closed.sentence(story.now)}. The share stays at {rollout.share} %; judging goes on, and a "
        "candidate that fails is still rolled back.",
        severity=Severity.NOTICE,
        **(NO_HOLD | {"shut": closed.key}),
    )


def _first_share(story: Story, index: int, per_minute: float | None) -> tuple[int, int | None]:
    """The share that a step begins with, and the same again where it is one sized from the traffic."""
    policy = story.rollout.policy
    share = step_share(policy, index)
    if index == 0 and policy.first_step == "auto":
        smaller = share_for(per_minute, SIZED_PER_MINUTE)
        if smaller < share:
            return smaller, smaller
    return share, None


def enter_step(story: Story, index: int, why: str, *, per_minute: float | None = None, approved: bool = False) -> None:
    """Begin a step, or wait for its approval, or for a window, with the share as it is."""
    rollout = story.rollout
    step = rollout.policy.steps[index]
    if step.approve and not approved:
        ask_for_approval(story, index, why)
        return
    closed = may_enter(story, index, per_minute)
    if closed:
        stay(story, closed, why, f"Step {index + 1}")
        return
    share, sized = _first_share(story, index, per_minute)
    story.move(
        Phase.PROGRESSING,
        f"{why} Step {index + 1} of {len(rollout.policy.steps)} began: {sentences.split_words(rollout, share)}.",
        severity=Severity.NOTICE if index == 0 else None,
        step=index,
        share=share,
        sized_share=sized,
        step_since=None,
        next_step=None,
        given=None,
        approved=(*rollout.approved, index) if step.approve else rollout.approved,
        **NO_PAUSE,
        **NO_RETREAT,
        **NO_HOLD,
    )


def ask_for_approval(story: Story, index: int, why: str) -> None:
    """Wait for a person; time outside of windows does not count."""
    rollout = story.rollout
    approve = rollout.policy.steps[index].approve
    until = after_open(rollout.policy.windows, story.now, approve.timeout) if approve else story.now
    by = f" of {' or '.join(approve.by)}" if approve and approve.by else ""
    name, ends = rollout.ref.name, f" until {sentences.moment(until)}" if until else ""
    story.move(
        Phase.WAITING,
        f"{why} Step {index + 1} ({step_share(rollout.policy, index)} %) waits for an approval{by}{ends}: "
        f"`rollout approve {name}`, or `rollout reject {name}`.",
        severity=Severity.ACTION,
        phase_since=story.now,
        next_step=index,
        given=None,
        sized_share=None,
        **NO_PAUSE,
        **NO_RETREAT,
        **NO_HOLD,
    )


def fill_step(story: Story, why: str) -> None:
    """The first minutes at a smaller share went well: the step's own share."""
    rollout = story.rollout
    share = step_share(rollout.policy, rollout.step)
    closed = may_rise(story, takes=step_takes(rollout.policy.steps[rollout.step].bake))
    if closed:
        stay(story, closed, why, f"The share of step {rollout.step + 1}, {share} %,")
        return
    story.move(
        Phase.PROGRESSING,
        f"{why} Now {sentences.split_words(rollout, share)}, the share of step {rollout.step + 1}.",
        share=share,
        sized_share=None,
        step_since=None,
        **NO_HOLD,
    )


def finish(story: Story, why: str) -> None:
    """The last bake is over: the candidate gets everything."""
    closed = may_rise(story)
    if closed:
        stay(story, closed, why, "The last share")
        return
    story.move(
        Phase.PROMOTING,
        f"{why} {story.rollout.candidate} gets all traffic.",
        share=100,
        sized_share=None,
        step_since=None,
        next_step=None,
        given=None,
        **NO_PAUSE,
        **NO_RETREAT,
        **NO_HOLD,
    )


def retreat(story: Story, sentence: str, per_minute: float | None) -> None:
    """Cut the share while in doubt; a rollout that waited for an approval waits on afterwards."""
    rollout = story.rollout
    share = min(rollout.share, share_for(per_minute, RETREAT_PER_MINUTE))
    cut = share < rollout.share
    told = f"Retreated from {rollout.share} % to {share} %" if cut else f"Held at {share} %, little enough,"
    story.move(
        Phase.RETREATED,
        f"{told} while in doubt. {sentence}",
        severity=Severity.NOTICE,
        share=share,
        retreated_at=story.now,
        retreated_from=rollout.share,
        step_since=None,
        given=None,
        **NO_HOLD,
    )


def end_retreat(story: Story, sentence: str) -> None:
    """The doubt is gone: back to the share that was cut."""
    rollout = story.rollout
    share = rollout.retreated_from or rollout.share
    closed = (
        may_rise(story, takes=step_takes(rollout.policy.steps[rollout.step].bake)) if share > rollout.share else None
    )
    if closed:
        stay(story, closed, sentence, f"The share of step {rollout.step + 1}, {share} %,")
        return
    where = f"step {rollout.step + 1} of {len(rollout.policy.steps)} at {share} %"
    waits = "; the next step still waits for an approval" if rollout.next_step is not None else ""
    story.move(
        Phase.PROGRESSING if rollout.next_step is None else Phase.WAITING,
        f"Resumed {where}{waits}. {sentence}",
        severity=Severity.NOTICE,
        share=share,
        step_since=None,
        **NO_RETREAT,
        **NO_HOLD,
    )


def pause(
    story: Story, because: str, sentence: str, *, severity: Severity | None = Severity.ACTION, **more: Any
) -> None:
    """Leave the share alone until a person says how to go on."""
    rollout = story.rollout
    already = rollout.phase is Phase.PAUSED
    if already and rollout.paused_because == "changed":
        because = "changed"  # the evidence is void whatever came after
    story.move(
        Phase.PAUSED,
        sentence,
        severity=severity,
        paused_because=because,
        resume_phase=rollout.resume_phase if already else _way_back(story),
        given=None,
        **NO_HOLD,
        **more,
    )


def pause_refused(story: Story, why: str) -> None:
    """Azure understood our write and said no."""
    ways = sentences.ways(story.rollout, resume="tries again, once that is mended")
    pause(story, "refused", f"Paused: the new split of {story.rollout.ref.name} was refused: {why.rstrip('.')}. {ways}")


def _way_back(story: Story) -> Phase:
    rollout = story.rollout
    if rollout.phase in {Phase.PROMOTING, Phase.RETREATED} or rollout.awaits_approval:
        return rollout.phase
    if rollout.fail_stands and rollout.retreated_at is not None:
        return Phase.RETREATED
    return Phase.PROGRESSING


def roll_back(story: Story, cause: str, sentence: str, *, ending: Phase = Phase.ROLLED_BACK) -> None:
    """Send all traffic back to stable; the line that tells its end follows when Azure has confirmed it."""
    rollout = story.rollout
    if rollout.share == 0 and rollout.confirmed == intended_traffic(rollout) and not rollout.writes:
        story.move(
            Phase.ABORTED,
            f"Ended before any traffic moved: {cause}. The traffic of {rollout.ref.name} was not touched.",
            severity=Severity.NOTICE,
            cause=cause,
        )
        return
    story.set(cause=cause, was_share=rollout.share, decided_at=story.now, sent_at=None)
    story.move(
        Phase.ROLLING_BACK,
        sentence,
        severity=Severity.ACTION,
        share=0,
        ending=ending,
        step_since=None,
        next_step=None,
        given=None,
        foreign=None,
        replaceable=None,
        **NO_PAUSE,
        **NO_RETREAT,
        **NO_HOLD,
    )
    story.explain()


def halt(story: Story, sentence: str) -> None:
    """Stable cannot serve: leave traffic alone and page."""
    rollout = story.rollout
    story.move(
        Phase.HALTED,
        f"Halted, act now: {sentence} Traffic was left as it is ({shown_split(story)}). Mend or replace {rollout.stable}, or "
        f"set the traffic by hand with `az ml online-endpoint update`; then start a new rollout.",
        severity=Severity.PAGE,
    )
    story.explain()


def shown_split(story: Story) -> Split | str:
    """The last split that Azure confirmed, in words."""
    return story.rollout.confirmed or "not known"
