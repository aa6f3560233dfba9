"""The port `Fleet` over azure-ai-ml: begin to scale, delete and autoscale deployments.

The rule: a write is made from a read made for it, changes nothing else of what it read, is sent once and never waited
for. Autoscale settings are Azure Monitor's, for which azure-ai-ml's own connection to Azure Resource Manager is used: one
read for all of a resource group.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from azure.core.exceptions import HttpResponseError

from rollout.azure.arm import WorkspaceResources
from rollout.azure.creating import PREFIX, Creations
from rollout.azure.errors import in_our_words
from rollout.azure.remedies import told
from rollout.azure.resources import Malformed, deployment_state, endpoint_state, with_instances, with_mirror
from rollout.azure.waiting import TERMINAL
from rollout.errors import ConflictError, RefusedError
from rollout.policy import Manifest
from rollout.ports import Ended
from rollout.world import (
    Autoscale,
    CreateDeployment,
    DeleteDeployment,
    DeploymentState,
    EndpointState,
    Mirror,
    Scale,
    SetAutoscale,
    Split,
)

_ROLE = (
    "Give this identity a role that may write deployments and autoscale settings (deploy/role-capacity.json, or AzureML "
    "Data Scientist and Monitoring Contributor) on the resource group."
)
#: What only Azure may set of an autoscale setting.
_READ_ONLY = frozenset({"id", "name", "type", "systemData", "kind"})
#: Answers of an operation's address that say that it is over, and how nobody knows any more.
_FORGOTTEN = frozenset({404, 410})


class AzureFleet:
    """The deployments of one workspace (see `rollout.ports.Fleet`)."""

    def __init__(self, resources: WorkspaceResources, *, creations: Creations, workspace: str) -> None:
        """`workspace`: its name in the settings."""
        self._resources = resources
        self._creations = creations
        self._workspace = workspace

    def scale(self, endpoint: str, errand: Scale, *, still_ours: Callable[[], bool]) -> str | None:
        """Give a deployment so many instances: see the port."""
        number = f"{errand.instances} instance{'' if errand.instances == 1 else 's'}"
        doing = f"give {errand.deployment} of {endpoint} {number}"
        item = self._at_rest(endpoint, errand.deployment, doing)
        body = with_instances(item, errand.instances)
        if errand.idle:
            self._without_traffic(endpoint, errand.deployment, doing)
        _ask(still_ours, doing)
        with _remedied(doing):
            return self._resources.put_deployment(endpoint, errand.deployment, body)

    def delete(self, endpoint: str, errand: DeleteDeployment, *, still_ours: Callable[[], bool]) -> str | None:
        """Delete a deployment without traffic: see the port."""
        name, doing = errand.deployment, f"delete {errand.deployment} of {endpoint}"
        self._at_rest(endpoint, name, doing)
        self._without_traffic(endpoint, name, doing)
        _ask(still_ours, doing)
        with _remedied(doing):
            return self._resources.delete_deployment(endpoint, name)

    def create(
        self, endpoint: str, errand: CreateDeployment, manifest: Manifest, *, still_ours: Callable[[], bool]
    ) -> str | None:
        """Make a deployment what its file says: see the port."""
        _ask(still_ours, f"create {errand.deployment} of {endpoint}")
        return self._creations.begin(endpoint, manifest)

    def mirror(self, endpoint: str, errand: Mirror, *, still_ours: Callable[[], bool]) -> str | None:
        """Set the mirror traffic of an endpoint: see the port."""
        name, share = errand.deployment, errand.share
        doing = f"mirror {share} % of the traffic of {endpoint} to {name}" if share else f"end the mirror of {endpoint}"
        with in_our_words(doing, remedy=_ROLE):
            item = self._resources.endpoint(endpoint)
        state = _state(item, doing)
        if others := state.mirror_traffic.others(name):
            raise RefusedError(f"Cannot {doing}: copies are sent to {others[0]} already. End that first.")
        if share and (live := state.traffic.share(name)):
            raise RefusedError(
                f"Cannot {doing}: it has {live} % of the traffic, and Azure mirrors to none that is live."
            )
        if not state.settled:
            raise ConflictError(f"Cannot {doing} yet: the endpoint is {state.state}.")
        if state.mirror_traffic.share(name) == share:
            return None
        note = f"copies to {name}; abort first" if share else None
        body = with_mirror(item, Split.of({name: share}), note=note)
        with _remedied(doing):
            return self._resources.put_endpoint(endpoint, body, before=lambda: _ask(still_ours, doing))

    def doing(self, operation: str) -> str | None:
        """What a creation is doing now: see the port."""
        return self._creations.doing(operation)

    def set_autoscale(self, endpoint: str, errand: SetAutoscale, *, still_ours: Callable[[], bool]) -> str | None:
        """Write an autoscale setting, or take it off: see the port."""
        doing = f"set the autoscale setting of {errand.deployment} of {endpoint}"
        _ask(still_ours, doing)
        with in_our_words(doing, remedy=_ROLE, write=True):
            if errand.body is None:
                self._resources.delete_autoscale(errand.setting)
            else:
                self._resources.put_autoscale(errand.setting, json.loads(errand.body))
        return None

    def autoscale(self, endpoint: EndpointState) -> Mapping[str, Autoscale]:
        """The autoscale settings of an endpoint's deployments: see the port."""
        found: dict[str, Autoscale] = {}
        below = f"{endpoint.resource_id}/deployments/".casefold()
        with in_our_words(f"read the autoscale settings of {endpoint.name}", remedy=_ROLE):
            for item in self._resources.autoscale_settings():
                target = str(item.get("properties", {}).get("targetResourceUri") or "").casefold()
                if target.startswith(below):
                    found[target.removeprefix(below)] = _setting(item)
        return found

    def ended(self, operation: str) -> Ended | None:
        """How an operation ended: see the port."""
        if operation.startswith(PREFIX):
            return self._creations.ended(operation)
        with in_our_words("read how an operation stands", remedy=_ROLE):
            found = self._operation(operation)
        if found.get("status") not in TERMINAL:
            return None
        if found["status"] == "Succeeded":
            return Ended(why=None)
        failure = found.get("error") or {}
        words = str(failure.get("message") or "Azure gave no reason").rstrip(".")
        said = f"{failure.get('code') or found['status']}: {words}."
        return Ended(why=f"{said}{told(said)}")

    def _operation(self, address: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self._resources.operation(address)
        except HttpResponseError as error:
            if error.status_code in _FORGOTTEN:
                return {"status": "Succeeded"}  # as far as anybody knows: what Azure shows of the deployment tells
            raise
        return found

    def close(self) -> None:
        """Close the connections."""
        self._resources.close()

    def _at_rest(self, endpoint: str, name: str, doing: str) -> Any:
        """The deployment as Azure shows it, if nothing runs on it. Raises ConflictError, RefusedError."""
        with in_our_words(doing, remedy=_ROLE):
            item = self._resources.deployment(endpoint, name)
        try:
            found: DeploymentState = deployment_state(item)
        except Malformed as error:
            raise RefusedError(f"Cannot {doing}: Azure's description of it cannot be used: {error}.") from error
        if found.state not in TERMINAL:
            raise ConflictError(f"Cannot {doing} yet: it is {found.state}.")
        return item

    def _without_traffic(self, endpoint: str, name: str, doing: str) -> None:
        """A fresh read shows no traffic on it, live or mirrored. Raises ConflictError, RefusedError."""
        with in_our_words(doing, remedy=_ROLE):
            state = _state(self._resources.endpoint(endpoint), doing)
        shares = {"traffic": state.traffic.share(name), "mirrored traffic": state.mirror_traffic.share(name)}
        if held := [f"{share} % of the {what}" for what, share in shares.items() if share]:
            raise RefusedError(f"Cannot {doing}: it has {' and '.join(held)}. Move it away first.")
        if not state.settled:
            raise ConflictError(f"Cannot {doing} yet: the endpoint is {state.state}.")


def _state(item: Any, doing: str) -> EndpointState:
    try:
        return endpoint_state(item)
    except Malformed as error:
        raise RefusedError(f"Cannot {doing}: Azure's description of its endpoint cannot be used: {error}.") from error


def _setting(item: Mapping[str, Any]) -> Autoscale:
    body = {key: value for key, value in item.items() if key not in _READ_ONLY and value is not None}
    return Autoscale(id=str(item["id"]), body=json.dumps(body, sort_keys=True))


def _ask(still_ours: Callable[[], bool], doing: str) -> None:
    if not still_ours():
        raise ConflictError(f"Did not {doing}: another process has taken its rollout over.")


@contextmanager
def _remedied(doing: str) -> Iterator[None]:
    """As `in_our_words` says it, with the remedy where Azure's refusal is a known one."""
    try:
        with in_our_words(doing, remedy=_ROLE, write=True):
            yield
    except RefusedError as error:
        raise RefusedError(f"{error.message}{told(error.message)}") from error
