"""Room for a second deployment: machines, quotas of their families, and autoscale settings.

The rule: quotas are the subscription's in the region (and the workspace's own share, where it has one); the family of a
machine is matched by name, since the two lists spell it differently.
"""

import re
from collections.abc import Mapping
from typing import Any

from rollout.azure.examining.causes import attempt
from rollout.azure.examining.facts import Autoscale, Quota, Seen, Size
from rollout.azure.examining.manager import ResourceManager

VERSION, AUTOSCALE_VERSION = "2024-10-01", "2022-10-01"
_NOISE = re.compile(r"cluster|dedicated|vcpus|cores|[^a-z0-9]")


def family_key(name: str) -> str:
    """A family's name as both lists can be compared by: `Standard DSv2 Family Cluster Dedicated vCPUs` is `standardDSv2Family`."""
    return _NOISE.sub("", name.casefold())


def quotas(manager: ResourceManager, *, subscription: str, region: str, workspace: str) -> Seen[tuple[Quota, ...]]:
    """vCPUs by family, of dedicated machines."""

    def read() -> tuple[Quota, ...]:
        items = manager.pages(f"{_location(subscription, region)}/usages", VERSION)
        return tuple(_quota(each) for each in items if _is_ours(each, workspace))

    return attempt("read the quotas of machines", read)


def sizes(manager: ResourceManager, *, subscription: str, region: str) -> Seen[Mapping[str, Size]]:
    """Kinds of machines by case-folded name."""

    def read() -> Mapping[str, Size]:
        items = manager.pages(f"{_location(subscription, region)}/vmSizes", VERSION)
        return {each["name"].casefold(): Size(family=each["family"], cores=int(each["vCPUs"])) for each in items}

    return attempt("read the sizes of machines", read)


def autoscale(manager: ResourceManager, *, subscription: str, group: str) -> Seen[tuple[Autoscale, ...]]:
    """The autoscale settings of online deployments in the resource group."""
    path = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Insights/autoscalesettings"

    def read() -> tuple[Autoscale, ...]:
        found = (_autoscale(each) for each in manager.pages(path, AUTOSCALE_VERSION))
        return tuple(each for each in found if "/onlineendpoints/" in each.target)

    return attempt("read the autoscale settings", read)


def _location(subscription: str, region: str) -> str:
    return f"/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{region}"


def _is_ours(item: Mapping[str, Any], workspace: str) -> bool:
    """Of the subscription or this workspace, and not of low-priority machines."""
    place = str(item.get("id")).casefold()
    elsewhere = "/workspaces/" in place and f"{workspace.casefold()}/" not in f"{place}/"
    return not elsewhere and "lowpriority" not in f"{item.get('type')}{_name(item)}".replace(" ", "").casefold()


def _quota(item: Mapping[str, Any]) -> Quota:
    return Quota(family=_name(item), used=int(item["currentValue"]), limit=int(item["limit"]))


def _name(item: Mapping[str, Any]) -> str:
    name = item.get("name") or {}
    return str(name.get("value") or name.get("localizedValue") or "")


def _autoscale(item: Mapping[str, Any]) -> Autoscale:
    properties = item["properties"]
    capacity = properties["profiles"][0]["capacity"]
    return Autoscale(
        name=str(item["name"]),
        target=str(properties.get("targetResourceUri") or "").casefold(),
        enabled=bool(properties.get("enabled", True)),
        least=int(capacity["minimum"]),  # written as text
        most=int(capacity["maximum"]),
    )
