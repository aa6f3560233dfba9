"""What people ask of a release as a whole: pause, resume, abort.

The rule: that of a rollout's commands: carried out or refused, with a sentence for its author; one that is refused changes
nothing. What concerns one endpoint only is asked of its rollout, as ever.
"""

from dataclasses import dataclass
from typing import Literal

from rollout.lifecycle.phases import Phase
from rollout.lifecycle.releases.release import Member, ReleasePhase
from rollout.lifecycle.releases.tale import Tale
from rollout.world import Severity, Verb


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A person's wish: who and why."""

    verb: Literal["pause", "resume", "abort"]
    by: str
    reason: str | None = None

    @property
    def who(self) -> str:
        """`anna: lunch is over`."""
        return f"{self.by}: {self.reason.rstrip('.')}" if self.reason else self.by


def carry_out(tale: Tale, asked: Asked) -> str | None:
    """Do what is asked; or say why not, with nothing changed."""
    if tale.release.ended:
        return f"This release has ended: {tale.release.sentence}"
    return {"pause": _pause, "resume": _resume, "abort": _abort}[asked.verb](tale, asked)


def _pause(tale: Tale, asked: Asked) -> str | None:
    release = tale.release
    if release.phase not in {ReleasePhase.RUNNING, ReleasePhase.BETWEEN}:
        return f"Only a running release can be paused; it is {release.phase}: {release.sentence}"
    sentence = (
        f"Paused by {asked.who}. What runs of {tale.wave} stands still, and no wave begins. "
        f"`rollout release resume {release.name}` goes on."
    )
    tale.move(ReleasePhase.PAUSED, sentence, Severity.NOTICE, wanted="pause", why=f"paused by {asked.who}")
    return None


def _resume(tale: Tale, asked: Asked) -> str | None:
    release = tale.release
    if release.phase not in {ReleasePhase.PAUSED, ReleasePhase.STOPPING}:
        return f"Only a release that was paused or stopped can be resumed; it is {release.phase}: {release.sentence}"
    no = _cannot_go_on(tale)
    if no:
        return no
    tale.move(ReleasePhase.RUNNING, f"Resumed by {asked.who}. {tale.wave.capitalize()} goes on.", Severity.NOTICE)
    tale.set(wanted="go", why="")
    for member in release.members:
        rollout = tale.rollout(member)
        ours = member.order is not None and member.order.verb is Verb.PAUSE
        if ours and rollout is not None and rollout.phase is Phase.PAUSED and rollout.paused_because == "person":
            tale.order(member, Verb.RESUME, f"release {release.name} was resumed by {asked.who}")
        elif ours:
            tale.set_member(member, order=None)  # the next pause is for it, too
    return None


def _cannot_go_on(tale: Tale) -> str | None:
    release = tale.release
    if release.wanted == "rollback":
        return f"The others are on their way back, so it cannot go on: {release.why}."
    for member in release.members:
        rollout = tale.rollout(member)
        if member.lost or (tale.facts.seen[member.rollout_id].other and member.started):
            return (
                f"It cannot go on without {member.ref}: {_sentence(member, tale)} Start a new release with the endpoints "
                f"that are left, once {member.ref} is in order."
            )
        if rollout is not None and rollout.fail_stands and not rollout.ended:
            return (
                f"Endpoint {member.ref} has failed: say first what becomes of it with `rollout resume {member.ref} --reason …` or "
                f"`rollout abort {member.ref} --reason …`."
            )
    return None


def _sentence(member: Member, tale: Tale) -> str:
    seen = tale.facts.seen[member.rollout_id]
    newest = seen.other or seen.rollout
    return newest.sentence if newest else f"its rollout is {str(member.phase).replace('_', ' ')}."


def _abort(tale: Tale, asked: Asked) -> str | None:
    release = tale.release
    if not asked.reason:
        return "`abort` needs a reason, because it ends the release: add --reason '…'; it is kept in the history."
    done = [str(member.ref) for member in release.members if member.promoted]
    stay = f" {_and(done)} keep{'s' if len(done) == 1 else ''} the new deployment." if done else ""
    tale.stop(
        "rollback",
        f"aborted by {asked.who}",
        f"Aborting, asked by {asked.who}. What runs of {tale.wave} goes back, and no wave begins.{stay}",
        by_person=True,
    )
    return None


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
