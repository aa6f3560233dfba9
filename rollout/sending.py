"""Errands on their way to Azure: begun after they were saved, and looked up until their operations are over.

The rule: every answer becomes an outcome, so that a tick goes on whatever one errand meets; nothing is waited for. A
rollout that only observes never comes here with an errand, and would be refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rollout.errors import ConflictError, RefusedError, RolloutError, UnavailableError
from rollout.lifecycle import Phase, Rollout
from rollout.lifecycle.rollout import ErrandOutcome
from rollout.ports import Ended, Fleet
from rollout.world import (
    Autoscale,
    CreateDeployment,
    DeleteDeployment,
    EndpointKind,
    EndpointState,
    Errand,
    Mirror,
    Scale,
    SetAutoscale,
    Snapshot,
)

_STARTING = frozenset({Phase.PENDING, Phase.PREPARING})


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What Azure answered to an errand."""

    outcome: ErrandOutcome
    operation: str | None = None
    error: RolloutError | None = None

    @property
    def why(self) -> str | None:
        """The reason, where it was not begun."""
        return self.error.message if self.error else None


@dataclass(frozen=True, kw_only=True)
class FleetFacts:
    """What a tick has to know of the deployments beyond the snapshot (see `Facts`)."""

    autoscale: Mapping[str, Autoscale] | None = None
    operations: Mapping[str, str | None] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()
    doing: Mapping[str, str] = field(default_factory=dict)
    trouble: str | None = None


def begun(rollout: Rollout, errand: Errand, fleets: Mapping[str, Fleet], *, still_ours: Callable[[], bool]) -> Begun:
    """Begin an errand; how Azure took it."""
    try:
        operation = _send(_fleet_of(rollout, fleets), rollout, errand, still_ours)
    except ConflictError as error:
        return Begun(outcome="conflict", error=error)
    except UnavailableError as error:
        return Begun(outcome="unknown", error=error)
    except RefusedError as error:
        return Begun(outcome="refused", error=error)
    return Begun(outcome="accepted" if operation else "done", operation=operation)


def fleet_facts(rollout: Rollout, snapshot: Snapshot | None, fleet: Fleet | None) -> FleetFacts:
    """Look at what the rollout has to know; nothing while traffic moves: a roll back waits for no answer about the rest."""
    if fleet is None or rollout.observes or not (rollout.phase in _STARTING or rollout.owes):
        return FleetFacts()
    found = FleetFacts(**_operations(rollout, fleet))
    endpoint = snapshot.endpoint if snapshot else None
    if endpoint is None or not _asks_for_autoscale(rollout):
        return found
    try:
        return replace(found, autoscale=_autoscale(fleet, endpoint))
    except RolloutError as error:
        return replace(found, trouble=error.message)


def _asks_for_autoscale(rollout: Rollout) -> bool:
    starting = rollout.phase in _STARTING and rollout.undo is None
    ending = rollout.owes and (bool(rollout.originals) or rollout.retire == "scale_to_1")
    return ending or (starting and not rollout.policy.capacity.keeps)


def _autoscale(fleet: Fleet, endpoint: EndpointState) -> Mapping[str, Autoscale]:
    """Azure Monitor scales deployments of managed endpoints only."""
    return fleet.autoscale(endpoint) if endpoint.kind is EndpointKind.MANAGED else {}


def _operations(rollout: Rollout, fleet: Fleet) -> Mapping[str, Any]:
    """Of the operations that were running: why those that are over failed, those that are forgotten, what others do."""
    running = [each.operation for each in rollout.errands if each.outcome == "accepted" and each.operation]
    ended = {operation: found for operation in running if (found := _ended(fleet, operation)) is not None}
    doing = {each: words for each in running if each not in ended and (words := fleet.doing(each)) is not None}
    return {
        "operations": {operation: found.why for operation, found in ended.items() if found.known},
        "forgotten": frozenset(operation for operation, found in ended.items() if not found.known),
        "doing": doing,
    }


def _ended(fleet: Fleet, operation: str) -> Ended | None:
    """Who may not read how it stands goes by what Azure shows of the deployment."""
    try:
        return fleet.ended(operation)
    except RefusedError:
        return Ended(why=None)
    except RolloutError:
        return None


def _fleet_of(rollout: Rollout, fleets: Mapping[str, Fleet]) -> Fleet:
    workspace = rollout.ref.workspace
    if rollout.observes:
        raise RefusedError(f"the rollout of {rollout.ref.name} only observes: nothing is written")
    if workspace not in fleets:
        raise RefusedError(f"workspace {workspace} is not in the settings any more: add it, and restart the daemon")
    return fleets[workspace]


def _send(fleet: Fleet, rollout: Rollout, errand: Errand, still_ours: Callable[[], bool]) -> str | None:
    endpoint, manifest = rollout.ref.name, rollout.policy.manifest
    match errand:
        case Scale():
            return fleet.scale(endpoint, errand, still_ours=still_ours)
        case SetAutoscale():
            return fleet.set_autoscale(endpoint, errand, still_ours=still_ours)
        case DeleteDeployment():
            return fleet.delete(endpoint, errand, still_ours=still_ours)
        case Mirror():
            return fleet.mirror(endpoint, errand, still_ours=still_ours)
        case CreateDeployment():
            if manifest is None or manifest.digest != errand.digest:
                raise RefusedError(f"the policy has no file for {errand.deployment}")
            return fleet.create(endpoint, errand, manifest, still_ours=still_ours)
