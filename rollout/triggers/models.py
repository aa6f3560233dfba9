"""The trigger on models: a version with this stage and these tags appears, and the next deployment serves it.

The rule: a key names a version for one endpoint, once and for all: a version that comes back to its stage is the same. Of a
pair of names, the next deployment gets the one without traffic; while both have some, a version waits.
"""

from collections.abc import Iterator

from rollout.policy import Policy
from rollout.policy.triggers import ModelTrigger, tagged
from rollout.ports import ModelVersion, Start
from rollout.triggers.scene import Scene


def trigger_of(policy: Policy) -> ModelTrigger | None:
    """What the policy waits for."""
    return policy.trigger.model if policy.trigger else None


def appeared(scene: Scene, *, first: bool) -> Iterator[Start]:
    """The versions that are there as wanted, oldest first. `first`: nobody has looked before, so all of them are known."""
    trigger = trigger_of(scene.policy)
    for found in reversed(scene.models):
        if trigger is not None and _wanted(trigger, found):
            yield Start(
                key=key_of(scene, found),
                ref=scene.ref,
                policy=scene.policy.name,
                kind="model",
                what=f"model {found.name}:{found.version}{_told(trigger, found)}",
                subject={"version": found.version},
                at=scene.now,
                state="known" if first else "waiting",
                why="it was there before the trigger" if first else "",
            )


def key_of(scene: Scene, found: ModelVersion) -> str:
    """What a version is known by."""
    trigger = trigger_of(scene.policy)
    place = (trigger.registry if trigger else None) or "-"
    return f"model/{scene.ref.workspace}/{scene.ref.name}/{place}/{found.name}/{found.version}"


def outdated(scene: Scene, start: Start) -> str | None:
    """Why what waited is not to be started any more, in words; None where it still is."""
    trigger, found = trigger_of(scene.policy), sought(scene, start)
    if trigger is None or found is None:
        return "it is gone or archived"
    return None if _wanted(trigger, found) else "its stage or its tags are no longer those that the policy asks for"


def sought(scene: Scene, start: Start) -> ModelVersion | None:
    """The version that a start is about."""
    return next((found for found in scene.models if key_of(scene, found) == start.key), None)


def free_name(scene: Scene) -> str | None:
    """The name that the next deployment gets; None while both of the pair have traffic, or nobody has any."""
    trigger = trigger_of(scene.policy)
    names = trigger.deployment.names if trigger else ()
    idle = [name for name in names if not scene.traffic.share(name)]
    if not idle or not scene.traffic.shares:
        return None
    there = {name.casefold() for name in scene.snapshot.deployments or {}}
    return next((name for name in idle if name.casefold() not in there), idle[0])


def with_manifest(scene: Scene, found: ModelVersion, name: str) -> Policy:
    """The policy of the rollout that creates this deployment and moves the traffic to it."""
    trigger = trigger_of(scene.policy)
    assert trigger is not None  # noqa: S101 - for the type checker
    manifest = trigger.deployment.manifest(name=name, model=found.reference)
    return scene.policy.model_copy(update={"candidate": name, "manifest": manifest, "trigger": None})


def _wanted(trigger: ModelTrigger, found: ModelVersion) -> bool:
    staged = trigger.stage is None or (found.stage or "").casefold() == trigger.stage.casefold()
    return staged and tagged(found.tags, trigger.tags or {})


def _told(trigger: ModelTrigger, found: ModelVersion) -> str:
    said = [f"in {trigger.registry}"] if trigger.registry else []
    return " ".join(["", *said, *([f"({found.stage})"] if found.stage else [])])
