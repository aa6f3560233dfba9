"""What Azure refuses, and in which words: status, code, message and details of the error body.

The rule: what Azure refuses is refused as Azure does; what this sandbox cannot do is refused with one sentence that
says so. Nothing is accepted and then quietly ignored.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rollout.sandbox.resources import Deployment, DeploymentSpec, EndpointSpec, Identity, State, Traffic

NAME = re.compile(r"[A-Za-z](-?[A-Za-z0-9])*")
NAME_LENGTHS = range(3, 33)
MAX_ENDPOINTS = 100  # per subscription and region
MAX_DEPLOYMENTS = 20  # per endpoint
MAX_INSTANCES = 50  # per deployment
MAX_REQUEST_TIMEOUT_MS = 180_000
AUTH_MODES: Mapping[str, Any] = {"key": "Key", "amltoken": "AMLToken", "aadtoken": "AADToken"}
PASSED_ON = (
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "egressPublicNetworkAccess",
    "privateNetworkConnection",
)


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


def parse_endpoint(body: Mapping[str, Any]) -> EndpointSpec:
    """What a PUT of an endpoint asks for; traffic still as it was written."""
    values = _mapping(body.get("properties"), "properties")
    if values.get("compute"):
        raise not_offered("Kubernetes endpoints are not in this version of the sandbox: leave out compute.")
    if any(_mapping(values.get("mirrorTraffic"), "mirrorTraffic").values()):
        raise not_offered("Mirrored traffic is not in this version of the sandbox: leave out mirror_traffic.")
    auth = AUTH_MODES.get(str(values.get("authMode", "")).casefold())
    if auth is None:
        raise invalid(f"authMode '{values.get('authMode')}' is not one of {', '.join(AUTH_MODES.values())}.")
    return EndpointSpec(
        location=_text(body, "location"),
        auth_mode=auth,
        description=values.get("description"),
        tags=_texts(body.get("tags"), "tags"),
        properties=_texts(values.get("properties"), "properties.properties"),
        identity=body.get("identity"),
        public_network_access=values.get("publicNetworkAccess") or "Enabled",
        traffic=_shares(values.get("traffic")),
    )


def patched_endpoint(spec: EndpointSpec, body: Mapping[str, Any]) -> EndpointSpec:
    """What a PATCH makes of an endpoint: tags and identity, nothing else."""
    if other := sorted(set(body) - {"tags", "identity"}):
        raise invalid(
            f"A PATCH of an online endpoint changes tags and identity only, not {', '.join(other)}: "
            "send a PUT of the whole endpoint instead."
        )
    tags = _texts(body["tags"], "tags") if "tags" in body else spec.tags
    return EndpointSpec(
        **{**{name: getattr(spec, name) for name in EndpointSpec.__dataclass_fields__}, "tags": tags}
        | ({"identity": body["identity"]} if "identity" in body else {})
    )


def parse_deployment(body: Mapping[str, Any]) -> DeploymentSpec:
    """What a PUT of a deployment asks for; whether its assets exist is the cloud's to know."""
    values = _mapping(body.get("properties"), "properties")
    if str(values.get("endpointComputeType", "Managed")).casefold() != "managed":
        raise not_offered("Kubernetes deployments are not in this version of the sandbox: use a managed one.")
    if _mapping(values.get("dataCollector"), "dataCollector"):
        raise not_offered("Data collection is not in this version of the sandbox: leave out data_collector.")
    code = _mapping(values.get("codeConfiguration"), "codeConfiguration")
    if not code.get("codeId"):
        raise not_offered(
            "Deployments without a scoring script (MLflow models) are not in this version of the sandbox: "
            "give code_configuration and environment."
        )
    limits = _mapping(values.get("requestSettings"), "requestSettings")
    return DeploymentSpec(
        location=_text(body, "location"),
        model=values.get("model"),
        environment=values.get("environmentId"),
        code=_text(code, "codeId"),
        scoring_script=_text(code, "scoringScript"),
        environment_variables=_texts(values.get("environmentVariables"), "environmentVariables"),
        instance_type=values.get("instanceType") or "Standard_DS3_v2",
        instances=_whole(_mapping(body.get("sku"), "sku").get("capacity", 1), "sku.capacity", 1, MAX_INSTANCES),
        request_timeout_ms=_timeout(limits.get("requestTimeout")),
        max_concurrent=_whole(
            limits.get("maxConcurrentRequestsPerInstance", 1), "maxConcurrentRequestsPerInstance", 1, 10_000
        ),
        max_queue_wait_ms=_milliseconds(limits.get("maxQueueWait"), "maxQueueWait", 500),
        description=values.get("description"),
        tags=_texts(body.get("tags"), "tags"),
        properties=_texts(values.get("properties"), "properties.properties"),
        app_insights=bool(values.get("appInsightsEnabled")),
        passed_on={key: values[key] for key in PASSED_ON if values.get(key) is not None},
    )


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


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise invalid(f"{name} must be an object, not {value!r}.")
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"{name} is required and must be text.")
    return value


def _texts(value: object, name: str) -> dict[str, str]:
    return {str(key): str(item) for key, item in _mapping(value, name).items()}


def _shares(value: object) -> dict[str, int]:
    shares: dict[str, int] = {}
    for name, share in _mapping(value, "traffic").items():
        if isinstance(share, bool) or not isinstance(share, int):
            raise invalid(f"traffic.{name} must be a whole percent, not {share!r}.", code="InvalidTraffic")
        shares[str(name)] = share
    return shares


def _whole(value: object, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
    return value


def _timeout(value: object) -> int:
    milliseconds = _milliseconds(value, "requestTimeout", 5_000)
    if not 0 < milliseconds <= MAX_REQUEST_TIMEOUT_MS:
        raise invalid(f"requestTimeout must be at most {MAX_REQUEST_TIMEOUT_MS // 1000} s, not {value!r}.")
    return milliseconds


_ISO = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def _milliseconds(value: object, name: str, default: int) -> int:
    """Milliseconds of an ISO 8601 duration such as PT5S."""
    if value is None:
        return default
    match = _ISO.fullmatch(str(value))
    if match is None or not any(match.groups()):
        raise invalid(f"{name} must be an ISO 8601 duration such as PT5S, not {value!r}.")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round(((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1000)
