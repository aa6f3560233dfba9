"""A person's connection to one Azure ML workspace: what the commands that talk to Azure themselves need.

The rule: made for one command, with the identity of whoever runs it, and closed behind it. The daemon has a connection of
its own (`connection.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rollout.azure.arm import WorkspaceResources
from rollout.azure.azure_ml import ml_client
from rollout.azure.cloud import Cloud, make_credential
from rollout.azure.keys import EndpointKeys
from rollout.azure.managing import Manager
from rollout.azure.remedies import ROLE
from rollout.azure.scoring import AzureScoring, http_client
from rollout.azure.uploads import WorkspaceAssets
from rollout.azure.waiting import Waiting
from rollout.ports import Clock
from rollout.settings import Credential, Workspace


@dataclass(frozen=True, kw_only=True)
class Personal:
    """An open connection."""

    manager: Manager
    scoring: AzureScoring


@contextmanager
def personal(
    *,
    cloud: Cloud,
    credential: Credential,
    secret: str | None,
    workspace: Workspace,
    clock: Clock,
    pause: Callable[[float], object],
    every: float,
) -> Iterator[Personal]:
    """Connect; `every` is how many seconds lie between two looks at something that runs. azure-ai-ml is imported here.

    Raises SettingsError.
    """
    with ExitStack() as undo:
        identity = make_credential(cloud, credential, secret=secret)
        if callable(close := getattr(identity, "close", None)):
            undo.callback(close)
        client = ml_client(cloud, identity, workspace, show_progress=True)
        resources = WorkspaceResources(
            client, resource_group=workspace.resource_group, workspace=workspace.workspace_name
        )
        undo.callback(resources.close)
        http = http_client(cloud)
        undo.callback(http.close)
        waiting = Waiting(resources, monotonic=clock.monotonic, pause=pause, every=every)
        assets = WorkspaceAssets(client, cloud=cloud)
        yield Personal(
            manager=Manager(resources, assets, waiting, workspace=workspace.workspace_name),
            scoring=AzureScoring(
                http,
                EndpointKeys(resources, identity, audience=cloud.scoring_audience, clock=clock, remedy=ROLE),
                clock=clock,
            ),
        )
