"""The door to azure-ai-ml: endpoints and deployments of one workspace as Azure writes them, as plain JSON.

The rule: this is the only file that touches azure-ai-ml's inside to reach resources (`az_files.py` reads its schemas and
`uploads.py` its hashes). We use the operations that its public ones are built
on (`MLClient.online_endpoints` and `.online_deployments` hold them), because the entities on top lose what we must keep
and break where we must not: they drop fields they do not know, add system data to `properties` on every write, drop the
mirror setting of Kubernetes endpoints, and one malformed deployment or endpoint takes the whole answer with it. The
operations hand over the wire form, one item at a time, and take it back unchanged; client, token, addresses, API
versions and TLS are azure-ai-ml's own.

Requests: `endpoints` one per page (100 endpoints), `endpoint`, `deployments`, `operation`, `put_endpoint`, `keys` and
`token` one each.
Nothing polls: a begun operation is watched by reading the endpoint.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from azure.core.rest import HttpRequest

from rollout.azure.cloud import NO_RETRIES
from rollout.errors import SettingsError

Json = Mapping[str, Any]
#: The newest version of Azure Monitor's autoscale settings.
AUTOSCALE_VERSION = "2022-10-01"


class WorkspaceResources:
    """The online endpoints of one Azure ML workspace, in wire form. Raises what the SDK raises."""

    def __init__(self, client: Any, *, resource_group: str, workspace: str) -> None:
        self._client = client
        self._where = {"resource_group_name": resource_group, "workspace_name": workspace}
        group = f"/subscriptions/{client.subscription_id}/resourceGroups/{resource_group}"
        self._autoscale = f"{group}/providers/Microsoft.Insights/autoscalesettings"
        try:
            self._endpoints = client.online_endpoints._online_operation
            self._deployments = client.online_deployments._online_deployment
        except AttributeError as error:
            raise SettingsError(
                f"This version of azure-ai-ml cannot be used ({error}): install the one in requirements.lock."
            ) from error

    def endpoints(self) -> Iterator[Any]:
        """Every endpoint, page by page; an item may be anything that Azure sent."""
        for item in self._endpoints.list(**self._where):
            yield _plain(item)

    def endpoint(self, name: str) -> Any:
        """One endpoint. Raises ResourceNotFoundError."""
        return _plain(self._endpoints.get(endpoint_name=name, **self._where))

    def deployments(self, name: str) -> Iterator[Any]:
        """The deployments of an endpoint."""
        for item in self._deployments.list(endpoint_name=name, **self._where):
            yield _plain(item)

    def deployment(self, endpoint: str, name: str) -> Any:
        """One deployment. Raises ResourceNotFoundError."""
        return _plain(self._deployments.get(endpoint_name=endpoint, deployment_name=name, **self._where))

    def put_endpoint(self, name: str, body: Json, *, before: Callable[[], None]) -> str | None:
        """Begin to make the endpoint what `body` says: one request, never repeated, nothing waited for.

        `before` runs when the token is there and the request is about to leave; what it raises stops the request.
        Returns the address of the operation's state, if Azure gave one.
        """
        hooks = {"raw_request_hook": lambda _request: before()}
        return self._begun(self._endpoints.begin_create_or_update, endpoint_name=name, body=dict(body), **hooks)

    def put_deployment(self, endpoint: str, name: str, body: Json) -> str | None:
        """Begin to make the deployment what `body` says; returns the address of the operation's state, if any."""
        begin = self._deployments.begin_create_or_update
        return self._begun(begin, endpoint_name=endpoint, deployment_name=name, body=dict(body))

    def delete_endpoint(self, name: str) -> str | None:
        """Begin to delete an endpoint with its deployments; None where there is nothing to wait for."""
        return self._begun(self._endpoints.begin_delete, endpoint_name=name)

    def delete_deployment(self, endpoint: str, name: str) -> str | None:
        """Begin to delete a deployment; None where there is nothing to wait for."""
        return self._begun(self._deployments.begin_delete, endpoint_name=endpoint, deployment_name=name)

    def _begun(self, begin: Callable[..., Any], **options: Any) -> str | None:
        address: list[str | None] = []
        begin(
            polling=False,
            raw_response_hook=lambda response: address.append(
                response.http_response.headers.get("Azure-AsyncOperation")
            ),
            **options,
            **self._where,
            **NO_RETRIES,
        )
        return address[-1] if address else None

    def logs(self, endpoint: str, name: str, *, tail: int, container: str | None = None) -> str:
        """The last lines of a deployment's console; `container`: InferenceServer (the default) or StorageInitializer."""
        body = {"tail": tail, **({"containerType": container} if container else {})}
        told = self._deployments.get_logs(endpoint_name=endpoint, deployment_name=name, body=body, **self._where)
        return str(told.content or "")

    def keys(self, name: str) -> Any:
        """The keys of an endpoint that opens with keys: `primaryKey`, `secondaryKey`."""
        return _plain(self._endpoints.list_keys(endpoint_name=name, **self._where))

    def token(self, name: str) -> Any:
        """A token of an endpoint that opens with its own tokens: `accessToken`, and times in seconds since 1970."""
        return _plain(self._endpoints.get_token(endpoint_name=name, **self._where))

    def autoscale_settings(self) -> Iterator[Any]:
        """The autoscale settings of the workspace's resource group, which are Azure Monitor's."""
        address: str | None = f"{self._autoscale}?api-version={AUTOSCALE_VERSION}"
        while address:
            page = self._asked("GET", address)
            yield from page.get("value") or ()
            address = page.get("nextLink")

    def put_autoscale(self, setting: str, body: Json) -> None:
        """Write an autoscale setting (its resource id); done when this returns."""
        self._asked("PUT", f"{setting}?api-version={AUTOSCALE_VERSION}", body=dict(body))

    def delete_autoscale(self, setting: str) -> None:
        """Take an autoscale setting off; nothing where there is none."""
        self._asked("DELETE", f"{setting}?api-version={AUTOSCALE_VERSION}")

    def _asked(self, method: str, address: str, *, body: Json | None = None) -> Any:
        if address.startswith("/"):
            address = f"{self._endpoints._config.base_url.rstrip('/')}{address}"
        request = HttpRequest(method, address, json=body) if body is not None else HttpRequest(method, address)
        response = self._endpoints._client.send_request(request, **NO_RETRIES)
        response.raise_for_status()
        return response.json() if response.content else {}

    def operation(self, address: str) -> Any:
        """The state of a long-running operation; its address is signed and used as it came."""
        response = self._endpoints._client.send_request(HttpRequest("GET", address))
        response.raise_for_status()
        return response.json()

    def close(self) -> None:
        """Close the connections that were used."""
        self._endpoints._client.close()
        self._deployments._client.close()


def _plain(item: Any) -> Any:
    return item.as_dict() if hasattr(item, "as_dict") else item
