"""Autoscale settings of Azure Monitor in the sandbox: each scales one deployment, as far as it is written here.

The rule: settings are kept and shown as they were written, and what Azure refuses is refused. Nothing is scaled by itself:
there is no load here that would ask for it.
Settings outlive the deployments that they target, as on Azure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollout.sandbox import rules

MAX_PROFILES, MAX_RULES = 20, 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: its name, whom it targets (resource id), and all that was written."""

    name: str
    target: str
    body: Mapping[str, Any]


class AutoscaleSettings:
    """The autoscale settings of the resource group."""

    def __init__(self) -> None:
        self._settings: dict[str, Setting] = {}

    def all(self) -> list[Setting]:
        """All of them, by name."""
        return [self._settings[key] for key in sorted(self._settings)]

    def one(self, name: str) -> Setting:
        """One of them. Raises Refusal 404."""
        try:
            return self._settings[name.casefold()]
        except KeyError:
            raise rules.not_found(f"Resource 'Microsoft.Insights/autoscalesettings/{name}'") from None

    def put(self, name: str, body: Mapping[str, Any], *, managed: Mapping[str, bool]) -> tuple[Setting, bool]:
        """Write one; whether it is new. `managed`: the deployments that there are, by case-folded id. Raises Refusal."""
        properties = body.get("properties")
        if not body.get("location") or not isinstance(properties, Mapping):
            raise rules.invalid("An autoscale setting needs a location and properties.")
        target = str(properties.get("targetResourceUri") or "")
        if target.casefold() not in managed:
            message = f"The target resource '{target}' could not be found."
            raise rules.Refusal(404, "TargetResourceNotFound", message)
        if not managed[target.casefold()]:
            raise rules.invalid("Deployments of Kubernetes endpoints are not scaled by autoscale settings.")
        _check_profiles(properties.get("profiles"))
        for other in self._settings.values():
            if other.target.casefold() == target.casefold() and other.name.casefold() != name.casefold():
                message = f"The autoscale setting {other.name} targets {target} already: a resource has one at most."
                raise rules.Refusal(409, "Conflict", message)
        new = name.casefold() not in self._settings
        setting = Setting(name=name, target=target, body=dict(body))
        self._settings[name.casefold()] = setting
        return setting, new

    def delete(self, name: str) -> bool:
        """Take one off; False where there is none."""
        return self._settings.pop(name.casefold(), None) is not None


def _check_profiles(profiles: object) -> None:
    if not isinstance(profiles, list) or not 1 <= len(profiles) <= MAX_PROFILES:
        raise rules.invalid(f"An autoscale setting has 1 to {MAX_PROFILES} profiles.")
    for profile in profiles:
        if not isinstance(profile, Mapping) or not profile.get("name"):
            raise rules.invalid("Each profile of an autoscale setting needs a name.")
        capacity = profile.get("capacity")
        found = [_count(capacity, key) for key in ("minimum", "default", "maximum")]
        if not found[0] <= found[1] <= found[2]:
            raise rules.invalid(
                f"The capacity of profile {profile['name']} must be minimum <= default <= maximum, not "
                f"{found[0]}, {found[1]}, {found[2]}."
            )
        written = profile.get("rules")
        if not isinstance(written, list) or len(written) > MAX_RULES:
            raise rules.invalid(f"Profile {profile['name']} has rules, {MAX_RULES} at most.")


def _count(capacity: object, key: str) -> int:
    value = capacity.get(key) if isinstance(capacity, Mapping) else None
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).isdecimal():
        raise rules.invalid(f"capacity.{key} must be a number of instances, not {value!r}.")
    return int(value)
