"""The port `Endpoints` over azure-ai-ml: read endpoints and deployments, and begin to move traffic.

The rule: a write is a read-modify-write of a read made for it, one at a time per endpoint, sent once and never waited
for; whether it worked is for the next look to tell. Azure has no ETag: the caller is asked once more, when the request
is about to leave, whether the endpoint is still ours.

Azure Resource Manager is asked:
- `list`: one read per 100 endpoints, however many rollouts run;
- `get`: one read; `deployments`: one read;
- `set_traffic`: one read and one write, and one more read, once, of how the operation ended (at the first look that
  shows the endpoint at rest again).
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar

from azure.core.exceptions import AzureError, HttpResponseError

from rollout.azure.arm import WorkspaceResources
from rollout.azure.errors import in_our_words, what_azure_said
from rollout.azure.resources import Malformed, deployment_state, endpoint_state, name_of, nameless, with_split
from rollout.errors import ConflictError, RefusedError
from rollout.ports import Listing
from rollout.world import DeploymentState, EndpointState, Split, Unreadable

_log = logging.getLogger(__name__)

#: How often an operation that does not tell its end is asked about.
MAX_ASKED = 3
_ROLE = "Give this identity the role of deploy/role.json (or AzureML Data Scientist) on the workspace."
#: 404s that are not about the endpoint but about what it lives in.
_NO_PLACE = re.compile(r"SubscriptionNotFound|ResourceGroupNotFound|ParentResourceNotFound|WorkspaceNotFound")
_NO_WORKSPACE = re.compile(r"workspaces/[^/'\"\s]+['\"]? under resource group", re.IGNORECASE)

T = TypeVar("T")


class AzureEndpoints:
    """The online endpoints of one Azure ML workspace (see `rollout.ports.Endpoints`)."""

    def __init__(self, resources: WorkspaceResources, *, workspace: str) -> None:
        self._resources = resources
        self._workspace = workspace
        self._locks: dict[str, Lock] = {}
        self._operations: dict[str, tuple[str, int]] = {}  # endpoint -> its running operation's address, times asked
        self._failures: dict[str, str] = {}  # endpoint -> why our last write failed

    def list(self) -> Listing:
        """Every endpoint by case-folded name; a malformed one is named in `broken` and hides no other."""
        endpoints: dict[str, EndpointState] = {}
        broken: dict[str, str] = {}
        with in_our_words(f"list the endpoints of workspace {self._workspace}", remedy=_ROLE):
            for position, item in enumerate(self._resources.endpoints(), start=1):
                try:
                    state = self._noted(endpoint_state(item))
                except Malformed as error:
                    broken[(name_of(item) or nameless(position)).casefold()] = (
                        f"Azure's description of it cannot be used: {error}"
                    )
                else:
                    endpoints[state.name.casefold()] = state
        return Listing(endpoints=endpoints, broken=broken)

    def get(self, name: str) -> EndpointState | None:
        """One endpoint, read now; None where Azure says that it does not exist."""
        item = self._read(name)
        return None if item is None else self._noted(self._state(name, item))

    def deployments(self, name: str) -> Mapping[str, DeploymentState | Unreadable]:
        """The deployments of an endpoint by case-folded name; a malformed one is `Unreadable`, and logged."""
        found: dict[str, DeploymentState | Unreadable] = {}
        with in_our_words(f"read the deployments of endpoint {name}", remedy=_ROLE):
            items: tuple[Any, ...] = _or_absent(lambda: (*self._resources.deployments(name),), ())
            for position, item in enumerate(items, start=1):
                try:
                    state = deployment_state(item)
                except Malformed as error:
                    called = name_of(item)
                    key = called or nameless(position)
                    _log.warning("Azure's description of deployment %s of %s cannot be used: %s", key, name, error)
                    found[key.casefold()] = Unreadable(name=called, why=str(error))
                else:
                    found[state.name.casefold()] = state
        return found

    def set_traffic(
        self,
        name: str,
        split: Split,
        *,
        pair: frozenset[str],
        replacing: frozenset[Split] | None,
        note: str | None,
        still_ours: Callable[[], bool],
    ) -> None:
        """Begin to give the endpoint this split: see the port."""
        with self._only_write(name):
            item = self._read(name)
            if item is None:
                raise RefusedError(
                    f"Cannot set the traffic of {name}: workspace {self._workspace} has no such endpoint."
                )
            state = self._state(name, item)
            _check(state, split, pair=pair, replacing=replacing)
            self._put(name, with_split(item, split, note=note), split, still_ours=still_ours)

    def close(self) -> None:
        """Close the connections."""
        self._resources.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> Any:
        with in_our_words(f"read endpoint {name} of workspace {self._workspace}", remedy=_ROLE):
            return _or_absent(lambda: self._resources.endpoint(name), None)

    def _state(self, name: str, item: Any) -> EndpointState:
        try:
            return endpoint_state(item)
        except Malformed as error:
            raise RefusedError(
                f"Azure's description of endpoint {name} cannot be used: {error}. Look at it in the Studio."
            ) from error

    def _noted(self, state: EndpointState) -> EndpointState:
        """The state, with why our last write failed if it did."""
        key = state.name.casefold()
        if state.settled and (running := self._operations.pop(key, None)):
            self._ask_how_it_ended(key, *running)
        return replace(state, failure=self._failures.get(key))

    def _ask_how_it_ended(self, key: str, address: str, asked: int) -> None:
        try:
            status, reason = _outcome(self._resources.operation(address))
        except (AzureError, ValueError, AttributeError) as error:
            _log.info("how the last write to %s ended could not be read: %s", key, error)
            status, reason = "unknown", ""
        if status in {"Failed", "Canceled"}:
            self._failures[key] = reason
            _log.warning("the last write to %s failed: %s", key, reason)
        elif status != "Succeeded" and asked + 1 < MAX_ASKED:
            self._operations.setdefault(key, (address, asked + 1))  # a newer write's comes first

    # --- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _only_write(self, name: str) -> Iterator[None]:
        lock = self._locks.setdefault(name.casefold(), Lock())
        if not lock.acquire(blocking=False):
            raise ConflictError(f"Cannot set the traffic of {name} yet: a write to it is on its way.")
        try:
            yield
        finally:
            lock.release()

    def _put(self, name: str, body: Mapping[str, Any], split: Split, *, still_ours: Callable[[], bool]) -> None:
        def before() -> None:
            if not still_ours():
                raise ConflictError(
                    f"The traffic of {name} was left alone: another process has taken its rollout over."
                )

        key = name.casefold()
        self._failures.pop(key, None)
        self._operations.pop(key, None)
        with in_our_words(f"set the traffic of {name} to {split}", remedy=_ROLE, write=True):
            address = self._resources.put_endpoint(name, body, before=before)
        if address:
            self._operations[key] = (address, 0)


def _check(state: EndpointState, split: Split, *, pair: frozenset[str], replacing: frozenset[Split] | None) -> None:
    """Whether a fresh read allows this write. Raises ConflictError, RefusedError."""
    if strangers := state.traffic.others(*pair):
        raise RefusedError(
            f"Cannot set the traffic of {state.name} to {split}: it is {state.traffic} now, and {' and '.join(strangers)}"
            " is not part of this rollout. Take that traffic away, or leave the endpoint as it is."
        )
    if replacing is not None and state.traffic not in replacing:
        raise ConflictError(
            f"Cannot set the traffic of {state.name} to {split}: somebody has just made it {state.traffic}."
        )
    if not state.settled:
        raise ConflictError(f"Cannot set the traffic of {state.name} yet: the endpoint is {state.state}.")


def _outcome(operation: Mapping[str, Any]) -> tuple[str, str]:
    """An operation's status, and Azure's reason where it failed."""
    status, error = str(operation.get("status")), operation.get("error") or {}
    return status, f"{error.get('code') or status}: {error.get('message') or 'Azure gave no reason'}"


def _or_absent(read: Callable[[], T], absent: T) -> T:
    """What was read, or `absent` where Azure says that the endpoint does not exist (not: the workspace)."""
    try:
        return read()
    except HttpResponseError as error:
        said = what_azure_said(error)
        if said.status != 404 or _NO_PLACE.search(said.code) or _NO_WORKSPACE.search(said.message):
            raise
        return absent
