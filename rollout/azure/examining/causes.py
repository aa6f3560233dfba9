"""Why Azure did not answer as hoped: a role, the network, the identity, or something else.

The rule: decided by what Azure said, not by the status alone: a firewall or a private link answers 403 as a missing role
does. `AuthorizationFailed` is always about roles, however its scope is called; words about networks are looked for in all
other answers; an answer of 403 that is not of Azure's form comes from something in between.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from rollout.azure.errors import Said, cannot, what_azure_said
from rollout.azure.examining.facts import Cause, Seen, Unread
from rollout.errors import RolloutError

T = TypeVar("T")

_ROLE_CODES = frozenset({"authorizationfailed", "linkedauthorizationfailed", "forbiddenbyrbac"})
_NETWORK = re.compile(
    r"private ?link|private ?endpoint|public ?(network)? ?access|virtual ?network|firewall|network ?acl"
    r"|network ?security ?perimeter|\bvnet\b|\bAMPLS\b|ip address .* not (allowed|authorized)",
    re.IGNORECASE,
)
_NOT_THE_SHAPE = (ValueError, LookupError, TypeError, AttributeError)


def cause_of(said: Said) -> Cause:
    """Why, by Azure's status, code and message."""
    if said.code.casefold() in _ROLE_CODES:
        return Cause.ROLE
    if _NETWORK.search(f"{said.code} {said.message}"):
        return Cause.NETWORK
    if said.status == 403 and not said.code:
        return Cause.NETWORK
    if said.status in {401, 403}:
        return Cause.ROLE
    return Cause.ABSENT if said.status == 404 else Cause.OTHER


def cause_of_error(error: BaseException) -> Cause:
    """Why, by what was raised: an SDK's error, or ours that was made of one."""
    if isinstance(error, RolloutError):
        return cause_of_error(error.__cause__) if error.__cause__ is not None else Cause.OTHER
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return Cause.NETWORK
    if isinstance(error, ClientAuthenticationError) and error.status_code is None:
        return Cause.IDENTITY
    return cause_of(what_azure_said(error)) if isinstance(error, HttpResponseError) else Cause.OTHER


def attempt(doing: str, ask: Callable[[], T]) -> Seen[T]:
    """What `ask` returns, or why it does not; `doing` completes "Cannot …"."""
    try:
        return ask()
    except RolloutError as error:
        # what to do about it is said by whoever judges it: only Azure's own words are kept
        behind = error.__cause__
        why = cannot(behind, doing=doing) if isinstance(behind, AzureError) else error.message
        return Unread(cause=cause_of_error(error), why=why)
    except (AzureError, *_NOT_THE_SHAPE) as error:
        return Unread(cause=cause_of_error(error), why=cannot(error, doing=doing))
