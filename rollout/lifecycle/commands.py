"""What people ask: each command is carried out or refused, with a sentence for its author.

The rule: a command is a fact like any other. Going on after a fail is a decision: it needs a reason and starts fresh
evidence with half of the error budget; a plain `promote` never overrides a fail.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from rollout.lifecycle import moves
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.guards import stable_cannot_serve
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.splits import step_share
from rollout.lifecycle.story import Story
from rollout.world import Command, Severity, Split, Verb

RUNNING = frozenset({Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PROMOTING})
#: Pauses after which earlier evidence no longer speaks about what serves.
VOID = frozenset({"changed", "regression"})


class NotNow(Exception):  # noqa: N818  (it is an answer)
    """The command does not fit the rollout as it stands; the message says what does."""


def carry_out(story: Story, command: Command, facts: Facts) -> None:
    """Do what the command asks, or say why not."""
    if story.rollout.ended:
        story.answer(command, accepted=False, sentence=f"This rollout has ended: {story.rollout.sentence}")
        return
    try:
        _HANDLERS[command.verb](story, command, facts)
    except NotNow as no:
        story.answer(command, accepted=False, sentence=str(no))
        return
    story.answer(command, accepted=True, sentence=story.rollout.sentence)


def _who(command: Command) -> str:
    return f"{command.by}: {command.reason}" if command.reason else command.by


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise NotNow(sentence)


def _require_reason(command: Command) -> None:
    _require(
        bool(command.reason), f"`{command.described()}` needs a reason: add --reason '…'; it is kept in the history."
    )


def _pause(story: Story, command: Command, _facts: Facts) -> None:
    phase = story.rollout.phase
    _require(phase in RUNNING, f"Only a running rollout can be paused; this one is {phase}: {story.rollout.sentence}")
    moves.pause(
        story,
        "person",
        f"Paused by {_who(command)}. The share stays as it is; roll back stays armed.",
        severity=Severity.NOTICE,
    )


def _approve(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    _require(
        rollout.phase is Phase.WAITING and rollout.next_step is not None,
        f"Nothing waits for an approval; the rollout is {rollout.phase}: {rollout.sentence}",
    )
    moves.enter_step(
        story, rollout.next_step or 0, f"Approved by {_who(command)}.", per_minute=facts.per_minute, approved=True
    )


def _reject(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    _require(
        rollout.phase is Phase.WAITING and rollout.next_step is not None,
        f"Nothing waits for an approval; use `rollout abort {rollout.ref.name} --reason …` to end the rollout.",
    )
    _put_back(story, facts, f"rejected by {_who(command)}", Phase.ROLLED_BACK)


def _abort(story: Story, command: Command, facts: Facts) -> None:
    _require_reason(command)
    phase = story.rollout.phase
    if phase in {Phase.PENDING, Phase.PREPARING}:
        story.move(Phase.ABORTED, f"Aborted by {_who(command)} before any traffic moved.", severity=Severity.NOTICE)
        return
    _require(phase is not Phase.ROLLING_BACK, f"Already on its way back: {story.rollout.sentence}")
    _put_back(story, facts, f"aborted by {_who(command)}", Phase.ABORTED)


def _put_back(story: Story, facts: Facts, cause: str, ending: Phase) -> None:
    broken = stable_cannot_serve(story.rollout, facts)
    _require(not broken, f"Traffic cannot go back: {broken} Set it by hand with `az ml online-endpoint update`.")
    moves.roll_back(story, cause, f"Rolling back to {story.rollout.stable} 100 %: {cause}.", ending=ending)


def _promote(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    past_fail = rollout.phase is Phase.PAUSED and rollout.paused_because == "regression"
    if command.full or past_fail or rollout.phase is Phase.RETREATED:
        _require_reason(command)
    if past_fail:
        _start_afresh(story)
    if command.full:
        _require(
            rollout.phase in RUNNING | {Phase.PAUSED} and rollout.phase is not Phase.PROMOTING,
            f"There is nothing to promote: the rollout is {rollout.phase}: {rollout.sentence}",
        )
        _require_no_drift(story, command)
        moves.finish(story, f"Promoted past all remaining steps by {_who(command)}.")
        return
    if rollout.phase is Phase.WAITING and rollout.next_step is not None:
        _approve(story, command, facts)
        return
    _require(
        rollout.phase in {Phase.PROGRESSING, Phase.RETREATED} or past_fail,
        f"Only a running step can be promoted; the rollout is {rollout.phase}: {rollout.sentence}",
    )
    why = f"{command.by} promoted past step {rollout.step + 1} without its verdict" + (
        f": {command.reason}." if command.reason else "."
    )
    if rollout.step + 1 < len(rollout.policy.steps):
        moves.enter_step(story, rollout.step + 1, why, per_minute=facts.per_minute)
    else:
        moves.finish(story, why)


def _require_no_drift(story: Story, command: Command) -> None:
    _require(
        story.rollout.paused_because != "drift" or story.rollout.phase is not Phase.PAUSED,
        f"A person changed the traffic; say first what holds: `rollout resume {story.rollout.ref.name} --adopt` or "
        f"`--restore`, then `{command.described()}`.",
    )


def _start_afresh(story: Story) -> None:
    story.set(judgement=None, verdict=None, started_at=None, past_fail=story.rollout.past_fail + 1)


def _resume(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    _require(rollout.phase is Phase.PAUSED, f"The rollout is not paused; it is {rollout.phase}: {rollout.sentence}")
    foreign = rollout.foreign.split if rollout.foreign else None
    if foreign is not None:
        _require(
            command.drift is not None,
            f"The traffic is {foreign}, not what the rollout last set ({rollout.confirmed}): resume with --adopt to go on "
            "from there, or with --restore to set it back.",
        )
    if rollout.paused_because in VOID:
        if rollout.paused_because == "regression":
            _require_reason(command)
            _start_afresh(story)
        else:
            story.set(judgement=None, verdict=None, started_at=None, pins=None)
    _go_on(story, command, foreign, facts)


def _go_on(story: Story, command: Command, foreign: Split | None, _facts: Facts) -> None:
    rollout = story.rollout
    changes: dict[str, Any] = {"foreign": None, "paused_because": None, "step_since": None, "held_since": None}
    phase = rollout.resume_phase or Phase.PROGRESSING
    how = ""
    if rollout.retreated_at is not None:
        changes |= {"retreated_at": None, "share": rollout.sized_share or step_share(rollout.policy, rollout.step)}
    if foreign is not None and command.drift == "adopt":
        changes |= _adopted(story, foreign)
        phase, how = Phase.PROGRESSING, f" with the traffic as found ({foreign})"
    elif foreign is not None:
        how = " with the traffic set back"
    if rollout.paused_because == "deadline":
        story.set(active=timedelta())
    if phase is not Phase.WAITING:
        changes |= {"next_step": None}
    story.move(
        phase,
        f"Resumed by {_who(command)}{how}.",
        severity=Severity.NOTICE,
        resume_phase=None,
        held_reason=None,
        **changes,
    )


def _adopted(story: Story, split: Split) -> dict[str, Any]:
    """A person's split becomes ours: go on from the step that it fits."""
    rollout = story.rollout
    stable, candidate = rollout.stable or "", rollout.candidate or ""
    others = split.others(stable, candidate)
    _require(
        not others,
        f"{' and '.join(others)} also holds traffic: only {stable} and {candidate} can be judged. Set its share to 0, or "
        "resume with --restore.",
    )
    share = split.share(candidate)
    _require(
        share > 0, f"{candidate} holds no traffic: use --restore, or `rollout abort {rollout.ref.name} --reason …`."
    )
    steps = rollout.policy.steps
    fitting = [index for index in range(len(steps)) if step_share(rollout.policy, index) >= share]
    step = fitting[0] if fitting else len(steps) - 1
    return {"confirmed": split, "writes": (), "share": share, "step": step, "sized_share": None, "next_step": None}


_HANDLERS: dict[Verb, Callable[[Story, Command, Facts], None]] = {
    Verb.APPROVE: _approve,
    Verb.REJECT: _reject,
    Verb.PROMOTE: _promote,
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.ABORT: _abort,
}
