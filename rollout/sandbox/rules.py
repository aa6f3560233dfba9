"""What Azure refuses, and in which words: status, code, message and details of the error body.

The rule: what Azure refuses is refused as Azure does; what this sandbox cannot do is refused with one sentence that
says so. Nothing is accepted and then quietly ignored.
"""

import json
import re
from collections.abc import Iterable, Mapping

from rollout.sandbox.resources import Deployment, Identity, State, Traffic

NAME = re.compile(r"[A-Za-z](-?[A-Za-z0-9])*")
NAME_LENGTHS = range(3, 33)
MAX_ENDPOINTS = 100  # per subscription and region
MAX_DEPLOYMENTS = 20  # per endpoint


class Refusal(Exception):  # noqa: N818 (an answer, not a mistake of ours)
    """An answer that says no. `details`: pairs of code and message, where Azure puts the real cause."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.headers = dict(headers or {})


def invalid(cause: str, *, code: str = "UserError") -> Refusal:
    """400, with the cause in the details."""
    return Refusal(400, "BadRequest", "The request is invalid.", [(code, cause)])


def inference_invalid(field: str, cause: str) -> Refusal:
    """400, as the inference service behind the control plane tells the fields that it refuses."""
    detail = {
        "errors": {field: [cause]},
        "type": "https://tools.ietf.org/html/rfc7231#section-6.5.1",
        "title": "One or more validation errors occurred.",
        "status": 400,
    }
    message = f"InferencingClient HttpRequest error, error detail: {json.dumps(detail)}"
    return Refusal(400, "BadRequest", "The request is invalid.", [("InferencingClientCreateDeploymentFailed", message)])


def not_offered(sentence: str, *, status: int = 400) -> Refusal:
    """Azure can, this sandbox can't: said in one sentence."""
    return Refusal(status, "NotSupportedBySandbox", sentence)


def not_found(what: str) -> Refusal:
    """404 of a resource under the workspace."""
    return Refusal(
        404,
        "NotFound",
        "The specified resource was not found.",
        [("InferencingClientCallFailed", f'{{"title":"Not Found","detail":"{what} was not found."}}')],
    )


def forbidden(client_id: str, *, action: str, scope: str) -> Refusal:
    """No role of this client allows the action."""
    return Refusal(
        403,
        "AuthorizationFailed",
        f"The client '{client_id}' with object id '{client_id}' does not have authorization to perform action '{action}' over "
        f"scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
    )


def unauthorized(message: str, *, code: str = "InvalidAuthenticationToken") -> Refusal:
    """401 of ARM."""
    return Refusal(401, code, message, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def conflict(endpoint: str) -> Refusal:
    """409: an operation is running."""
    cause = f"Another operation is already in progress on online endpoint {endpoint}. Please wait for it to complete."
    return Refusal(409, "Conflict", cause, [("Conflict", cause)])


def conflict_deployment(endpoint: str, state: State) -> Refusal:
    """409 of a write to a deployment whose endpoint is busy."""
    cause = f"Cannot create a deployment in endpoint {endpoint} because it is in {state} provisioning state."
    return Refusal(409, "Conflict", cause, [("Conflict", cause)])


def throttled(retry_after: float | None) -> Refusal:
    """429 of ARM, with or without Retry-After."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Refusal(
        429, "TooManyRequests", "The request was throttled: too many requests. Please try again later.", headers=headers
    )


def check_name(name: str, what: str) -> None:
    """Names: 3 to 32 letters, digits and single dashes, a letter first."""
    if len(name) not in NAME_LENGTHS or not NAME.fullmatch(name):
        raise invalid(
            f"The {what} name '{name}' is invalid: 3 to 32 characters, a letter first, "
            "then letters, digits and single dashes, no dash at the end."
        )


def check_traffic(wish: Traffic, *, known: Mapping[str, Deployment], before: Traffic) -> dict[str, int]:
    """The split, keyed as the deployments spell their names; `known`: the deployments that exist, by name.

    Zero entries stay. Raises Refusal for a total other than 0 or 100, for unknown deployments, and where a
    deployment that has never served would get traffic.
    """
    names = {name.casefold(): name for name in known}
    if strangers := sorted(name for name in wish if name.casefold() not in names):
        raise invalid(
            f"Traffic names deployments that do not exist in the endpoint: {', '.join(strangers)}.",
            code="InvalidTraffic",
        )
    split = {names[name.casefold()]: share for name, share in wish.items()}
    if any(not 0 <= share <= 100 for share in split.values()) or sum(split.values()) not in (0, 100):
        raise invalid(
            f"The traffic of all deployments must add up to 0 or 100 percent; {sum(split.values())} was given.",
            code="InvalidTraffic",
        )
    for name, share in split.items():
        if share > before.get(name, 0) and known[name].generation == 0:
            raise invalid(
                f"Deployment {name} cannot take traffic: it is in {known[name].state} provisioning state.",
                code="InvalidTraffic",
            )
    return split


def parse_asset_id(reference: str, identity: Identity) -> tuple[str, str, str]:
    """Kind, name and version, case-folded, of an asset's ARM id. Raises Refusal for any other id."""
    prefix = f"{identity.workspace}/"
    parts = reference.removeprefix("azureml:")[len(prefix) :].split("/")
    inside = reference.removeprefix("azureml:").casefold().startswith(prefix.casefold())
    if not inside or len(parts) != 4 or parts[2].casefold() != "versions":
        raise invalid(
            f"'{reference}' is not the id of a registered asset of workspace {identity.workspace_name}.",
            code="InvalidAssetId",
        )
    return parts[0].casefold(), parts[1].casefold(), parts[3].casefold()
