"""Azure's JSON of endpoints and deployments, read into our values, and an endpoint's JSON with another split.

The rule: pure functions over the wire form. What is not as it must be raises `Malformed`, so that one broken endpoint is
told apart from a broken answer; what we do not need may be missing. A write sends back everything that Azure showed,
known to us or not, but for the split, our tag, and what only Azure may set.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rollout.world import DeploymentState, EndpointKind, EndpointState, Pin, Split

#: The tag that tells people in the Studio that a rollout runs.
TAG = "rollout"
#: Azure's limits for tags.
MAX_TAGS = 50
MAX_TAG_VALUE = 256
#: Characters of a malformed value that a message repeats.
MAX_SHOWN = 80
#: What only Azure may set: not sent back.
_READ_ONLY = frozenset({"id", "name", "type", "systemData"})
_READ_ONLY_PROPERTIES = frozenset({"provisioningState", "scoringUri", "swaggerUri"})
#: What tells two versions of a deployment apart, beside the variables that are not Azure's own.
_CONTENT = ("model", "environmentId", "codeConfiguration", "instanceType", "requestSettings")
_AZURES_VARIABLES = ("AZUREML_", "AML_")
_AUTH_MODES = {"key": "key", "amltoken": "aml_token", "aadtoken": "aad_token"}


class Malformed(Exception):  # noqa: N818 - a finding about data, caught in this room
    """Azure's description of a resource lacks what we need."""


def endpoint_state(item: Any) -> EndpointState:
    """An endpoint. Raises Malformed."""
    body = _mapping(item, "the endpoint")
    properties = _mapping(body.get("properties"), "properties")
    system = _optional_mapping(body.get("systemData"))
    return EndpointState(
        name=_text(body.get("name"), "name"),
        resource_id=_text(body.get("id"), "id"),
        state=_text(properties.get("provisioningState"), "properties.provisioningState"),
        traffic=_split(properties.get("traffic"), "properties.traffic"),
        mirror_traffic=_split(properties.get("mirrorTraffic"), "properties.mirrorTraffic"),
        kind=EndpointKind.KUBERNETES if properties.get("compute") else EndpointKind.MANAGED,
        auth_mode=_auth_mode(properties.get("authMode")),
        scoring_uri=properties.get("scoringUri"),
        tags={str(key): str(value) for key, value in _optional_mapping(body.get("tags")).items()},
        last_modified_by=system.get("lastModifiedBy"),
        last_modified_at=_time(system.get("lastModifiedAt")),
    )


def deployment_state(item: Any) -> DeploymentState:
    """A deployment with its pin. Raises Malformed."""
    body = _mapping(item, "the deployment")
    properties = _mapping(body.get("properties"), "properties")
    code = _optional_mapping(properties.get("codeConfiguration"))
    system = _optional_mapping(body.get("systemData"))
    return DeploymentState(
        name=_text(body.get("name"), "name"),
        state=_text(properties.get("provisioningState"), "properties.provisioningState"),
        pin=Pin(
            model=_reference(properties.get("model")),
            environment=_reference(properties.get("environmentId")),
            code="/".join(str(part) for part in (code.get("codeId"), code.get("scoringScript")) if part) or None,
            modified_at=system.get("lastModifiedAt"),
            instances=_count(_optional_mapping(body.get("sku")).get("capacity")),
        ),
        tags={str(key): str(value) for key, value in _optional_mapping(body.get("tags")).items()},
        identity=f"{system.get('createdAt') or 'unknown'}-{_content(properties)}",
    )


def _content(properties: Mapping[str, Any]) -> str:
    """What a deployment serves, and with what, as a short digest: neither how many instances, nor when it was touched."""
    variables = _optional_mapping(properties.get("environmentVariables")).items()
    own = {name: value for name, value in variables if not str(name).startswith(_AZURES_VARIABLES)}
    content = [own, *(properties.get(name) for name in _CONTENT)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def name_of(item: Any) -> str | None:
    """The name of an item that may be malformed, if it has one."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) and name else None


def nameless(position: int) -> str:
    """What to call an item without a name."""
    return f"item {position} of the list"


def with_split(item: Any, split: Split, *, note: str | None) -> dict[str, Any]:
    """The body of the PUT that gives this endpoint another split and note. Raises Malformed."""
    body = _mapping(item, "the endpoint")
    properties = _mapping(body.get("properties"), "properties")
    sent = _without(body, _READ_ONLY)
    sent["properties"] = _without(properties, _READ_ONLY_PROPERTIES)
    sent["properties"]["traffic"] = split.as_traffic()
    sent["tags"] = _tags(_optional_mapping(body.get("tags")), note)
    if body.get("identity") is not None:
        sent["identity"] = _identity(_mapping(body["identity"], "identity"))
    return sent


def with_mirror(item: Any, mirror: Split, *, note: str | None) -> dict[str, Any]:
    """The body of the PUT that gives this endpoint other mirror traffic and another note. Raises Malformed."""
    body = _mapping(item, "the endpoint")
    traffic = _split(_mapping(body.get("properties"), "properties").get("traffic"), "properties.traffic")
    sent = with_split(item, traffic, note=note)
    sent["properties"]["mirrorTraffic"] = mirror.as_traffic()
    return sent


def with_instances(item: Any, instances: int) -> dict[str, Any]:
    """The body of the PUT that gives this deployment so many instances, and changes nothing else. Raises Malformed."""
    body = _mapping(item, "the deployment")
    sent = _without(body, _READ_ONLY)
    sent["properties"] = _without(_mapping(body.get("properties"), "properties"), _READ_ONLY_PROPERTIES)
    sent["sku"] = {"name": "Default", **_optional_mapping(body.get("sku")), "capacity": instances}
    if body.get("identity") is not None:
        sent["identity"] = _identity(_mapping(body["identity"], "identity"))
    return sent


def _without(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The values but for these names, and but for nulls, which say nothing in a PUT."""
    return {name: value for name, value in values.items() if name not in names and value is not None}


def _tags(tags: Mapping[str, Any], note: str | None) -> dict[str, Any]:
    kept = {key: value for key, value in tags.items() if key.casefold() != TAG}
    # A rollout never fails for want of room for its own note.
    return kept if note is None or len(kept) >= MAX_TAGS else kept | {TAG: note[:MAX_TAG_VALUE]}


def _identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = {"type": identity.get("type")}
    if assigned := _optional_mapping(identity.get("userAssignedIdentities")):
        sent["userAssignedIdentities"] = {key: {} for key in assigned}
    return sent


def _split(value: Any, what: str) -> Split:
    shares = _mapping({} if value is None else value, what)
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
            raise Malformed(f"{what}.{name} is {share!r}, not a whole percent")
    return Split.of(shares)


def _auth_mode(value: Any) -> str:
    return _AUTH_MODES.get(str(value).casefold(), str(value))


def _reference(value: Any) -> str | None:
    """An asset's id; some API versions wrap it in a mapping."""
    return str(value.get("assetId") or value) if isinstance(value, Mapping) else value


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise Malformed(f"{what} is {_shown(value)}")
    return value


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is {_shown(value)}" + ("" if value is None else ", not a mapping"))
    return value


def _shown(value: Any) -> str:
    """A value that is not as it must be, short."""
    return "missing" if value is None else repr(value)[:MAX_SHOWN]


def _optional_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
