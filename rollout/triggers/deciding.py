"""What follows from what waits to be started: nothing yet, a rollout, or why there will be none.

The rule: pure, and one start at a time for each policy: the newest that waits; those before it are passed over. What a
person holds or ends is left to that person: a rollout that is paused is never replaced, it is waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rollout.lifecycle import Phase, Rollout
from rollout.ports import Start
from rollout.triggers import deployments, schedule
from rollout.triggers.scene import Scene, key_of
from rollout.world import DeploymentState, Verb

#: Phases in which the end of the running rollout is waited for: a person holds it, or it is about to end by itself.
_LEFT_ALONE = frozenset({Phase.PAUSED, Phase.ROLLING_BACK, Phase.PROMOTING})


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Start a rollout of this deployment."""

    start: Start
    candidate: str


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Never start it; `refused`: its policy said so, and the people of the running rollout are told."""

    start: Start
    why: str
    refused: Rollout | None = None


@dataclass(frozen=True, kw_only=True)
class Replace:
    """End the running rollout, its traffic back on stable first; the start waits for that.

    One that only guards its promotion keeps what it promoted: `verb` says which it is.
    """

    start: Start
    rollout: Rollout
    verb: Verb


Move = Begin | Drop | Replace


def decide(scene: Scene, waiting: Sequence[Start]) -> Sequence[Move]:
    """What to do about what waits for this policy, newest first."""
    moves: list[Move] = []
    left: list[Start] = []
    for start in waiting:
        why = _outdated(scene, start) or (f"{left[0].what} came after it" if left else None)
        if why is None:
            left.append(start)
        else:
            moves.append(Drop(start=start, why=why))
    return [*moves, *(move for start in left if (move := _next(scene, start)) is not None)]


def _outdated(scene: Scene, start: Start) -> str | None:
    """Why this is not to be started any more."""
    trigger = scene.policy.trigger
    if trigger is None or getattr(trigger, start.kind, None) is None:
        return "the policy no longer waits for it"
    return deployments.outdated(scene, start) if start.kind == "deployment" else None


def _next(scene: Scene, start: Start) -> Move | None:
    """What to do about the newest; None: it waits."""
    if scene.snapshot.endpoint is None:
        return None
    found = schedule.chosen(scene) if start.kind == "schedule" else _named(scene, start)
    if found is None:
        return None
    if scene.active is not None:
        return _while_busy(scene, start, scene.active, new=not isinstance(found, str))
    return Drop(start=start, why=found) if isinstance(found, str) else Begin(start=start, candidate=found.name)


def _named(scene: Scene, start: Start) -> DeploymentState | None:
    """The deployment that appeared; None while it is being changed."""
    found = scene.deployment(start.subject["deployment"])
    return found if found is not None and key_of(scene.ref, found) == start.key else None


def _while_busy(scene: Scene, start: Start, active: Rollout, *, new: bool) -> Move | None:
    when_busy = scene.policy.trigger.when_busy if scene.policy.trigger else "queue"
    if when_busy == "refuse":
        return Drop(start=start, why=f"rollout {active.id} ran, and the policy says: when_busy: refuse", refused=active)
    verb = _ends(active) if when_busy == "replace" and new else None
    return Replace(start=start, rollout=active, verb=verb) if verb else None


def _ends(active: Rollout) -> Verb | None:
    """The command that makes room; None: its end is waited for."""
    if active.phase is Phase.GUARDING:
        return None if active.fail_stands else Verb.PROMOTE
    return None if active.phase in _LEFT_ALONE else Verb.ABORT
