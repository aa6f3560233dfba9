"""What a trigger is judged on: the endpoint with its deployments, and its rollouts so far.

The rule: pure facts. A deployment is *spent* once it was part of a rollout, or serves: it is never started by itself again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rollout.lifecycle import Rollout
from rollout.policy import Policy
from rollout.ports import ModelVersion, Start
from rollout.world import DeploymentState, EndpointRef, Snapshot, Split


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One look at one endpoint, for one policy.

    `rollouts` are the endpoint's last ones, newest first; `noted` are the starts that its deployments are known by; `models`
    are the versions of the model that the policy waits for, newest first.
    """

    ref: EndpointRef
    policy: Policy
    snapshot: Snapshot
    rollouts: Sequence[Rollout]
    now: datetime
    noted: Mapping[str, Start] = field(default_factory=dict)
    models: Sequence[ModelVersion] = ()

    @property
    def traffic(self) -> Split:
        """Who serves; nobody, where there is no endpoint."""
        return self.snapshot.endpoint.traffic if self.snapshot.endpoint else Split()

    @property
    def active(self) -> Rollout | None:
        """The rollout that runs."""
        return next((rollout for rollout in self.rollouts if not rollout.ended), None)

    def deployments(self) -> Iterator[DeploymentState]:
        """Those that are ready: what is still being created or changed appears when that has ended."""
        for found in (self.snapshot.deployments or {}).values():
            if isinstance(found, DeploymentState) and found.state == "Succeeded":
                yield found

    def deployment(self, name: str) -> DeploymentState | None:
        """One of them."""
        return next((found for found in self.deployments() if _same(found.name, name)), None)

    def spent(self, found: DeploymentState) -> str | None:
        """Why this deployment is nothing new, in words; None where it is."""
        if self.traffic.share(found.name):
            return "it serves"
        for rollout in self.rollouts:
            role = _role(rollout, found)
            if role is not None:
                return f"it {'was' if rollout.ended else 'is'} the {role} of rollout {rollout.id}"
        before = self.noted.get(key_of(self.ref, found))
        if before is None or before.state == "waiting":
            return None
        return before.why or f"it was started as rollout {before.rollout_id}"

    def fits(self, found: DeploymentState) -> bool:
        """Whether the policy could roll this deployment out: somebody else serves, and the policy names no other."""
        policy = self.policy
        if policy.stable is not None and _same(policy.stable, found.name):
            return False
        if policy.candidate is not None and not _same(policy.candidate, found.name):
            return False
        return bool(self.traffic.others(found.name))


def key_of(ref: EndpointRef, found: DeploymentState) -> str:
    """What a deployment is known by, once and for all."""
    return f"deployment/{ref.workspace}/{ref.name}/{found.name.casefold()}/{found.identity}"


def _role(rollout: Rollout, found: DeploymentState) -> str | None:
    """The part that this deployment, as it is, plays or played in a rollout."""
    names = {"stable": rollout.stable, "candidate": rollout.candidate}
    pins = dict(zip(names, rollout.pins, strict=True)) if rollout.pins else {}
    for role, name in names.items():
        if name is None or not _same(name, found.name):
            continue
        if not rollout.ended or (role in pins and not pins[role].difference(found.pin)):
            return role
    return None


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
