"""Endpoints and deployments from `az ml` files: planned, written, awaited, deleted.

The rule: a write is planned from a fresh read, and carries over all that Azure has and the file does not mention. Nothing is
written where nothing changes. Who waits is told how far it is; who does not can go on as soon as Azure has accepted. All
errors are for a person: Azure's words, the field, the remedy.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError

from rollout.azure.arm import WorkspaceResources
from rollout.azure.az_files import AzFile, read_deployment, read_endpoint
from rollout.azure.data_collection import with_ids
from rollout.azure.plans import (
    Action,
    Plan,
    deployment_plan,
    endpoint_plan,
    mirror_of,
    refuse_while_rolling_out,
    split_of,
    state_of,
    update_body,
    with_traffic,
)
from rollout.azure.remedies import for_a_person
from rollout.azure.resources import with_mirror, with_split
from rollout.azure.uploads import Brought, WorkspaceAssets
from rollout.azure.waiting import TERMINAL, Stage, Told, Waiting
from rollout.errors import ConflictError, RefusedError
from rollout.world import Split

Json = Mapping[str, Any]
CONSOLE_TAIL = 15  # lines of the console that tell why a deployment failed
BUSY_TRIES = 6  # writes, one look apart, that Azure may answer with a conflict
UNTOLD = ""  # the address of an operation that Azure did not give
SHOWN_WITHIN = 60.0  # seconds until a split that was set is read, too


class Manager:
    """The endpoints and deployments of one Azure ML workspace, for a person."""

    def __init__(
        self, resources: WorkspaceResources, assets: WorkspaceAssets, waiting: Waiting, *, workspace: str
    ) -> None:
        """`workspace`: its name in Azure."""
        self._resources = resources
        self._assets = assets
        self._waiting = waiting
        self._workspace = workspace

    # --- reading ---------------------------------------------------------------------------------------------------

    def endpoints(self) -> list[Json]:
        """All endpoints, as Azure shows them. Raises RolloutError."""
        with for_a_person(f"list the endpoints of {self._workspace}"):
            return [each for each in self._resources.endpoints() if isinstance(each, Mapping)]

    def endpoint(self, name: str) -> Json:
        """One endpoint. Raises RefusedError where there is none."""
        absent = f"Workspace {self._workspace} has no endpoint {name}: `rollout endpoint list` shows what there is."
        with for_a_person(f"read endpoint {name}", absent=absent):
            found: Json = self._resources.endpoint(name)
            return found

    def deployments(self, endpoint: str) -> list[Json]:
        """The deployments of an endpoint."""
        absent = f"Workspace {self._workspace} has no endpoint {endpoint}: `rollout endpoint list` shows what there is."
        with for_a_person(f"list the deployments of {endpoint}", absent=absent):
            return [each for each in self._resources.deployments(endpoint) if isinstance(each, Mapping)]

    def deployment(self, endpoint: str, name: str) -> Json:
        """One deployment. Raises RefusedError where there is none."""
        absent = f"Endpoint {endpoint} has no deployment {name}: `rollout deployment list -n {endpoint}` shows them."
        with for_a_person(f"read deployment {name} of {endpoint}", absent=absent):
            found: Json = self._resources.deployment(endpoint, name)
            return found

    def logs(self, endpoint: str, name: str, *, tail: int, container: str | None = None) -> str:
        """The last lines of a deployment's console."""
        self.deployment(endpoint, name)
        with for_a_person(f"read the console of {name} of {endpoint}"):
            return self._resources.logs(endpoint, name, tail=tail, container=container)

    # --- planning --------------------------------------------------------------------------------------------------

    def plan_endpoint(self, path: Path, *, name: str | None = None, set_traffic: bool = False, told: Told) -> Plan:
        """What applying an endpoint's file would do; waits for what runs on it. Raises RolloutError."""
        file = read_endpoint(path, name=name)
        current = self._rested(lambda: self._endpoint_or_none(file.name), f"endpoint {file.name}", told)
        with for_a_person(f"read {path}"):
            wanted = self._endpoint_body(file, current)
        return endpoint_plan(file, current, wanted, set_traffic=set_traffic)

    def plan_deployment(
        self,
        path: Path,
        *,
        name: str | None = None,
        endpoint_name: str | None = None,
        all_traffic: bool = False,
        told: Told,
    ) -> Plan:
        """What applying a deployment's file would do; waits for what runs on it. Raises RolloutError.

        `name` and `endpoint_name` count instead of the file's.
        """
        return self.plan_file(
            read_deployment(path, name=name, endpoint=endpoint_name), all_traffic=all_traffic, told=told
        )

    def plan_file(self, file: AzFile, *, all_traffic: bool = False, told: Told) -> Plan:
        """The same for a deployment's file that was read already."""
        name = str(file.entity.endpoint_name)
        endpoint = self._rested(lambda: self._endpoint_or_none(name), f"endpoint {name}", told)
        if endpoint is None:
            raise file.mistake(
                "endpoint_name",
                f"workspace {self._workspace} has no endpoint {name}: create it with rollout endpoint apply",
            )
        current = self._rested(lambda: self._deployment_or_none(name, file.name), f"deployment {file.name}", told)
        with for_a_person(f"find what {file.file} names"):
            brought = self._assets.find(file)
            wanted = self._deployment_body(file, _with_placeholders(brought), brought.collections, current)
        plan = deployment_plan(file, endpoint, current, wanted, brought)
        others = any(str(each.get("name")).casefold() != file.name.casefold() for each in self.deployments(name))
        return with_traffic(plan, endpoint, others=others, all_traffic=all_traffic)

    # --- writing ---------------------------------------------------------------------------------------------------

    def carry_out(
        self, plan: Plan, *, told: Told, wait: bool = True, before: Callable[[], None] = lambda: None
    ) -> None:
        """Do what the plan says. Without `wait` it returns when Azure has accepted; traffic cannot be set then.

        `before` runs when all is uploaded and a deployment is about to be written; what it raises stops that.
        """
        if plan.deployment is None:
            self._write_endpoint(plan, told=told, wait=wait)
        else:
            self._write_deployment(plan, plan.deployment, told=told, wait=wait, before=before)
        if plan.traffic is not None and wait:
            self.set_traffic(plan.endpoint, plan.traffic, told=told)

    def set_traffic(self, name: str, split: Split, *, told: Told, wait: bool = True) -> None:
        """Give an endpoint this split, by hand. Raises RefusedError while a rollout runs on it."""
        doing = f"set the traffic of {name} to {split}"

        def send() -> str | None:
            current = self._rested(lambda: self.endpoint(name), f"endpoint {name}", told) or {}
            if split_of(current) == split:
                return None
            refuse_while_rolling_out(current, doing)
            body = with_split(current, split, note=None)
            return self._resources.put_endpoint(name, body, before=lambda: None) or UNTOLD

        address = self._sent(doing, send)
        if address is not None and wait:
            self._await_endpoint(
                name, address or None, doing=f"Setting the traffic of {name} to {split}", failing=doing, told=told
            )
            self._waiting.until(
                lambda: split_of(self._resources.endpoint(name)) == split,
                doing=f"Reading the new traffic of {name}",
                longest=SHOWN_WITHIN,
            )

    def set_mirror(self, name: str, mirror: Split, *, told: Told, wait: bool = True) -> None:
        """Send copies of the live requests to another deployment. Raises RefusedError while a rollout runs on it."""
        doing = f"mirror the traffic of {name} to {mirror}" if mirror.shares else f"end the mirror of {name}"

        def send() -> str | None:
            current = self._rested(lambda: self.endpoint(name), f"endpoint {name}", told) or {}
            if mirror_of(current) == mirror:
                return None
            refuse_while_rolling_out(current, doing)
            body = with_mirror(current, mirror, note=None)
            return self._resources.put_endpoint(name, body, before=lambda: None) or UNTOLD

        address = self._sent(doing, send)
        if address is not None and wait:
            shown = f"Setting the mirror traffic of {name}"
            self._await_endpoint(name, address or None, doing=shown, failing=doing, told=told)

    def delete_endpoint(self, name: str, *, told: Told, wait: bool = True) -> None:
        """Delete an endpoint with its deployments. Raises RefusedError while a rollout runs on it."""
        refuse_while_rolling_out(self.endpoint(name), f"delete endpoint {name}")
        doing = f"delete endpoint {name}"
        with for_a_person(doing):
            address = self._resources.delete_endpoint(name)
        if address and wait:
            self._await_endpoint(name, address, doing=f"Deleting endpoint {name}", failing=doing, told=told)

    def delete_deployment(self, endpoint: str, name: str, *, told: Told, wait: bool = True) -> None:
        """Delete a deployment that has no traffic. Raises RefusedError."""
        doing = f"delete deployment {name} of {endpoint}"
        self.deployment(endpoint, name)
        share = split_of(self.endpoint(endpoint)).share(name)
        if share:
            raise RefusedError(f"Cannot {doing}: it has {share} % of the traffic. Move its traffic away first.")
        with for_a_person(doing):
            address = self._resources.delete_deployment(endpoint, name)
        if address and wait:
            state = self._state(lambda: self._deployment_or_none(endpoint, name))
            self._waiting.ended(address, doing=f"Deleting deployment {name}", failing=doing, state=state, told=told)

    def _write_endpoint(self, plan: Plan, *, told: Told, wait: bool) -> None:
        if plan.action is Action.UNCHANGED:
            return
        doing = f"{plan.action} endpoint {plan.endpoint}"
        with for_a_person(doing):
            body = update_body(plan, self._endpoint_body(plan.file, plan.current))
        address = self._sent(doing, lambda: self._resources.put_endpoint(plan.endpoint, body, before=lambda: None))
        if wait:
            self._await_endpoint(
                plan.endpoint, address, doing=f"{_ing(plan)} endpoint {plan.endpoint}", failing=doing, told=told
            )

    def _write_deployment(self, plan: Plan, name: str, *, told: Told, wait: bool, before: Callable[[], None]) -> None:
        if plan.action is Action.UNCHANGED:
            return
        doing = f"{plan.action} deployment {name} of {plan.endpoint}"
        brought = self._brought(plan, told=told)
        with for_a_person(doing):
            body = update_body(plan, self._deployment_body(plan.file, brought.ids, brought.collections, plan.current))

        def send() -> str | None:
            before()
            return self._resources.put_deployment(plan.endpoint, name, body)

        address = self._sent(doing, send)
        if not wait:
            return
        state = self._state(lambda: self._deployment_or_none(plan.endpoint, name))
        try:
            self._waiting.ended(address, doing=f"{_ing(plan)} deployment {name}", failing=doing, state=state, told=told)
        except RefusedError as error:
            raise RefusedError(f"{error.message}{self._console(plan.endpoint, name)}") from error

    def _brought(self, plan: Plan, *, told: Told) -> Brought:
        """What the deployment runs, all of it in Azure: what was missing is uploaded now."""
        with for_a_person(f"find what {plan.file.file} names"):
            brought = self._assets.find(plan.file)
        ids = dict(brought.ids)
        for upload in brought.missing:
            told(Stage(doing=f"Uploading {upload.what}"))
            with for_a_person(f"upload {upload.what}"):
                ids[upload.field] = self._assets.bring(upload)
        return replace(brought, ids=ids, missing=())

    def _sent(self, doing: str, send: Callable[[], str | None]) -> str | None:
        """The answer to a write, sent again for a moment where Azure is still busy with what it says has ended."""
        for left in range(BUSY_TRIES - 1, -1, -1):
            try:
                with for_a_person(doing):
                    return send()
            except ConflictError:
                if not left:
                    raise
            self._waiting.rest()
        return None

    # --- small helpers ---------------------------------------------------------------------------------------------

    def _endpoint_body(self, file: AzFile, current: Json | None) -> Json:
        entity, location = file.entity, self._location(current)
        return _plain(file, lambda: entity._to_rest_online_endpoint(location), compute=self._assets.compute(entity))

    def _deployment_body(
        self, file: AzFile, ids: Mapping[str, str | None], collections: Mapping[str, str], current: Json | None
    ) -> Json:
        """The wire form with these ids; azure-ai-ml's entity is a copy, because it spoils what it writes."""
        entity, location = copy.copy(file.entity), self._location(current)
        entity.model, entity.environment = ids["model"], ids["environment"]
        if entity.code_configuration:
            entity.code_configuration = copy.copy(entity.code_configuration)
            entity.code_configuration.code = ids["code"]
        entity.data_collector = with_ids(entity.data_collector, collections)
        return _plain(file, lambda: entity._to_rest_object(location=location))

    def _location(self, current: Json | None) -> str:
        return (
            str(current["location"]) if current and current.get("location") else self._assets.location(self._workspace)
        )

    def _rested(self, read: Callable[[], Json | None], what: str, told: Told) -> Json | None:
        """The resource when nothing runs on it any more."""
        found = read()
        if found is not None and state_of(found) not in TERMINAL:
            self._waiting.settled(self._state(read), doing=f"Waiting for the operation that runs on {what}", told=told)
            found = read()
        return found

    def _await_endpoint(self, name: str, address: str | None, *, doing: str, failing: str, told: Told) -> None:
        state = self._state(lambda: self._endpoint_or_none(name))
        self._waiting.ended(address, doing=doing, failing=failing, state=state, told=told)

    def _state(self, read: Callable[[], Json | None]) -> Callable[[], str | None]:
        def state() -> str | None:
            found = read()
            return None if found is None else state_of(found)

        return state

    def _endpoint_or_none(self, name: str) -> Json | None:
        return self._or_none(lambda: self._resources.endpoint(name), f"read endpoint {name}")

    def _deployment_or_none(self, endpoint: str, name: str) -> Json | None:
        return self._or_none(lambda: self._resources.deployment(endpoint, name), f"read deployment {name}")

    def _or_none(self, read: Callable[[], Any], doing: str) -> Json | None:
        with for_a_person(doing):
            try:
                found: Json = read()
            except ResourceNotFoundError as error:
                if "workspaces/" in str(error) or "ResourceGroup" in str(error):
                    raise
                return None
            return found

    def _console(self, endpoint: str, name: str) -> str:
        """The end of the console, where there is one: it often says why."""
        for container in (None, "StorageInitializer"):
            try:
                lines = self._resources.logs(endpoint, name, tail=CONSOLE_TAIL, container=container).splitlines()
            except (AzureError, ValueError, AttributeError):  # it only adds to what is told anyway
                return ""
            if lines:
                return "\nIts console ends:\n" + "\n".join(f"  {line}" for line in lines[-CONSOLE_TAIL:])
        return ""


def _with_placeholders(brought: Brought) -> Mapping[str, str | None]:
    return {**brought.ids, **{each.field: f"(new) {each.what}" for each in brought.missing}}


#: Which field of a file azure-ai-ml speaks of when it refuses to write one.
_ABOUT: Mapping[str, str] = {"scalesettings": "scale_settings", "identity": "identity", "name": "name"}


def _plain(file: AzFile, make: Callable[[], Any], **more: Any) -> Json:
    """azure-ai-ml's wire form of an entity. Raises PolicyError where it refuses a name or a setting."""
    from azure.ai.ml.exceptions import MlException

    try:
        body: dict[str, Any] = make().as_dict()
    except MlException as error:
        said = " ".join(str(error.message).split())
        field = next((name for word, name in _ABOUT.items() if word in said.casefold()), "")
        raise file.mistake(field, said) from None
    body["properties"].update({key: value for key, value in more.items() if value is not None})
    return body


def _ing(plan: Plan) -> str:
    return "Creating" if plan.action is Action.CREATE else "Updating"
