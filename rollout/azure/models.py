"""The versions of registered models, in a workspace or in a registry (the port `Models`).

The rule: read only, bounded, in wire form as in `arm.py`. A registry is asked for where it is once; what lies there may be
in another subscription.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest

from rollout.azure.cloud import NO_RETRIES
from rollout.azure.errors import in_our_words, what_azure_said
from rollout.errors import SettingsError
from rollout.ports import ModelVersion

#: The newest versions of a model that are looked at, in pages of Azure's.
MOST_VERSIONS = 200
#: The version of the registries' interface that azure-ai-ml uses.
REGISTRY_VERSION = "2021-10-01-dataplanepreview"
#: 404s that are not about the model but about what it lives in.
_NO_PLACE = re.compile(r"subscription|resource ?group|workspaces?\b|workspaceNotFound", re.IGNORECASE)
_WORKSPACE = "Give this identity AzureML Data Scientist on the workspace."
_REGISTRY = "Give this identity the role AzureML Registry User on the registry."


class AzureModels:
    """The models of one workspace, and of the registries that it is asked for; `client_of` connects to a registry."""

    def __init__(
        self, client: Any, *, resource_group: str, workspace: str, name: str, client_of: Callable[[str], Any]
    ) -> None:
        self._where = {"resource_group_name": resource_group, "workspace_name": workspace}
        self._name = name
        self._client_of = client_of
        self._registries: dict[str, Any] = {}
        self._lock = Lock()
        try:
            self._versions = client.models._model_versions_operation
        except AttributeError as error:
            raise _unusable(error) from error

    def versions(self, model: str, *, registry: str | None = None) -> Sequence[ModelVersion]:
        """The newest versions that are not archived, newest first; empty where there is no such model."""
        place = f"registry {registry}" if registry else f"workspace {self._name}"
        with in_our_words(
            f"list the versions of model {model} in {place}", remedy=_REGISTRY if registry else _WORKSPACE
        ):
            items = self._in_registry(registry, model) if registry else self._in_workspace(model)
            found = [_version(model, item, registry=registry) for item in islice(items, MOST_VERSIONS)]
        return sorted(filter(None, found), key=lambda each: each.created_at or _LONG_AGO, reverse=True)

    def close(self) -> None:
        """Close the connections that were used."""
        self._versions._client.close()
        for client in self._registries.values():
            client.models._registry_service_client.close()

    def _in_workspace(self, model: str) -> Iterator[Any]:
        try:
            for item in self._versions.list(name=model, list_view_type="ActiveOnly", **self._where):
                yield item.as_dict() if hasattr(item, "as_dict") else item
        except HttpResponseError as error:
            said = what_azure_said(error)
            if said.status != 404 or _NO_PLACE.search(f"{said.code} {said.message}"):
                raise

    def _in_registry(self, registry: str, model: str) -> Iterator[Any]:
        client, address = self._registry(registry, model)
        while address:
            response = client.send_request(HttpRequest("GET", address), **NO_RETRIES)
            if response.status_code == 404:
                return
            response.raise_for_status()
            page = response.json()
            yield from page.get("value") or ()
            address = page.get("nextLink")

    def _registry(self, registry: str, model: str) -> tuple[Any, str]:
        with self._lock:
            if registry not in self._registries:
                self._registries[registry] = self._client_of(registry)
        operations = self._registries[registry].models
        try:
            client, group = operations._registry_service_client, operations._resource_group_name
            subscription = client._config.subscription_id
        except AttributeError as error:
            raise _unusable(error) from error
        place = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
        query = f"api-version={REGISTRY_VERSION}&listViewType=ActiveOnly"
        return client, f"{place}/registries/{registry}/models/{model}/versions?{query}"


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def _unusable(error: AttributeError) -> SettingsError:
    return SettingsError(f"This version of azure-ai-ml cannot be used ({error}): install the one in requirements.lock.")


def _version(model: str, item: Any, *, registry: str | None) -> ModelVersion | None:
    """One version; None where Azure's description names none, or it is archived."""
    body = item if isinstance(item, Mapping) else {}
    values = body.get("properties") or {}
    version = body.get("name")
    if not isinstance(version, str) or not version or values.get("isArchived"):
        return None
    place = f"azureml://registries/{registry}/models/{model}/versions/{version}"
    return ModelVersion(
        name=model,
        version=version,
        stage=values.get("stage") or None,
        tags={str(key): str(value) for key, value in (values.get("tags") or {}).items()},
        reference=place if registry else f"azureml:{model}:{version}",
        created_at=_time((body.get("systemData") or {}).get("createdAt")),
    )


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
