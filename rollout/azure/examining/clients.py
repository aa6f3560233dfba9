"""What an examiner asks with: the clients of one workspace as one identity, and the time that looking may take.

The rule: made when first needed where they cost something, closed behind the command; the bound is real time, whatever the
clock's speed.
"""

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rollout.azure.arm import WorkspaceResources
from rollout.azure.azure_ml import ml_client
from rollout.azure.calls import Calls
from rollout.azure.cloud import Cloud
from rollout.azure.examining.facts import Cause, Seen, Unread
from rollout.azure.examining.manager import ResourceManager
from rollout.azure.keys import EndpointKeys
from rollout.azure.scoring import AzureScoring, http_client
from rollout.ports import Clock
from rollout.settings import Credential, Workspace

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials import TokenCredential

T = TypeVar("T")


@dataclass(kw_only=True)
class Clients:
    """The clients of the workspace that the settings call `name`."""

    cloud: Cloud
    identity: "TokenCredential"
    credential: Credential
    name: str
    workspace: Workspace
    clock: Clock
    closing: ExitStack
    manager: ResourceManager = field(init=False)
    resources: WorkspaceResources = field(init=False)
    http: "httpx.Client" = field(init=False)
    keys: EndpointKeys = field(init=False)

    def __post_init__(self) -> None:
        cloud, identity, place = self.cloud, self.identity, self.workspace
        self.manager = ResourceManager(cloud, identity)
        self.closing.callback(self.manager.close)
        client = ml_client(cloud, identity, place)
        self.resources = WorkspaceResources(client, resource_group=place.resource_group, workspace=place.workspace_name)
        self.closing.callback(self.resources.close)
        self.http = http_client(cloud)
        self.closing.callback(self.http.close)
        self.keys = EndpointKeys(self.resources, identity, audience=cloud.scoring_audience, clock=self.clock, remedy="")

    @property
    def scope(self) -> str:
        """The ARM id of the workspace."""
        place = self.workspace
        group = f"/subscriptions/{place.subscription_id}/resourceGroups/{place.resource_group}"
        return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/{place.workspace_name}"

    def scoring(self) -> AzureScoring:
        """Predictions."""
        return AzureScoring(self.http, self.keys, clock=self.clock)

    def logs(self) -> Any:
        """A client of Log Analytics."""
        from azure.monitor.query import LogsQueryClient

        cloud = self.cloud
        client = LogsQueryClient(self.identity, endpoint=cloud.logs, audience=cloud.logs_audience, **cloud.options())
        self.closing.callback(client.close)
        return client

    def metrics(self) -> Any:
        """The metrics of the workspace's subscription and region."""
        from azure.monitor.querymetrics import MetricsClient

        from rollout.azure.metrics import AzureMetrics

        cloud, place = self.cloud, self.workspace
        client = MetricsClient(
            cloud.metrics_address(place.region), self.identity, audience=cloud.metrics_audience, **cloud.options()
        )
        self.closing.callback(client.close)
        where = f"subscription {place.subscription_id} in {place.region}"
        return AzureMetrics(client, place=where, calls=self.calls())

    def calls(self) -> Calls:
        """The bounds of calls to Azure Monitor."""
        return Calls(monotonic=self.clock.monotonic, chance=random.Random(1))  # noqa: S311 - when a try is repeated


class Bound:
    """What would begin after its time is up is not begun."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._until = self._real() + seconds

    def in_time(self, read: Callable[[], Seen[T]]) -> Seen[T]:
        """What `read` returns, or an `Unread` where the time is up."""
        if self._real() > self._until:
            return Unread(cause=Cause.TIME, why="Not looked at: the time was up before. Give it more with --timeout.")
        return read()

    def _real(self) -> float:
        """Real seconds since some moment."""
        return self._clock.monotonic() * self._clock.real_seconds(timedelta(seconds=1))
