"""Endpoints and deployments of Azure, in a terminal and as plain values.

The rule: pure; Azure's JSON in, views and lines out. The words are those of `az ml`'s own files.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rollout.cli.terminal import Look, fold, table
from rollout.cli.words import split

if TYPE_CHECKING:
    from rollout.azure.differences import Change
    from rollout.azure.plans import Plan

Json = Mapping[str, Any]
NEW = "(new) "  # how the plan begins the id of what is still to be uploaded
_AUTH = {"key": "key", "amltoken": "aml_token", "aadtoken": "aad_token"}
_STATES = {"Succeeded": "good", "Failed": "bad", "Canceled": "bad"}


class Form(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def written(found: object, lines: Sequence[str], form: Form) -> str:
    """What to print."""
    if form is Form.JSON:
        import json

        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    if form is Form.YAML:
        import yaml

        return yaml.safe_dump(found, allow_unicode=True, sort_keys=False)
    return "".join(f"{line}\n" for line in lines)


def endpoint_view(item: Json) -> dict[str, Any]:
    """An endpoint, in the words of its file."""
    values, system = _part(item, "properties"), _part(item, "systemData")
    return {
        "name": item.get("name"),
        "kind": "kubernetes" if values.get("compute") else "managed",
        "provisioning_state": values.get("provisioningState"),
        "auth_mode": _AUTH.get(str(values.get("authMode")).casefold(), values.get("authMode")),
        "description": values.get("description"),
        "compute": values.get("compute"),
        "traffic": dict(values.get("traffic") or {}),
        "mirror_traffic": dict(values.get("mirrorTraffic") or {}),
        "public_network_access": values.get("publicNetworkAccess"),
        "identity": _part(item, "identity").get("type"),
        "scoring_uri": values.get("scoringUri"),
        "tags": dict(item.get("tags") or {}),
        "last_modified_by": system.get("lastModifiedBy"),
        "last_modified_at": system.get("lastModifiedAt"),
    }


def deployment_view(item: Json, endpoint: str) -> dict[str, Any]:
    """A deployment, in the words of its file."""
    values, code = _part(item, "properties"), _part(_part(item, "properties"), "codeConfiguration")
    return {
        "name": item.get("name"),
        "endpoint_name": endpoint,
        "type": str(values.get("endpointComputeType") or "Managed").casefold(),
        "provisioning_state": values.get("provisioningState"),
        "description": values.get("description"),
        "model": values.get("model"),
        "environment": values.get("environmentId"),
        "code_configuration": {"code": code.get("codeId"), "scoring_script": code.get("scoringScript")}
        if code
        else None,
        "environment_variables": dict(values.get("environmentVariables") or {}),
        "instance_type": values.get("instanceType"),
        "instance_count": _part(item, "sku").get("capacity"),
        "scale_settings": values.get("scaleSettings"),
        "request_settings": values.get("requestSettings"),
        "liveness_probe": values.get("livenessProbe"),
        "readiness_probe": values.get("readinessProbe"),
        "resources": values.get("containerResourceRequirements"),
        "app_insights_enabled": values.get("appInsightsEnabled"),
        "tags": dict(item.get("tags") or {}),
        "last_modified_at": _part(item, "systemData").get("lastModifiedAt"),
    }


def endpoint_lines(views: Sequence[Json], look: Look) -> list[str]:
    """`rollout endpoint list`."""
    if not views:
        return ["The workspace has no online endpoints. Create one with: rollout endpoint apply -f endpoint.yml"]
    rows = [
        [str(view["name"]), view["kind"], _state(view, look), str(view["auth_mode"]), split(dict(view["traffic"]))]
        for view in views
    ]
    return _table(("Endpoint", "Kind", "State", "Opens with", "Traffic"), rows, look)


def deployment_lines(views: Sequence[Json], traffic: Mapping[str, int], look: Look) -> list[str]:
    """`rollout deployment list`."""
    if not views:
        return ["The endpoint has no deployments. Create one with: rollout deployment apply -f deployment.yml"]
    shares = {name.casefold(): share for name, share in traffic.items()}
    rows = [
        [
            str(view["name"]),
            _state(view, look),
            f"{shares.get(str(view['name']).casefold(), 0)} %",
            short_id(view["model"]),
            f"{view['instance_count'] or '-'} × {view['instance_type'] or '-'}",
        ]
        for view in views
    ]
    return _table(("Deployment", "State", "Traffic", "Model", "Instances"), rows, look)


def details(view: Json, look: Look) -> list[str]:
    """One thing, a field a line; what is empty is left out."""
    rows = [
        [look.paint(_title(key), "quiet"), _value(key, value)]
        for key, value in view.items()
        if value not in (None, {}, "")
    ]
    return [look.characters(line) for line in table(rows)]


def plan_view(plan: "Plan", *, done: bool) -> dict[str, Any]:
    """What was or would be written, as plain values."""
    words = {"create": "created", "update": "updated", "unchanged": "unchanged"}
    return {
        "endpoint": plan.endpoint,
        "deployment": plan.deployment,
        "action": words[plan.action] if done else str(plan.action),
        "dry_run": not done,
        "changes": [{"field": each.field, "before": each.before, "after": each.after} for each in plan.changes],
        "uploads": [each.what for each in plan.uploads],
        "traffic": None if plan.traffic is None else plan.traffic.as_traffic(),
        "notes": list(plan.notes),
    }


def plan_lines(plan: "Plan", look: Look) -> list[str]:
    """What would be written: `+` new, `~` changed, `-` taken away."""
    head = {"create": "Would create", "update": "Would update", "unchanged": "Unchanged:"}[plan.action]
    lines = [look.paint(f"{head} {plan.what}", "bold")]
    said = [f"+ upload {upload.what}" for upload in plan.uploads]
    said += [_change_line(change) for change in plan.changes if not str(change.after).startswith(NEW)]
    lines += [f"  {line}" for each in said for line in fold(each, look.width - 2, indent="    ")]
    if plan.traffic is not None:
        lines.append(f"  ~ traffic: {plan.traffic}")
    lines += [line for note in plan.notes for line in fold(note, look.width)]
    return [look.characters(line) for line in lines]


def _change_line(change: "Change") -> str:
    sign = "+" if change.before in (None, {}) else "-" if change.after in (None, {}) else "~"
    value = _short(change.after if sign == "+" else change.before)
    return f"{sign} {change.field}: {value}" + (f" → {_short(change.after)}" if sign == "~" else "")


def short_id(reference: Any) -> str:
    """`name:version` of an asset's id."""
    parts = str(reference or "-").rstrip("/").split("/")
    named = f"{parts[-3]}:{parts[-1]}" if len(parts) > 3 and parts[-2] == "versions" else parts[-1]
    return named if len(named) <= 40 else f"{named[:12]}…{named[-6:]}"


def _state(view: Json, look: Look) -> str:
    state = str(view["provisioning_state"])
    return look.paint(state, _STATES.get(state, "warn"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], look: Look) -> list[str]:
    return [look.characters(line) for line in table([[look.paint(text, "quiet") for text in head], *rows])]


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _value(key: str, value: Any) -> str:
    if key in {"traffic", "mirror_traffic"}:
        return split(dict(value))
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items() if inner is not None) or "none"
    text = str(value)
    return short_id(text) if "/versions/" in text else text


def _part(item: Json, name: str) -> Mapping[str, Any]:
    found = item.get(name)
    return found if isinstance(found, Mapping) else {}
