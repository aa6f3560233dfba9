"""One connection to one cloud: everything that the daemon needs of Azure, made from settings.

The rule: one cloud per process at a time. azure-ai-ml keeps its cloud in globals, so that two would be mixed up. All
readers of one service of Azure Monitor share one budget of queries, as Azure counts them: per identity.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING
from uuid import uuid4

from rollout.azure.arm import WorkspaceResources
from rollout.azure.azure_ml import ml_client, registry_client
from rollout.azure.calls import Calls
from rollout.azure.cloud import Cloud, make_credential
from rollout.azure.creating import Creations
from rollout.azure.endpoints import AzureEndpoints
from rollout.azure.fleet import AzureFleet
from rollout.azure.keys import EndpointKeys
from rollout.azure.managing import Manager
from rollout.azure.uploads import WorkspaceAssets
from rollout.azure.waiting import Waiting
from rollout.errors import SettingsError, UnavailableError
from rollout.ports import Clock, Endpoints, Fleet, Logs, Models, Scoring, Telemetry
from rollout.settings import Credential, Workspace

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


#: Between two looks at a deployment that is being created.
BETWEEN_LOOKS = timedelta(seconds=10)


class Azure:
    """An open connection. `close` it before another cloud is connected to.

    `endpoints`, `fleets`, `models` and `scoring` by the name of the workspace in the settings; `logs` by the id of the log
    workspace; `metrics` by subscription and region, for the workspaces whose settings ask for metrics.
    """

    def __init__(self, cloud: Cloud, closing: ExitStack) -> None:
        self.cloud = cloud
        self.endpoints: Mapping[str, Endpoints] = {}
        self.fleets: Mapping[str, Fleet] = {}
        self.logs: Mapping[str, Logs] = {}
        self.metrics: Mapping[tuple[str, str], Telemetry] = {}
        self.scoring: Mapping[str, Scoring] = {}
        self.models: Mapping[str, Models] = {}
        self._closing = closing

    def close(self) -> None:
        """Close all connections; closing twice is fine."""
        self._closing.close()


def connect(
    *,
    cloud: Cloud,
    credential: Credential,
    secret: str | None = None,
    workspaces: Mapping[str, Workspace],
    clock: Clock,
    chance: random.Random,
) -> Azure:
    """Everything that the daemon needs of Azure; no request is made yet, but azure-ai-ml is imported (four seconds).

    `secret` is the client secret, where the credential needs one. Raises SettingsError.
    """
    with ExitStack() as undo:
        undo.callback(_claim(cloud))
        identity = make_credential(cloud, credential, secret=secret)
        undo.callback(_closer(identity))
        azure = Azure(cloud, undo)
        azure.endpoints = _endpoints(cloud, identity, workspaces, undo)
        azure.fleets = _fleets(cloud, identity, workspaces, clock, undo)
        azure.scoring = _scoring(cloud, identity, workspaces, clock, undo)
        azure.models = _models(cloud, identity, workspaces, undo)
        azure.logs = _logs(cloud, identity, workspaces, _calls(clock, chance), undo)
        azure.metrics = _metrics(cloud, identity, workspaces, _calls(clock, chance), undo)
        azure._closing = undo.pop_all()
    return azure


def _scoring(
    cloud: Cloud, identity: "TokenCredential", workspaces: Mapping[str, Workspace], clock: Clock, undo: ExitStack
) -> Mapping[str, Scoring]:
    from rollout.azure.scoring import AzureScoring, http_client

    client = http_client(cloud)
    undo.callback(client.close)
    found: dict[str, Scoring] = {}
    for name, workspace in workspaces.items():
        resources = _resources_of(cloud, identity, workspace)
        undo.callback(resources.close)
        keys = EndpointKeys(resources, identity, audience=cloud.scoring_audience, clock=clock)
        found[name] = AzureScoring(client, keys, clock=clock)
    return found


def _models(
    cloud: Cloud, identity: "TokenCredential", workspaces: Mapping[str, Workspace], undo: ExitStack
) -> Mapping[str, Models]:
    from rollout.azure.models import AzureModels

    found: dict[str, Models] = {}
    for name, workspace in workspaces.items():
        models = AzureModels(
            ml_client(cloud, identity, workspace),
            resource_group=workspace.resource_group,
            workspace=workspace.workspace_name,
            name=name,
            client_of=partial(registry_client, cloud, identity, workspace),
        )
        undo.callback(models.close)
        found[name] = models
    return found


def _resources_of(cloud: Cloud, identity: "TokenCredential", workspace: Workspace) -> WorkspaceResources:
    client = ml_client(cloud, identity, workspace)
    return WorkspaceResources(client, resource_group=workspace.resource_group, workspace=workspace.workspace_name)


def endpoints_of(cloud: Cloud, identity: "TokenCredential", workspace: Workspace, *, name: str) -> AzureEndpoints:
    """The endpoints of one workspace, which the settings call `name`."""
    return AzureEndpoints(_resources_of(cloud, identity, workspace), workspace=name)


def _endpoints(
    cloud: Cloud, identity: "TokenCredential", workspaces: Mapping[str, Workspace], undo: ExitStack
) -> Mapping[str, Endpoints]:
    found: dict[str, Endpoints] = {}
    for name, workspace in workspaces.items():
        endpoints = endpoints_of(cloud, identity, workspace, name=name)
        undo.callback(endpoints.close)
        found[name] = endpoints
    return found


def _creations(
    cloud: Cloud, identity: "TokenCredential", workspace: Workspace, clock: Clock, undo: ExitStack
) -> Creations:
    """With a client that may upload; what still runs at the end is left: it is begun again by whoever comes next."""
    client = ml_client(cloud, identity, workspace, show_progress=True)
    resources = WorkspaceResources(client, resource_group=workspace.resource_group, workspace=workspace.workspace_name)
    undo.callback(resources.close)
    over = Event()
    undo.callback(over.set)

    def pause(seconds: float) -> None:
        if over.wait(seconds):
            raise UnavailableError("The daemon is stopping.")

    every = clock.real_seconds(BETWEEN_LOOKS)
    waiting = Waiting(resources, monotonic=clock.monotonic, pause=pause, every=every)
    manager = Manager(resources, WorkspaceAssets(client, cloud=cloud), waiting, workspace=workspace.workspace_name)
    return Creations(manager, new_id=lambda: uuid4().hex[:12])


def _fleets(
    cloud: Cloud, identity: "TokenCredential", workspaces: Mapping[str, Workspace], clock: Clock, undo: ExitStack
) -> Mapping[str, Fleet]:
    found: dict[str, Fleet] = {}
    for name, workspace in workspaces.items():
        creations = _creations(cloud, identity, workspace, clock, undo)
        fleet = AzureFleet(_resources_of(cloud, identity, workspace), creations=creations, workspace=name)
        undo.callback(fleet.close)
        found[name] = fleet
    return found


def _logs(
    cloud: Cloud, identity: "TokenCredential", workspaces: Mapping[str, Workspace], calls: Calls, undo: ExitStack
) -> Mapping[str, Logs]:
    from azure.monitor.query import LogsQueryClient

    from rollout.azure.logs import AzureLogs

    client = LogsQueryClient(identity, endpoint=cloud.logs, audience=cloud.logs_audience, **cloud.options())
    undo.callback(client.close)
    ids = {workspace.log_workspace for workspace in workspaces.values() if workspace.log_workspace is not None}
    return {each: AzureLogs(client, log_workspace=each, calls=calls) for each in ids}


def _metrics(
    cloud: Cloud, identity: "TokenCredential", workspaces: Mapping[str, Workspace], calls: Calls, undo: ExitStack
) -> Mapping[tuple[str, str], Telemetry]:
    from azure.monitor.querymetrics import MetricsClient

    from rollout.azure.metrics import AzureMetrics

    found: dict[tuple[str, str], Telemetry] = {}
    places = {(each.subscription_id, each.region) for each in workspaces.values() if each.metrics == "batch"}
    for subscription, region in places:
        client = MetricsClient(
            cloud.metrics_address(region), identity, audience=cloud.metrics_audience, **cloud.options()
        )
        undo.callback(client.close)
        place = f"subscription {subscription} in {region}"
        found[subscription, region] = AzureMetrics(client, place=place, calls=calls)
    return found


def _calls(clock: Clock, chance: random.Random) -> Calls:
    return Calls(monotonic=clock.monotonic, chance=chance)


def _closer(identity: "TokenCredential") -> Callable[[], None]:
    close = getattr(identity, "close", None)
    return close if callable(close) else lambda: None


# --- one cloud per process -------------------------------------------------------------------------------------------

_claims: list[str] = []
_claiming = Lock()


def _claim(cloud: Cloud) -> Callable[[], None]:
    """Take the process for this cloud; what is returned gives it back. Raises SettingsError."""
    with _claiming:
        if other := next((name for name in _claims if name != cloud.name), None):
            raise SettingsError(f"This process is connected to {other}: {cloud.name} needs a process of its own.")
        _claims.append(cloud.name)

    def give_back() -> None:
        with _claiming:
            _claims.remove(cloud.name)

    return give_back
