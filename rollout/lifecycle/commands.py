"""What people ask: each command is carried out or refused, with a sentence for its author.

The rule: a command is a fact like any other, and one that is refused changes nothing. Going on after a fail is a
decision: it needs a reason and starts fresh evidence with half of the error budget; a plain `promote` never overrides a
fail.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from rollout.analysis.verdict import Verdict
from rollout.lifecycle import guarding, moves
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.gated import keep_approval, worsened
from rollout.lifecycle.guards import stable_cannot_serve, void_evidence
from rollout.lifecycle.observing.follow import end_by_person
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.splits import step_share
from rollout.lifecycle.story import Story
from rollout.policy import Approval
from rollout.windows import Shut
from rollout.world import Command, Severity, Split, Verb

RUNNING = frozenset({Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PROMOTING})
#: What `promote` may leave: not a roll back, nor a promotion.
PROMOTABLE = frozenset({Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PAUSED})

#: Origins of commands that no person gave.
_NOBODY = frozenset({"release", "trigger"})


class NotNow(Exception):  # noqa: N818  (it is an answer)
    """The command does not fit the rollout as it stands; the message says what does."""


def carry_out(story: Story, command: Command, facts: Facts) -> None:
    """Do what the command asks, or say why not."""
    before, events = story.rollout, len(story.events)
    if before.ended:
        story.answer(command, accepted=False, sentence=f"This rollout has ended: {before.sentence}")
        return
    try:
        handlers = _OBSERVING if before.observes else _HANDLERS
        handlers.get(command.verb, _refuse)(story, command, facts)
    except NotNow as no:
        story.undo_to(before, events)
        story.answer(command, accepted=False, sentence=str(no))
        return
    story.answer(command, accepted=True, sentence=story.rollout.sentence)


def _who(command: Command) -> str:
    return f"{command.by}: {command.reason.rstrip('.')}" if command.reason else command.by


def _stands(rollout: Rollout) -> str:
    """`it is rolling back: …`, to end a refusal with."""
    return f"it is {rollout.phase.replace('_', ' ')}: {rollout.sentence}"


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise NotNow(sentence)


def _require_reason(command: Command, why: str) -> None:
    _require(
        bool(command.reason),
        f"`{command.described()}` needs a reason, because {why}: add --reason '…'; it is kept in the history.",
    )


def _require_person(command: Command, rollout: Rollout) -> None:
    """A release or a trigger that had not seen the fail yet never goes past it."""
    _require(
        command.origin not in _NOBODY,
        f"The candidate has failed, and only a person goes past that: `rollout status {rollout.ref.name}`.",
    )


def _require_no_drift(story: Story, command: Command) -> None:
    foreign, name = story.rollout.foreign, story.rollout.ref.name
    if foreign is not None:
        raise NotNow(
            f"The traffic of {name} was changed to {foreign.split}; say first what holds: `rollout resume {name} --adopt` "
            f"goes on from there, `--restore` sets it back. Then `{command.described()}`."
        )


def _past_fail(story: Story, command: Command, facts: Facts) -> None:
    """Going on after a fail: a reason, fresh evidence, half the error budget."""
    rollout, verdict = story.rollout, facts.verdict
    if rollout.fail_stands:
        _require_person(command, rollout)
        _require_reason(command, "the candidate has failed")
        void_evidence(story)
        story.set(fail_stands=False, past_fail=rollout.past_fail + 1)
    elif verdict is not None and verdict.action == "fail" and rollout.phase is not Phase.PAUSED:
        raise NotNow(_just_failed(verdict, rollout))


def _just_failed(verdict: Verdict, rollout: Rollout) -> str:
    return f"The candidate has just failed: {verdict.sentence} See `rollout status {rollout.ref.name}`."


def _pause(story: Story, command: Command, _facts: Facts) -> None:
    rollout = story.rollout
    _require(rollout.phase in RUNNING, f"Only a running rollout can be paused; {_stands(rollout)}")
    moves.pause(
        story,
        "person",
        f"Paused by {_who(command)}. The share stays at {rollout.share} %; a candidate that fails is still rolled back. "
        f"`rollout resume {rollout.ref.name}` goes on.",
        severity=Severity.NOTICE,
    )


def _approve(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    _require_approval_due(rollout, "approve")
    _require_no_drift(story, command)
    _past_fail(story, command, facts)
    _new_deadline(story)
    _enter_approved(story, command, facts)


def _enter_approved(story: Story, command: Command, facts: Facts) -> None:
    """The step begins at once, or when the window opens. What was seen when it was asked for must still hold."""
    rollout = story.rollout
    index = rollout.next_step or 0
    _require_approver(command, rollout.policy.steps[index].approve)
    suspected = facts.verdict is not None and facts.verdict.action == "retreat" and rollout.phase is Phase.WAITING
    _require(not suspected, f"The evidence has just worsened, so the approval is void: {worsened(facts.verdict, 0.0)}")
    closed = moves.may_enter(story, index, facts.per_minute)
    if closed:
        keep_approval(story, facts, closed, _who(command))
    else:
        why = f"Approved by {_who(command)}."
        moves.enter_step(story, index, why, per_minute=facts.per_minute, approved=True)


def _require_approver(command: Command, approval: Approval | None) -> None:
    wanted = {name.casefold() for name in approval.by} if approval else set()
    is_one = wanted & {name.casefold() for name in (command.by, *command.groups)}
    who = " or ".join(approval.by) if approval else ""
    _require(
        not wanted or bool(is_one),
        f"This step waits for an approval of {who}, and {command.by} is not one of them, as the daemon's settings say "
        "(`groups`). Anybody may reject it.",
    )


def _require_approval_due(rollout: Rollout, verb: str) -> None:
    due = rollout.next_step is not None and rollout.phase in {Phase.WAITING, Phase.PAUSED}
    _require(due, f"Nothing waits for an approval, so there is nothing to {verb}; {_stands(rollout)}")


def _reject(story: Story, command: Command, facts: Facts) -> None:
    _require_approval_due(story.rollout, "reject")
    _put_back(story, facts, f"rejected by {_who(command)}", Phase.ROLLED_BACK)


def _abort(story: Story, command: Command, facts: Facts) -> None:
    _require_reason(command, "it ends the rollout")
    rollout = story.rollout
    if rollout.phase in {Phase.PENDING, Phase.PREPARING}:
        story.move(Phase.ABORTED, f"Aborted by {_who(command)}, before any traffic moved.", severity=Severity.NOTICE)
        return
    _require(rollout.phase is not Phase.ROLLING_BACK, f"The traffic is on its way back already: {rollout.sentence}")
    _put_back(story, facts, f"aborted by {_who(command)}", Phase.ABORTED)


def _put_back(story: Story, facts: Facts, cause: str, ending: Phase) -> None:
    rollout = story.rollout
    by_hand = (
        f"Set the traffic by hand with `az ml online-endpoint update`; the rollout ends by itself once {rollout.candidate} "
        "has none."
    )
    broken = stable_cannot_serve(rollout, facts)
    _require(not broken, f"Traffic cannot go back: {broken} {by_hand}")
    endpoint = facts.snapshot.endpoint if facts.snapshot else None
    others = endpoint.traffic.others(rollout.stable or "", rollout.candidate or "") if endpoint else ()
    _require(
        not others,
        f"{_and(others)} of {rollout.ref.name} also has traffic, and is never changed by a rollout. {by_hand}",
    )
    moves.roll_back(story, cause, f"Rolling back to {rollout.stable} 100 %: {cause}.", ending=ending)


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(names)


def _promote(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    if rollout.phase is Phase.GUARDING:
        if rollout.fail_stands:
            _require_person(command, rollout)
            _require_reason(command, "the candidate has failed")
        elif facts.verdict is not None and facts.verdict.action == "fail":
            raise NotNow(_just_failed(facts.verdict, rollout))
        guarding.end_by_person(story, _who(command))
        return
    _require(
        rollout.phase in PROMOTABLE,
        f"There is no step to promote; {_stands(rollout)}",
    )
    if command.full:
        _require_reason(command, "it skips every step that is left")
    elif rollout.phase is Phase.RETREATED:
        _require_reason(command, "the candidate is under suspicion")
    _require_no_drift(story, command)
    _past_fail(story, command, facts)
    _new_deadline(story)
    if command.full:
        first = rollout.step + 1 if rollout.next_step is None else rollout.next_step
        for step in rollout.policy.steps[first:]:
            _require_approver(command, step.approve)
        _require_open(moves.may_rise(story), command, story)
        moves.finish(story, f"Promoted past all remaining steps by {_who(command)}.")
    elif rollout.next_step is not None:
        _enter_approved(story, command, facts)
    else:
        _next_step(story, command, facts)


def _next_step(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    why = f"Step {rollout.step + 1} was passed without its verdict by {_who(command)}."
    last = rollout.step + 1 == len(rollout.policy.steps)
    waits = not last and rollout.policy.steps[rollout.step + 1].approve is not None
    if not waits:
        closed = moves.may_rise(story) if last else moves.may_enter(story, rollout.step + 1, facts.per_minute)
        _require_open(closed, command, story)
    if not last:
        moves.enter_step(story, rollout.step + 1, why, per_minute=facts.per_minute)
    else:
        moves.finish(story, why)


def _require_open(closed: Shut | None, command: Command, story: Story) -> None:
    """A window or a freeze holds for people, too: who set it had a reason."""
    if closed is not None:
        raise NotNow(
            f"`{command.described()}` would raise the share of {story.rollout.candidate}: {closed.sentence(story.now)}. "
            "A roll back would not wait."
        )


def _new_deadline(story: Story) -> None:
    """A person who goes on past the deadline gives it as long again."""
    if story.rollout.paused_because == "deadline":
        story.set(active=timedelta())


def _resume(story: Story, command: Command, facts: Facts) -> None:
    rollout = story.rollout
    if rollout.alerted:
        _past_fail(story, command, facts)
        phase = Phase.RETREATED if rollout.retreated_at else Phase.PROGRESSING
        told = f"Resumed by {_who(command)}. Judging goes on, with fresh evidence."
        story.move(phase, told, severity=Severity.NOTICE, **moves.NO_HOLD)
        return
    _require(rollout.phase is Phase.PAUSED, f"Only a paused rollout can be resumed; {_stands(rollout)}")
    foreign = rollout.foreign.split if rollout.foreign else None
    if foreign is not None:
        _require(
            command.drift is not None,
            f"The traffic is {foreign}, not what the rollout last set ({rollout.confirmed}): resume with --adopt to go on "
            "from there, or with --restore to set it back.",
        )
    _past_fail(story, command, facts)
    _new_deadline(story)
    phase, how, changes = rollout.resume_phase or Phase.PROGRESSING, "", dict[str, Any]()
    if foreign is not None and command.drift == "adopt":
        phase, how, changes = Phase.PROGRESSING, f" with the traffic as found ({foreign})", _adopted(rollout, foreign)
    elif foreign is not None:
        how, changes = " with the traffic set back", {"replaceable": foreign, "step_since": None}
        _require_no_others(rollout, foreign)
    story.move(
        phase,
        f"Resumed by {_who(command)}{how}. {_where(story, phase)}",
        severity=Severity.NOTICE,
        **moves.NO_PAUSE,
        **moves.NO_HOLD,
        **{"foreign": None, **changes},
    )


def _where(story: Story, phase: Phase) -> str:
    rollout = story.rollout
    if phase is Phase.WAITING:
        return f"Step {(rollout.next_step or 0) + 1} waits for an approval: `rollout approve {rollout.ref.name}`."
    if phase is Phase.PROMOTING:
        return f"{rollout.candidate} gets all traffic."
    return "Judging goes on."


def _require_no_others(rollout: Rollout, split: Split) -> None:
    stable, candidate = rollout.stable or "", rollout.candidate or ""
    others = split.others(stable, candidate)
    _require(
        not others,
        f"{_and(others)} also has traffic: a rollout compares only {stable} and {candidate}, and never changes another "
        f"deployment's traffic. Set its share to 0 by hand first, then resume.",
    )


def _adopted(rollout: Rollout, split: Split) -> dict[str, Any]:
    """A person's split becomes ours: go on from the step whose share it has reached, at the share as found."""
    _require_no_others(rollout, split)
    share = split.share(rollout.candidate or "")
    _require(
        share > 0,
        f"{rollout.candidate} has no traffic: resume with --restore, or `rollout abort {rollout.ref.name} --reason …`.",
    )
    reached = [index for index in range(len(rollout.policy.steps)) if step_share(rollout.policy, index) <= share]
    return {
        "confirmed": split,
        "writes": (),
        "share": share,
        "step": reached[-1] if reached else 0,
        "sized_share": None if reached else share,
        "next_step": None,
        "step_since": None,
        **moves.NO_RETREAT,
    }


_HANDLERS: dict[Verb, Callable[[Story, Command, Facts], None]] = {
    Verb.APPROVE: _approve,
    Verb.REJECT: _reject,
    Verb.PROMOTE: _promote,
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.ABORT: _abort,
}


# --- where people move the traffic


def _refuse(story: Story, command: Command, _facts: Facts) -> None:
    name = story.rollout.ref.name
    raise NotNow(
        f"This rollout only observes {name}: people move its traffic, so there is nothing to {command.verb}. "
        f"`rollout abort {name} --reason …` ends it, and leaves the traffic as it is. {story.rollout.sentence}"
    )


def _end_observing(story: Story, command: Command, facts: Facts) -> None:
    if story.rollout.phase in {Phase.PENDING, Phase.PREPARING}:
        _abort(story, command, facts)
    else:
        end_by_person(story, _who(command))


_OBSERVING: dict[Verb, Callable[[Story, Command, Facts], None]] = {Verb.ABORT: _end_observing}
