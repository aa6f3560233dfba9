"""Who we are, for each service that a rollout asks: a token for each, and what the one for Resource Manager says.

The rule: a token is asked for, looked into and forgotten; nothing of it is shown but ids and names.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rollout.azure.cloud import Cloud
from rollout.azure.examining.causes import attempt
from rollout.azure.examining.facts import Seen, Unread, Who
from rollout.settings import Credential

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

MANAGER = "Resource Manager"


def services(cloud: Cloud, *, logs: bool, metrics: bool) -> Mapping[str, str]:
    """What tokens are wanted for, with their audiences; one for predictions is asked for where an endpoint takes it."""
    found = {MANAGER: cloud.resource_manager}
    found |= {"Log Analytics": cloud.logs_audience} if logs else {}
    return found | ({"metrics": cloud.metrics_audience} if metrics else {})


def tokens(
    identity: "TokenCredential", credential: Credential, wanted: Mapping[str, str]
) -> tuple[Seen[Who], Mapping[str, Unread | None]]:
    """Who we are, and for each service None (a token was had) or why not."""
    who: Seen[Who] = Who(way=credential.type, client_id="", object_id="", tenant_id="")
    had: dict[str, Unread | None] = {}
    for service, audience in wanted.items():
        found = attempt(f"get a token for {service}", _asking(identity, audience))
        had[service] = found if isinstance(found, Unread) else None
        if service == MANAGER:
            who = found if isinstance(found, Unread) else _who(found, _way(identity, credential), credential)
    return who, had


def _asking(identity: "TokenCredential", audience: str) -> Callable[[], str]:
    return lambda: str(identity.get_token(f"{audience}/.default").token)


def _way(identity: "TokenCredential", credential: Credential) -> str:
    """The credential; of a chain the one that worked, where azure-identity tells."""
    worked = getattr(identity, "_successful_credential", None)
    return f"{credential.type}, by {type(worked).__name__}" if worked is not None else credential.type


def _who(token: str, way: str, credential: Credential) -> Who:
    claims = _claims(token)
    resource = str(claims.get("xms_mirid") or "")  # of a managed identity: its ARM id
    name = (
        claims.get("upn") or claims.get("unique_name") or claims.get("app_displayname") or resource.rpartition("/")[2]
    )
    return Who(
        way=way,
        client_id=str(claims.get("appid") or claims.get("azp") or credential.client_id or ""),
        object_id=str(claims.get("oid") or ""),
        tenant_id=str(claims.get("tid") or credential.tenant_id or ""),
        name=str(name) if name else None,
    )


def _claims(token: str) -> Mapping[str, Any]:
    """What the token says; nothing where it is not one that can be read (it is not for us to read, and need not be)."""
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
