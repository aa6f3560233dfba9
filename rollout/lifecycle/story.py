"""One tick's decision while it is being made: the rollout as it becomes, and the sentences that tell it.

The rule: every change of phase goes through `move`, which holds it to the table and leaves a sentence.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from rollout.lifecycle import sentences
from rollout.lifecycle.phases import TRANSITIONS, WRITES_NOTHING, Phase
from rollout.lifecycle.rollout import Rollout
from rollout.world import Command, CommandResult, Errand, Event, Freeze, Severity

#: Phases whose time counts towards the deadline; waiting counts too, unless for a person or a window.
ACTIVE = frozenset({Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PROMOTING})


class Story:
    """Collects what a tick decides; lives for one call of `advance`."""

    def __init__(self, rollout: Rollout, now: datetime, *, freezes: tuple[Freeze, ...] = ()) -> None:
        self.rollout = rollout
        self.now = now
        self.freezes = freezes  # that hold now
        self.events: list[Event] = []
        self.results: list[CommandResult] = []
        self.errands: list[Errand] = []

    def set(self, **changes: Any) -> None:
        """Change what nobody needs to be told."""
        self.rollout = _with_deadline_clock(replace(self.rollout, **changes), self.now)

    def want(self, errand: Errand) -> None:
        """Ask Azure for this, unless it was asked and the answer is still to come (see `errands.due_errands`)."""
        self.errands.append(errand)

    def tell(
        self, kind: str, sentence: str, severity: Severity | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        """Leave a sentence."""
        self.events.append(
            Event(at=self.now, kind=kind, sentence=sentence, severity=severity, details=dict(details or {}))
        )
        self.set(sentence=sentence)

    def tell_once(
        self,
        key: str,
        kind: str,
        sentence: str,
        severity: Severity | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Leave a sentence, unless this phase has told `key` already."""
        if key not in self.rollout.told:
            self.set(told=(*self.rollout.told, key))
            self.tell(kind, sentence, severity, details)

    def move(
        self,
        phase: Phase,
        sentence: str,
        *,
        severity: Severity | None = None,
        **changes: Any,
    ) -> None:
        """Go to another phase, with its sentence; the event's kind is the phase's name."""
        before = self.rollout
        if phase is not before.phase:
            if phase not in TRANSITIONS[before.phase]:
                raise AssertionError(f"no transition from {before.phase} to {phase}")
            if before.observes and phase not in WRITES_NOTHING:
                raise AssertionError(f"a rollout that only observes is never {phase}")
            changes = {"phase_since": self.now, "told": (), **changes}
        after = replace(before, phase=phase, **changes)
        self.rollout = _with_deadline_clock(after, self.now)
        self.tell(phase.value, sentence, severity)

    def explain(self) -> None:
        """Give the newest event all that is known now as its details: after the move that it tells."""
        self.events[-1] = replace(self.events[-1], details=sentences.explained(self.rollout, self.now))

    def answer(self, command: Command, *, accepted: bool, sentence: str) -> None:
        """Tell the author of a command what became of it."""
        self.results.append(CommandResult(command_id=command.id, accepted=accepted, sentence=sentence))

    def undo_to(self, rollout: Rollout, events: int) -> None:
        """Forget what was decided since: the rollout was this, with so many events."""
        self.rollout = rollout
        del self.events[events:]


def _with_deadline_clock(rollout: Rollout, now: datetime) -> Rollout:
    """The deadline counts active time only: it stops while the rollout waits for a person, or for a window to open."""
    if rollout.phase in ACTIVE and not rollout.awaits_approval and rollout.shut is None:
        return rollout if rollout.active_since else replace(rollout, active_since=now)
    if rollout.active_since is None:
        return rollout
    return replace(rollout, active=rollout.active + (now - rollout.active_since), active_since=None)
