"""One decision about a release while it is being made: the release as it becomes, and what goes with it.

The rule: every change of phase goes through `move`, which holds it to the table and leaves a sentence.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from rollout.lifecycle.releases.release import (
    TRANSITIONS,
    Decision,
    Facts,
    Member,
    NewRollout,
    Order,
    Release,
    ReleasePhase,
    Told,
    Wanted,
)
from rollout.lifecycle.rollout import Rollout
from rollout.world import Command, Event, Severity, Verb


class Tale:
    """Collects what one call of `steer` decides."""

    def __init__(self, release: Release, facts: Facts, now: datetime) -> None:
        self.release = release
        self.facts = facts
        self.now = now
        self.told: list[Told] = []
        self.starts: list[NewRollout] = []
        self.commands: list[Command] = []

    @property
    def wave(self) -> str:
        """`wave 2 of 3`."""
        return f"wave {self.release.wave + 1} of {self.release.waves}"

    def member(self, member: Member) -> Member:
        """This member as it is now."""
        return next(one for one in self.release.members if one.rollout_id == member.rollout_id)

    def rollout(self, member: Member) -> Rollout | None:
        """The member's rollout, where the store has it."""
        return self.facts.seen[member.rollout_id].rollout

    def set(self, **changes: Any) -> None:
        """Change what nobody needs to be told."""
        self.release = replace(self.release, **changes)

    def set_member(self, member: Member, **changes: Any) -> None:
        """Change one of the members."""
        members = self.release.members
        self.set(
            members=tuple(replace(one, **changes) if one.rollout_id == member.rollout_id else one for one in members)
        )

    def tell(self, kind: str, sentence: str, severity: Severity | None = None, *, about: Member | None = None) -> None:
        """Leave a sentence; it is about this member, else (and if it has not begun) about the last one that was started."""
        event = Event(at=self.now, kind=f"release_{kind}", sentence=sentence, severity=severity)
        begun = [member for member in self.release.members if member.started]
        about = about if about and about.started else begun[-1] if begun else None
        self.told.append(Told(event=event, about=about.rollout_id if about else None))
        self.set(sentence=sentence, events=(*self.release.events, event))

    def tell_once(self, key: str, kind: str, sentence: str, severity: Severity, *, about: Member | None = None) -> None:
        """Leave a sentence, unless this phase has told `key` already."""
        if key not in self.release.told:
            self.set(told=(*self.release.told, key))
            self.tell(kind, sentence, severity, about=about)

    def move(
        self,
        phase: ReleasePhase,
        sentence: str,
        severity: Severity | None = None,
        *,
        about: Member | None = None,
        **changes: Any,
    ) -> None:
        """Go to another phase, with its sentence; the event's kind names the phase."""
        before = self.release
        if phase is not before.phase:
            if phase not in TRANSITIONS[before.phase]:
                raise AssertionError(f"no transition from {before.phase} to {phase}")
            changes = {"phase_since": self.now, "told": (), **changes}
        self.set(phase=phase, **changes)
        self.tell(phase.value, sentence, severity, about=about)

    def stop(
        self, wanted: Wanted, why: str, sentence: str, *, about: Member | None = None, by_person: bool = False
    ) -> None:
        """NewRollout nothing any more."""
        severity = Severity.NOTICE if by_person else Severity.ACTION
        self.move(ReleasePhase.STOPPING, sentence, severity, about=about, wanted=wanted, why=why, by_person=by_person)

    def order(self, member: Member, verb: Verb, reason: str) -> None:
        """Give the member's rollout a command."""
        number = member.orders + 1
        command = Command(
            id=f"{member.rollout_id}-{number}-{verb}",
            rollout_id=member.rollout_id,
            verb=verb,
            at=self.now,
            by=f"release {self.release.name}",
            origin="release",
            reason=reason,
        )
        self.commands.append(command)
        self.set_member(member, order=Order(id=command.id, verb=verb), orders=number)

    def decision(self, *, accepted: bool | None = None, answer: str = "") -> Decision:
        """All of it."""
        return Decision(
            release=self.release,
            told=tuple(self.told),
            starts=tuple(self.starts),
            commands=tuple(self.commands),
            accepted=accepted,
            answer=answer,
        )
