"""The one place that decides about a release: its members as seen -> what begins, what stands still, what goes back.

The rule: pure, level-triggered and idempotent. The order is the safety order: what is seen, what people ask, what makes
going on impossible, and only then what begins. A wave begins when every endpoint of those before it was promoted, and has
served for the time between; what stops a release is asked before, in the same look.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from rollout.lifecycle.advance import new_rollout
from rollout.lifecycle.again import undo_of
from rollout.lifecycle.commands import RUNNING
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.releases.asked import Asked, carry_out
from rollout.lifecycle.releases.release import (
    PROMOTED,
    Decision,
    Facts,
    Member,
    NewRollout,
    Release,
    ReleasePhase,
    Wanted,
    is_busy,
)
from rollout.lifecycle.releases.tale import Tale
from rollout.lifecycle.rollout import PartOf, Rollout
from rollout.lifecycle.sentences import moment
from rollout.policy.waves import policy_of
from rollout.world import Severity, Verb

BEFORE_TRAFFIC = frozenset({Phase.PENDING, Phase.PREPARING})
#: A command that is refused is given again this often; only what changed under way refuses one.
ORDERS_AT_MOST = 20


def steer(release: Release, facts: Facts, now: datetime, asked: Asked | None = None) -> Decision:
    """Decide what one look at the members does; `asked` is what a person wishes, answered in the decision."""
    tale = Tale(release, facts, now)
    if not release.ended:
        _look(tale)
    refused = carry_out(tale, asked) if asked else None
    if refused is not None:
        return Decision(release=release, accepted=False, answer=refused)
    if not tale.release.ended:
        _stop_if_worse(tale)
        _stop_if_lost(tale)
        _pass_wave(tale)
        _begin(tale)
        _give_orders(tale)
        _take_back(tale)
        _end(tale)
    return tale.decision(accepted=True if asked else None, answer=tale.release.sentence if asked else "")


# --- what is seen


def _look(tale: Tale) -> None:
    for member in tale.release.members:
        rollout = tale.rollout(member)
        if rollout is not None:
            tale.set_member(member, phase=rollout.phase)
        other = tale.facts.seen[member.rollout_id].other
        if other is not None and other.id == member.undo_id:
            tale.set_member(tale.member(member), undone=other.phase)
    for member in tale.release.members:
        order = member.order
        answer = tale.facts.answers.get(order.id) if order and order.accepted is None else None
        if order is not None and answer is not None:
            tale.set_member(member, order=replace(order, accepted=answer.accepted))
            if not answer.accepted and order.verb is Verb.ABORT and member.running:
                sentence = f"Endpoint {member.ref} does not go back: {answer.sentence}"
                tale.tell("member", sentence, Severity.ACTION, about=member)


# --- what makes going on impossible


def _regressed(rollout: Rollout | None) -> bool:
    """The judge said that the candidate is worse, whatever follows from it; a person's abort is none."""
    if rollout is None:
        return False
    if rollout.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return rollout.ending is not Phase.ABORTED
    return rollout.phase is Phase.HALTED or (rollout.fail_stands and not rollout.ended)


def _stop_if_worse(tale: Tale) -> None:
    release = tale.release
    worse = [member for member in release.members if _regressed(tale.rollout(member))]
    wanted: Wanted = "rollback" if release.policy.waves and release.policy.waves.on_regression == "rollback" else "stop"
    if not worse or release.wanted == "rollback" or (release.wanted == "stop" and wanted == "stop"):
        return
    member = worse[0]
    others = "and those that are done go back too" if wanted == "rollback" else "stand still"
    tale.stop(
        wanted,
        f"{member.ref} got worse",
        f"Stopped at {tale.wave}, because {member.ref} got worse: {_said(tale, member)} Others that run {others}"
        f"{_no_more(release)}.{_ways(tale, wanted)}",
        about=member,
    )


def _said(tale: Tale, member: Member) -> str:
    rollout = tale.rollout(member)
    return rollout.sentence if rollout else ""


def _no_more(release: Release) -> str:
    left = release.waves - release.wave - 1
    if not left:
        return ""
    return f", and wave {release.waves} never begins" if left == 1 else f", and the {left} waves after it never begin"


def _ways(tale: Tale, wanted: Wanted) -> str:
    others = [
        member.ref.name for member in tale.release.members if member.running and not _regressed(tale.rollout(member))
    ]
    if wanted == "rollback" or not others:
        return ""
    return f" Then `rollout resume {others[0]}` goes on, `rollout abort {others[0]} --reason …` goes back."


def _stop_if_lost(tale: Tale) -> None:
    """A wave that lacks an endpoint is never done."""
    if tale.release.wanted in {"stop", "rollback"}:
        return
    for member in tale.release.members:
        other = tale.facts.seen[member.rollout_id].other if member.started else None
        if member.lost or other is not None:
            what = (
                f"{member.ref} has a rollout that is not of this release" if other else f"{member.ref} is not promoted"
            )
            said = other.sentence if other else _said(tale, member)
            tale.stop(
                "stop",
                what,
                f"Stopped at {tale.wave}, because {what}: {said} Others that run stand still{_no_more(tale.release)}."
                f"{_ways(tale, 'stop')}",
                about=member,
            )
            return


# --- what begins


def _pass_wave(tale: Tale) -> None:
    release = tale.release
    if release.phase not in {ReleasePhase.RUNNING, ReleasePhase.BETWEEN}:
        return
    until_now = [member for member in release.members if member.wave <= release.wave]
    if not all(member.phase in PROMOTED for member in until_now):
        return
    if release.wave + 1 == release.waves:
        if not any(member.guarded for member in until_now):
            count = f"all {len(until_now)} endpoints have" if len(until_now) > 1 else f"{until_now[0].ref} has"
            tale.move(ReleasePhase.SUCCEEDED, f"Released {release.name}: {count} the new deployment.", Severity.NOTICE)
        else:
            sentence = "Every endpoint has the new deployment. Old ones are kept for a while, to take the traffic back."
            tale.tell_once("guarded", "guarded", sentence, Severity.NOTICE)
        return
    promoted_at = release.promoted_at or tale.now
    begins = promoted_at + _between(release)
    if tale.now >= begins:
        _next_wave(tale)
    elif release.phase is ReleasePhase.RUNNING:
        done = f"{tale.wave.capitalize()} is done: {_names(release.in_wave(release.wave))} promoted."
        sentence = f"{done} Wave {release.wave + 2} begins at {moment(begins)}, if nothing gets worse until then."
        tale.move(ReleasePhase.BETWEEN, sentence, Severity.NOTICE, promoted_at=promoted_at)


def _between(release: Release) -> timedelta:
    return release.policy.waves.between if release.policy.waves else timedelta()


def _names(members: tuple[Member, ...]) -> str:
    names = [member.ref.name for member in members]
    return f"{names[0]} is" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} are"


def _next_wave(tale: Tale) -> None:
    names = ", ".join(member.ref.name for member in tale.release.in_wave(tale.release.wave + 1))
    sentence = f"Wave {tale.release.wave + 2} of {tale.release.waves} begins: {names}."
    tale.move(ReleasePhase.RUNNING, sentence, Severity.NOTICE, wave=tale.release.wave + 1, promoted_at=None)


def _begin(tale: Tale) -> None:
    """NewRollout the rollouts of this wave that have not begun; an endpoint that is busy waits for its turn."""
    if tale.release.phase is not ReleasePhase.RUNNING:
        return
    for member in tale.release.in_wave(tale.release.wave):
        other = tale.facts.seen[member.rollout_id].other
        if member.started:
            continue
        if other is not None and is_busy(other):
            sentence = f"Endpoint {member.ref} has another rollout, and waits for its end: {other.sentence}"
            tale.tell_once(f"busy:{member.rollout_id}", "member", sentence, Severity.ACTION, about=member)
        else:
            _start(tale, member)


def _start(tale: Tale, member: Member) -> None:
    release = tale.release
    part = PartOf(release_id=release.id, release=release.name, wave=member.wave + 1, waves=release.waves)
    rollout, events = new_rollout(
        rollout_id=member.rollout_id,
        ref=member.ref,
        policy=policy_of(release.policy, member.target),
        candidate=None,
        by=f"{release.created_by} (release {release.name}, wave {part.wave})",
        now=tale.now,
    )
    tale.set_member(member, phase=rollout.phase)
    tale.starts.append(NewRollout(rollout=replace(rollout, part_of=part), events=events))


# --- what stands still, and what goes back


def _give_orders(tale: Tale) -> None:
    wanted = tale.release.wanted
    if wanted == "go":
        return
    for member in tale.release.members:
        rollout = tale.rollout(member)
        kept = member.guarded and wanted == "rollback" and not tale.release.by_person
        if rollout is None or not (member.running or kept):
            continue
        verb = _verb(wanted, rollout, by_person=tale.release.by_person)
        if verb is not None and _not_given(member, verb):
            tale.order(member, verb, f"{tale.release.name}: {tale.release.why}")


def _take_back(tale: Tale) -> None:
    """After a regression that the policy answers so, promotions are undone, too; what they still owe is taken over."""
    release = tale.release
    if release.wanted != "rollback" or release.by_person:
        return
    for member in release.members:
        seen = tale.facts.seen[member.rollout_id]
        if member.phase is not Phase.SUCCEEDED or member.undone or seen.rollout is None or seen.other is not None:
            continue
        if not seen.rollout.past_fail:  # else a person has decided otherwise
            by = f"release {release.name}"
            rollout, events = undo_of(
                [seen.rollout], rollout_id=member.undo_id, by=by, reason=release.why, now=tale.now
            )
            tale.set_member(member, undone=rollout.phase)
            tale.starts.append(NewRollout(rollout=replace(rollout, part_of=seen.rollout.part_of), events=events))


def _verb(wanted: Wanted, rollout: Rollout, *, by_person: bool) -> Verb | None:
    """What a rollout that runs is told now; None: nothing, or not yet."""
    if wanted == "pause" or (wanted == "stop" and rollout.phase not in BEFORE_TRAFFIC):
        return Verb.PAUSE if rollout.phase in RUNNING else None
    return None if rollout.fail_stands and not by_person else Verb.ABORT  # its own policy leaves it to a person


def _not_given(member: Member, verb: Verb) -> bool:
    order = member.order
    if order is None or order.verb is not verb:
        return True
    return verb is Verb.PAUSE and order.accepted is False and member.orders < ORDERS_AT_MOST


def _end(tale: Tale) -> None:
    release = tale.release
    if release.phase is not ReleasePhase.STOPPING or not all(member.settled for member in release.members):
        return
    done = [member for member in release.members if member.promoted]
    count = f"{len(done)} of {len(release.members)} endpoints {'has' if len(done) == 1 else 'have'} the new deployment"
    phase = ReleasePhase.ABORTED if release.by_person else ReleasePhase.STOPPED
    tale.move(phase, f"{phase.capitalize()}: {count}; {release.why}.", Severity.NOTICE)
