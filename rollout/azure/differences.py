"""What a file would change of what Azure has, and the body of the write that does it.

The rule: pure functions over the wire form. A field that the file does not state stays as Azure has it; tags are only ever
added or changed; traffic and our own tag are never a file's to take away. What a deployment runs (model, code,
environment) is wholly as the file says. A write sends back all that Azure showed, known to us or not.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rollout.azure.resources import TAG

#: What only Azure may set: neither compared nor sent back.
READ_ONLY = frozenset({"id", "name", "type", "kind", "systemData", "etag", "location"})
READ_ONLY_PROPERTIES = frozenset({"provisioningState", "scoringUri", "swaggerUri"})
#: Where a field of a file stands in the wire form.
ENDPOINT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "description": ("properties", "description"),
    "auth_mode": ("properties", "authMode"),
    "public_network_access": ("properties", "publicNetworkAccess"),
    "compute": ("properties", "compute"),
    "identity": ("identity",),
    "mirror_traffic": ("properties", "mirrorTraffic"),
    "tags": ("tags",),
}
DEPLOYMENT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "description": ("properties", "description"),
    "model": ("properties", "model"),
    "environment": ("properties", "environmentId"),
    "code_configuration": ("properties", "codeConfiguration"),
    "model_mount_path": ("properties", "modelMountPath"),
    "environment_variables": ("properties", "environmentVariables"),
    "instance_type": ("properties", "instanceType"),
    "instance_count": ("sku", "capacity"),
    "app_insights_enabled": ("properties", "appInsightsEnabled"),
    "scale_settings": ("properties", "scaleSettings"),
    "request_settings": ("properties", "requestSettings"),
    "liveness_probe": ("properties", "livenessProbe"),
    "readiness_probe": ("properties", "readinessProbe"),
    "resources": ("properties", "containerResourceRequirements"),
    "egress_public_network_access": ("properties", "egressPublicNetworkAccess"),
    "private_network_connection": ("properties", "privateNetworkConnection"),
    "data_collector": ("properties", "dataCollector"),
    "properties": ("properties", "properties"),
    "tags": ("tags",),
}
#: Stated or not, these are as the file says.
WHAT_RUNS = frozenset({"model", "code_configuration", "environment"})
#: Mappings to which a file only adds.
ADDED_TO = frozenset({"tags", "properties"})
#: Mappings whose inner fields Azure fills with its own defaults: only those of the file are compared.
FILLED = frozenset(
    {
        "request_settings",
        "liveness_probe",
        "readiness_probe",
        "resources",
        "identity",
        "scale_settings",
        "data_collector",
    }
)
#: People's own words: compared as they are written.
EXACT = frozenset({"tags", "properties", "environment_variables", "description"})
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One field that would change, as the file calls it; None is "not there"."""

    field: str
    before: Any
    after: Any


def without_nulls(value: Any) -> Any:
    """The value without what says nothing."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def changes(
    current: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    fields: Mapping[str, tuple[str, ...]],
    stated: frozenset[str],
) -> tuple[Change, ...]:
    """What the wanted body would change of what Azure shows."""
    return tuple(
        change
        for field, path in fields.items()
        if _counts(field, stated, current)
        for change in _compared(field, _at(current, path), _at(wanted, path))
    )


def merged(
    current: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    fields: Mapping[str, tuple[str, ...]],
    stated: frozenset[str],
) -> dict[str, Any]:
    """The body of the PUT: all that Azure shows, with the file's fields in it."""
    body: dict[str, Any] = {key: value for key, value in current.items() if key not in READ_ONLY - {"location"}}
    properties = {key: value for key, value in current["properties"].items() if key not in READ_ONLY_PROPERTIES}
    body["properties"] = properties
    for field, path in fields.items():
        if _counts(field, stated, current):
            _put(body, path, _joined(field, _at(current, path), _at(wanted, path)))
    if isinstance(body.get("identity"), Mapping):
        body["identity"] = _identity(body["identity"])
    cleaned: dict[str, Any] = without_nulls(body)
    return cleaned


def _counts(field: str, stated: frozenset[str], current: Mapping[str, Any]) -> bool:
    if field == "environment" and field not in stated:
        # Azure shows the environment that it chose itself for an MLflow model. Only where the script goes does it go, too.
        had_script = _at(current, ("properties", "codeConfiguration")) is not None
        return had_script and "code_configuration" not in stated
    return field in stated or field in WHAT_RUNS


def _compared(field: str, before: Any, after: Any) -> Iterator[Change]:
    if field in ADDED_TO or (field in FILLED and isinstance(after, Mapping) and isinstance(before, Mapping)):
        old, new = before or {}, after or {}
        for key in new:
            if not (field == "tags" and key.casefold() == TAG) and new[key] is not None:
                yield from _compared_in(f"{field}.{key}", old.get(key), new[key])
    elif not same(before, after, exact=field.partition(".")[0] in EXACT):
        yield Change(field=field, before=before, after=after)


def _compared_in(field: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(after, Mapping) and isinstance(before, Mapping):
        for key, value in after.items():
            yield from _compared_in(f"{field}.{key}", before.get(key), value)
    elif not same(before, after, exact=field.partition(".")[0] in EXACT):
        yield Change(field=field, before=before, after=after)


def _joined(field: str, before: Any, after: Any) -> Any:
    if field in ADDED_TO:
        kept = {key: value for key, value in (after or {}).items() if not (field == "tags" and key.casefold() == TAG)}
        return {**(before or {}), **kept}
    return _overlaid(before, after) if field in FILLED else after


def _overlaid(before: Any, after: Any) -> Any:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    return {**before, **{key: _overlaid(before.get(key), value) for key, value in after.items() if value is not None}}


def same(before: Any, after: Any, *, exact: bool = False) -> bool:
    """Whether two values mean the same in Azure: ids and names of kinds without case, durations by length, no is empty."""
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        old, new = without_nulls(before or {}), without_nulls(after or {})
        return set(old) == set(new) and all(same(old[key], new[key], exact=exact) for key in old)
    if isinstance(before, str) and isinstance(after, str):
        return before == after or (not exact and _same_text(before, after))
    return before == after or (before in _EMPTY and after in _EMPTY)


_EMPTY: tuple[Any, ...] = (None, "", False)


def _same_text(before: str, after: str) -> bool:
    old, new = _duration(before), _duration(after)
    if old is not None and new is not None:
        return old == new
    if _is_reference(before) or _is_reference(after):
        return _reference(before) == _reference(after)
    return _is_word(before) and before.casefold() == after.casefold()


def _is_word(text: str) -> bool:
    """Names of kinds and sizes (`AMLToken`, `Standard_DS3_v2`), which Azure writes in a case of its own."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) is not None


def _is_reference(text: str) -> bool:
    return text.casefold().startswith(("/subscriptions/", "azureml:"))


def _reference(text: str) -> str:
    return text.casefold().removeprefix("azureml:").rstrip("/")


def _duration(text: str) -> timedelta | None:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = body
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _put(body: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        body[part] = dict(body.get(part) or {})
        body = body[part]
    body[path[-1]] = value


def _identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = {"type": identity.get("type")}
    if assigned := identity.get("userAssignedIdentities"):
        sent["userAssignedIdentities"] = {key: {} for key in assigned}
    return sent
