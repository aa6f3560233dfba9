"""Azure Resource Manager, asked for what azure-ai-ml does not read: settings, roles, quotas, the activity log.

The rule: GET and nothing else, each answered or refused within seconds, never repeated; lists end at a bound.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from azure.core import PipelineClient
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest

from rollout.azure.cloud import Cloud

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

USER_AGENT = "azureml-rollout-doctor"
MOST = 2_000  # items of a list
MOST_PAGES = 20


class ResourceManager:
    """Reads of one cloud's Resource Manager as one identity. Raises what azure-core raises; safe to use from many threads."""

    def __init__(self, cloud: Cloud, identity: "TokenCredential") -> None:
        policies = [
            UserAgentPolicy(base_user_agent=USER_AGENT),
            BearerTokenCredentialPolicy(identity, f"{cloud.resource_manager}/.default"),
        ]
        self._client: Any = PipelineClient(cloud.resource_manager, policies=policies, **cloud.options())
        self._address = cloud.resource_manager

    def get(self, path: str, version: str, **query: str) -> Mapping[str, Any]:
        """The JSON object at this path."""
        return self._ask(
            f"{self._address}{path}", {"api-version": version, **{_name(key): query[key] for key in query}}
        )

    def pages(self, path: str, version: str, **query: str) -> list[Mapping[str, Any]]:
        """The items of a list, over its pages, up to `MOST`."""
        answer = self.get(path, version, **query)
        items: list[Mapping[str, Any]] = list(answer["value"])
        for _ in range(MOST_PAGES):
            link = str(answer.get("nextLink") or "")
            if not link.startswith(self._address) or len(items) >= MOST:  # our token goes nowhere else
                break
            answer = self._ask(link, {})
            items += answer["value"]
        return items[:MOST]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, address: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        response = self._client.send_request(HttpRequest("GET", address, params=dict(query)))
        response.raise_for_status()
        found: Mapping[str, Any] = response.json()
        return found


def _name(key: str) -> str:
    return f"${key}" if key in {"filter", "select", "top"} else key
