"""The first look at an endpoint of which only the name is known: where it is, and which log workspace its requests go to.

The rule: what cannot be read here ends the command that asks, with Azure's words: there is nothing to begin with.
"""

from dataclasses import dataclass
from typing import Any

from rollout.azure.errors import in_our_words
from rollout.azure.examining import traffic_log
from rollout.azure.examining.facts import Diagnostic, LogWorkspace, Unread
from rollout.azure.examining.manager import ResourceManager
from rollout.azure.resources import endpoint_state
from rollout.world import EndpointState

WORKSPACE_VERSION = "2024-10-01"
ROLE = "Reader on the resource group is enough."


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """An endpoint: its region, and the log workspace that its diagnostic setting `setting` names (None: none is known).

    `unlogged` says in a sentence why there is no log workspace.
    """

    region: str
    endpoint: EndpointState
    log_workspace: LogWorkspace | None = None
    setting: str | None = None
    unlogged: str = ""


def first_look(manager: ResourceManager, endpoint: Any, *, scope: str) -> FirstLook:
    """Look; `endpoint` is the endpoint as Azure describes it, `scope` the workspace's id. Raises RolloutError."""
    state = endpoint_state(endpoint)
    with in_our_words("read the workspace", remedy=ROLE):
        region = str(manager.get(scope, WORKSPACE_VERSION)["location"])
    found = traffic_log.diagnostics(manager, state.resource_id)
    if isinstance(found, Unread):
        return FirstLook(region=region, endpoint=state, unlogged=found.why)
    sending = next((each for each in found if _sends(each)), None)
    if sending is None or sending.workspace_id is None:
        return FirstLook(
            region=region, endpoint=state, unlogged="No diagnostic setting sends its traffic log anywhere."
        )
    place = traffic_log.log_workspace(manager, sending.workspace_id)
    if isinstance(place, Unread):
        return FirstLook(region=region, endpoint=state, setting=sending.name, unlogged=place.why)
    return FirstLook(region=region, endpoint=state, log_workspace=place, setting=sending.name)


def _sends(setting: Diagnostic) -> bool:
    return setting.workspace_id is not None and (setting.all_logs or traffic_log.CATEGORY in setting.categories)
