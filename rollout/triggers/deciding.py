"""What follows from what waits to be started: nothing yet, a rollout, or why there will be none.

The rule: pure, and one start at a time for each policy: the newest that waits; those before it are passed over. What a
person holds or ends is left to that person: a rollout that is paused is never replaced, it is waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rollout.lifecycle import Phase, Rollout
from rollout.policy import Policy
from rollout.ports import Start
from rollout.triggers import deployments, models, schedule
from rollout.triggers.scene import Scene, key_of
from rollout.triggers.schedule import NothingToDo
from rollout.world import Verb

#: Phases in which the end of the running rollout is waited for: a person holds it, or it is about to end by itself.
_LEFT_ALONE = frozenset({Phase.PAUSED, Phase.ROLLING_BACK, Phase.PROMOTING})


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Start a rollout of this deployment, by this policy."""

    start: Start
    policy: Policy
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
    """What to do about what waits for this policy, newest first; a time that has come passes over nothing that appeared."""
    moves: list[Move] = []
    left: list[Start] = []
    for start in sorted(waiting, key=lambda start: start.kind == "schedule"):
        newer = "waits already" if start.kind == "schedule" and left and left[0].kind != "schedule" else "came after it"
        why = _outdated(scene, start) or (f"{left[0].what} {newer}" if left else None)
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
    match start.kind:
        case "deployment":
            return deployments.outdated(scene, start)
        case "model":
            return models.outdated(scene, start)
        case _:
            return None


def _next(scene: Scene, start: Start) -> Move | None:
    """What to do about the newest; None: it waits."""
    if scene.snapshot.endpoint is None:
        return None
    if scene.active is not None:
        return _while_busy(scene, start, scene.active)
    match start.kind:
        case "deployment":
            return _named(scene, start)
        case "model":
            return _created(scene, start)
        case _:
            return _chosen(scene, start)


def _named(scene: Scene, start: Start) -> Begin | None:
    """The deployment that appeared; None while it is being changed."""
    found = scene.deployment(start.subject["deployment"])
    if found is None or key_of(scene.ref, found) != start.key:
        return None
    return Begin(start=start, policy=scene.policy, candidate=found.name)


def _chosen(scene: Scene, start: Start) -> Begin | Drop:
    """What waits when a schedule is due."""
    found = schedule.chosen(scene)
    if isinstance(found, NothingToDo):
        return Drop(start=start, why=found.why)
    return Begin(start=start, policy=scene.policy, candidate=found)


def _created(scene: Scene, start: Start) -> Begin | None:
    """The deployment that is to be created; None while no name is free for it."""
    found, name = models.sought(scene, start), models.free_name(scene)
    if found is None or name is None:
        return None
    return Begin(start=start, policy=models.with_manifest(scene, found, name), candidate=name)


def _worth_it(scene: Scene, start: Start) -> bool:
    """Whether a running rollout should make room: what is to be started then is there."""
    if start.kind == "deployment":
        return _named(scene, start) is not None
    return start.kind == "model" or isinstance(_chosen(scene, start), Begin)


def _while_busy(scene: Scene, start: Start, active: Rollout) -> Move | None:
    when_busy = scene.policy.trigger.when_busy if scene.policy.trigger else "queue"
    if when_busy == "refuse":
        return Drop(start=start, why=f"rollout {active.id} ran, and the policy says: when_busy: refuse", refused=active)
    verb = _ends(active) if when_busy == "replace" and _worth_it(scene, start) else None
    return Replace(start=start, rollout=active, verb=verb) if verb else None


def _ends(active: Rollout) -> Verb | None:
    """The command that makes room; None: its end is waited for. An undo takes traffic back: nothing is in its way."""
    if active.undo is not None:
        return None
    if active.phase is Phase.GUARDING:
        return None if active.fail_stands else Verb.PROMOTE
    return None if active.phase in _LEFT_ALONE else Verb.ABORT
