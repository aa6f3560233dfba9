"""One tick's decision while it is being made: the rollout as it becomes, and the sentences that tell it.

The rule: every change of phase goes through `move`, which holds it to the table and leaves a sentence.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from rollout.lifecycle.phases import TRANSITIONS, Phase
from rollout.lifecycle.rollout import Rollout
from rollout.world import Command, CommandResult, Event, Severity

#: Phases whose time counts towards the deadline.
ACTIVE = frozenset({Phase.PROGRESSING, Phase.RETREATED, Phase.PROMOTING})


class Story:
    """Collects what a tick decides; lives for one call of `advance`."""

    def __init__(self, rollout: Rollout, now: datetime) -> None:
        self.rollout = rollout
        self.now = now
        self.events: list[Event] = []
        self.results: list[CommandResult] = []

    def set(self, **changes: Any) -> None:
        """Change what nobody needs to be told."""
        self.rollout = replace(self.rollout, **changes)

    def tell(
        self, kind: str, sentence: str, severity: Severity | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        """Leave a sentence."""
        self.events.append(
            Event(at=self.now, kind=kind, sentence=sentence, severity=severity, details=dict(details or {}))
        )
        self.set(sentence=sentence)

    def move(
        self,
        phase: Phase,
        sentence: str,
        *,
        severity: Severity | None = None,
        details: Mapping[str, object] | None = None,
        **changes: Any,
    ) -> None:
        """Go to another phase, with its sentence; the event's kind is the phase's name."""
        old = self.rollout.phase
        if phase is not old:
            if phase not in TRANSITIONS[old]:
                raise AssertionError(f"no transition from {old} to {phase}")
            changes = {"phase_since": self.now, **_deadline_clock(self.rollout, phase, self.now), **changes}
        self.set(phase=phase, **changes)
        self.tell(phase.value, sentence, severity, details)

    def answer(self, command: Command, *, accepted: bool, sentence: str) -> None:
        """Tell the author of a command what became of it."""
        self.results.append(CommandResult(command_id=command.id, accepted=accepted, sentence=sentence))


def _deadline_clock(rollout: Rollout, phase: Phase, now: datetime) -> dict[str, object]:
    """The deadline counts active time only: it stops while the rollout waits for a person."""
    if phase in ACTIVE:
        return {} if rollout.active_since else {"active_since": now}
    if rollout.active_since is None:
        return {}
    return {"active": rollout.active + (now - rollout.active_since), "active_since": None}
