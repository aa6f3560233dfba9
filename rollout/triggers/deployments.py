"""The trigger on deployments: one with these tags appears without traffic.

The rule: a key names a deployment with what it serves (`DeploymentState.identity`): the same deployment scaled or tagged
anew is the same, one that was created again or serves another model is not. What serves, and what was part of a rollout,
is written down as known, so that it stays so when its rollout is forgotten.
"""

from collections.abc import Iterator

from rollout.policy.triggers import tagged
from rollout.ports import Start
from rollout.triggers.scene import Scene, key_of
from rollout.world import DeploymentState


def appeared(scene: Scene, *, first: bool) -> Iterator[Start]:
    """What is there: to be started, or known. `first`: nobody has looked before, so all that is there is known."""
    for found in scene.deployments():
        spent = scene.spent(found)
        known = spent or ("it was there before the trigger" if first else "")
        if spent or (_wanted(scene, found) and scene.fits(found)) or (first and _scheduled(scene)):
            yield Start(
                key=key_of(scene.ref, found),
                ref=scene.ref,
                policy=scene.policy.name,
                kind="deployment",
                what=f"deployment {found.name}",
                subject={"deployment": found.name},
                at=scene.now,
                state="known" if known else "waiting",
                why=known,
            )


def _wanted(scene: Scene, found: DeploymentState) -> bool:
    trigger = scene.policy.trigger
    return trigger is not None and trigger.deployment is not None and tagged(found.tags, trigger.deployment.tags)


def _scheduled(scene: Scene) -> bool:
    """A schedule rolls out what has no tags, too: so what was there before it must be known."""
    return scene.policy.trigger is not None and scene.policy.trigger.schedule is not None


def outdated(scene: Scene, start: Start) -> str | None:
    """Why what waited is not to be started any more, in words; None where it still is."""
    name = start.subject["deployment"]
    found = scene.deployment(name)
    if found is None or key_of(scene.ref, found) != start.key:
        return _gone(scene, name)
    if not _wanted(scene, found):
        return "its tags, or those that the policy asks for, have changed"
    return scene.spent(found) or (None if scene.fits(found) else "the policy asks for another deployment")


def _gone(scene: Scene, name: str) -> str | None:
    """A deployment that is being changed shows nothing yet; what it is afterwards has a key of its own."""
    there = (scene.snapshot.deployments or {}).get(name.casefold())
    if there is None:
        return "it is gone"
    busy = not isinstance(there, DeploymentState) or there.state not in {"Succeeded", "Failed", "Canceled"}
    return None if busy else "it was changed since"
