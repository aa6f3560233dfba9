"""Autoscale settings as values: read, raised, copied to another deployment.

The rule: everything of a setting that is not about its size or its target stays as Azure showed it. Two settings are the
same where their limits and whether they are on are: Azure writes the rest as it likes.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rollout.world import Autoscale


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a setting says of the number of instances: by profile (name, minimum, default, maximum), and whether it is on."""

    enabled: bool
    profiles: tuple[tuple[str, int, int, int], ...]

    @property
    def minimum(self) -> int:
        """The most that any profile asks for at least; 1 where it is off."""
        return max((low for _, low, _, _ in self.profiles), default=1) if self.enabled else 1


def limits_of(setting: Autoscale | None) -> Limits | None:
    """The limits of a setting; None for none. What cannot be read counts as 1."""
    if setting is None:
        return None
    properties = json.loads(setting.body).get("properties") or {}
    profiles = tuple(
        (str(each.get("name")), *(_count(each, key) for key in ("minimum", "default", "maximum")))
        for each in properties.get("profiles") or ()
    )
    return Limits(enabled=bool(properties.get("enabled", True)), profiles=profiles)  # type: ignore[arg-type]


def is_on(setting: Autoscale | None) -> bool:
    """Azure scales by it."""
    found = limits_of(setting)
    return found is not None and found.enabled


def raised(setting: Autoscale, least: int) -> Autoscale:
    """The same setting, which never goes below `least` instances."""

    def raise_all(body: dict[str, Any]) -> None:
        for profile in body["properties"].get("profiles") or ():
            found = {key: max(least, _count(profile, key)) for key in ("minimum", "default", "maximum")}
            profile["capacity"] = {**(profile.get("capacity") or {}), **{key: str(n) for key, n in found.items()}}

    return Autoscale(id=setting.id, body=_changed(setting.body, raise_all))


def copied(setting: Autoscale, *, endpoint_id: str, source: str, target: str) -> Autoscale:
    """The setting of `source` for another deployment of the endpoint, under a name of its own; its rules then watch that."""
    name = f"rollout-{endpoint_id.rpartition('/')[2]}-{target}"
    below = re.escape(f"{endpoint_id}/deployments/")
    body = re.sub(rf"({below}){re.escape(source)}(?=[\"/])", rf"\g<1>{target}", setting.body, flags=re.IGNORECASE)

    def rename(body: dict[str, Any]) -> None:
        properties = body["properties"]
        properties["targetResourceUri"] = f"{endpoint_id}/deployments/{target}"
        if "name" in properties:
            properties["name"] = name
        for profile in properties.get("profiles") or ():
            for rule in profile.get("rules") or ():
                _watch(rule, source, target)

    return Autoscale(id=f"{setting.id.rpartition('/')[0]}/{name}", body=_changed(body, rename))


def _watch(rule: dict[str, Any], source: str, target: str) -> None:
    """A rule about an endpoint's metric picks its deployment by a dimension."""
    for dimension in (rule.get("metricTrigger") or {}).get("dimensions") or ():
        if str(dimension.get("DimensionName")).casefold() == "deployment":
            values = dimension.get("Values") or ()
            dimension["Values"] = [target if str(each).casefold() == source.casefold() else each for each in values]


def _changed(text: str, change: Callable[[dict[str, Any]], None]) -> str:
    body = json.loads(text)
    body.setdefault("properties", {})
    change(body)
    return json.dumps(body, sort_keys=True)


def _count(profile: dict[str, Any], key: str) -> int:
    value = (profile.get("capacity") or {}).get(key)
    return int(str(value)) if str(value).isdecimal() else 1
