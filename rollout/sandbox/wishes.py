"""What a client's PUT or PATCH of an endpoint or a deployment asks for, read into the cloud's values.

The rule: parse once, at the door. What Azure refuses in a body is refused here, in `rules`' words; whether the assets and
deployments that it names exist is for the cloud to know.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from rollout.sandbox import rules, skus
from rollout.sandbox.resources import DeploymentSpec, EndpointSpec

MAX_INSTANCES = 50  # per deployment
MAX_REQUEST_TIMEOUT_MS = {"Managed": 180_000, "Kubernetes": 300_000}
DEFAULT_RESOURCES = {"containerResourceRequests": {"cpu": "100m", "memory": "500Mi"}}
AUTH_MODES: Mapping[str, Any] = {"key": "Key", "amltoken": "AMLToken", "aadtoken": "AADToken"}
PASSED_ON = (
    "containerResourceRequirements",
    "dataCollector",
    "modelMountPath",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "egressPublicNetworkAccess",
    "privateNetworkConnection",
)


def parse_endpoint(body: Mapping[str, Any]) -> EndpointSpec:
    """What a PUT of an endpoint asks for; traffic still as it was written."""
    values = _mapping(body.get("properties"), "properties")
    auth = AUTH_MODES.get(str(values.get("authMode", "")).casefold())
    if auth is None:
        raise rules.invalid(f"authMode '{values.get('authMode')}' is not one of {', '.join(AUTH_MODES.values())}.")
    return EndpointSpec(
        location=_text(body, "location"),
        auth_mode=auth,
        description=values.get("description"),
        tags=_texts(body.get("tags"), "tags"),
        properties=_texts(values.get("properties"), "properties.properties"),
        identity=body.get("identity"),
        public_network_access=values.get("publicNetworkAccess") or "Enabled",
        compute=values.get("compute") or None,
        traffic=_shares(values.get("traffic")),
        mirror=_shares(values.get("mirrorTraffic")),
    )


def patched_endpoint(spec: EndpointSpec, body: Mapping[str, Any]) -> EndpointSpec:
    """What a PATCH makes of an endpoint: tags and identity, nothing else."""
    if other := sorted(set(body) - {"tags", "identity"}):
        raise rules.invalid(
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
    _check_collector(_mapping(values.get("dataCollector"), "dataCollector"))
    kind = _kind(values)
    code = _mapping(values.get("codeConfiguration"), "codeConfiguration")
    limits = _mapping(values.get("requestSettings"), "requestSettings")
    capacity = _mapping(body.get("sku"), "sku").get("capacity")
    return DeploymentSpec(
        location=_text(body, "location"),
        model=values.get("model"),
        environment=values.get("environmentId"),
        code=_text(code, "codeId") if code else None,
        scoring_script=_text(code, "scoringScript") if code else None,
        kind=kind,
        environment_variables=_texts(values.get("environmentVariables"), "environmentVariables"),
        instance_type=skus.instance_type(values.get("instanceType"), managed=kind == "Managed"),
        instances=_whole(1 if capacity is None else capacity, "sku.capacity", 1, MAX_INSTANCES),
        request_timeout_ms=_timeout(limits.get("requestTimeout"), MAX_REQUEST_TIMEOUT_MS[kind]),
        max_concurrent=_whole(
            limits.get("maxConcurrentRequestsPerInstance") or 1, "maxConcurrentRequestsPerInstance", 1, 10_000
        ),
        max_queue_wait_ms=_milliseconds(limits.get("maxQueueWait"), "maxQueueWait", 500),
        description=values.get("description"),
        tags=_texts(body.get("tags"), "tags"),
        properties=_texts(values.get("properties"), "properties.properties"),
        app_insights=bool(values.get("appInsightsEnabled")),
        scale=_scale(values, kind),
        passed_on=_passed_on(values, kind),
    )


def _kind(values: Mapping[str, Any]) -> Literal["Managed", "Kubernetes"]:
    kinds: Mapping[str, Literal["Managed", "Kubernetes"]] = {"managed": "Managed", "kubernetes": "Kubernetes"}
    written = values.get("endpointComputeType") or "Managed"
    kind = kinds.get(str(written).casefold())
    if kind is None:
        raise rules.invalid(f"endpointComputeType '{written}' is not one of Managed, Kubernetes.")
    return kind


def _check_collector(collector: Mapping[str, Any]) -> None:
    """What is collected is not written here: the settings are kept and shown."""
    for name, collection in _mapping(collector.get("collections"), "dataCollector.collections").items():
        rate = _mapping(collection, f"dataCollector.collections.{name}").get("samplingRate")
        if rate is not None and (not isinstance(rate, int | float) or not 0 <= rate <= 1):
            raise rules.invalid(f"dataCollector.collections.{name}.samplingRate must be from 0 to 1, not {rate!r}.")


def _scale(values: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    scale = _mapping(values.get("scaleSettings"), "scaleSettings") or {"scaleType": "Default"}
    if scale.get("scaleType") not in {"Default", "TargetUtilization"}:
        raise rules.invalid(f"scaleType '{scale.get('scaleType')}' is not one of Default, TargetUtilization.")
    if kind == "Managed" and scale["scaleType"] != "Default":
        raise rules.invalid(
            "A managed deployment has scaleType Default: it is scaled by an autoscale setting of Azure Monitor."
        )
    return dict(scale)


def _passed_on(values: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """What is kept and shown without effect here."""
    for probe in ("livenessProbe", "readinessProbe"):
        for name, value in _mapping(values.get(probe), probe).items():
            if name in {"failureThreshold", "successThreshold"}:
                _whole(value, f"{probe}.{name}", 1, 10_000)
            else:
                _milliseconds(value, f"{probe}.{name}", 0)
    kept = {key: values[key] for key in PASSED_ON if values.get(key) is not None}
    if kind == "Kubernetes":
        kept.setdefault("containerResourceRequirements", DEFAULT_RESOURCES)
    return kept


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise rules.invalid(f"{name} must be an object, not {value!r}.")
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise rules.invalid(f"{name} is required and must be text.")
    return value


def _texts(value: object, name: str) -> dict[str, str]:
    return {str(key): str(item) for key, item in _mapping(value, name).items()}


def _shares(value: object) -> dict[str, int]:
    shares: dict[str, int] = {}
    for name, share in _mapping(value, "traffic").items():
        if isinstance(share, bool) or not isinstance(share, int):
            raise rules.invalid(f"traffic.{name} must be a whole percent, not {share!r}.", code="InvalidTraffic")
        shares[str(name)] = share
    return shares


def _whole(value: object, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise rules.invalid(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
    return value


def _timeout(value: object, longest: int) -> int:
    milliseconds = _milliseconds(value, "requestTimeout", 5_000)
    if not 0 < milliseconds <= longest:
        raise rules.invalid(f"requestTimeout must be at most {longest // 1000} s, not {value!r}.")
    return milliseconds


_ISO = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def _milliseconds(value: object, name: str, default: int) -> int:
    """Milliseconds of an ISO 8601 duration such as PT5S."""
    if value is None:
        return default
    match = _ISO.fullmatch(str(value))
    if match is None or not any(match.groups()):
        raise rules.invalid(f"{name} must be an ISO 8601 duration such as PT5S, not {value!r}.")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round(((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1000)
