"""The machines that a managed deployment may ask for, and how many of their cores the subscription may use.

The rule: a deployment is charged for a fifth more instances than it asks for, as Azure reserves them for upgrades. The
quota of each family is that of a subscription at work; the F series has that of a new one, to meet the refusal.
"""

import math
from collections.abc import Iterable, Mapping

from rollout.sandbox import rules
from rollout.sandbox.resources import DeploymentSpec

#: Sizes of Microsoft's list of VM SKUs for managed online endpoints, by family: the number in a name is not always its cores.
SIZES: Mapping[str, tuple[str, int]] = {
    name.casefold(): (family, cores)
    for family, members in {
        "DSv2": {
            "Standard_DS1_v2": 1, "Standard_DS2_v2": 2, "Standard_DS3_v2": 4, "Standard_DS4_v2": 8, "Standard_DS5_v2": 16,
        },
        "DASv4": {f"Standard_D{n}as_v4": n for n in (2, 4, 8, 16, 32, 48, 64, 96)},
        "DAv4": {f"Standard_D{n}a_v4": n for n in (2, 4, 8, 16, 32, 48, 64, 96)},
        "EASv4": {f"Standard_E{n}as_v4": n for n in (2, 4, 8, 16, 20, 32, 48, 64, 96)},
        "ESv3": {f"Standard_E{n}s_v3": n for n in (2, 4, 8, 16, 20, 32, 48, 64)},
        "FSv2": {f"Standard_F{n}s_v2": n for n in (2, 4, 8, 16, 32, 48, 64, 72)},
        "LASv3": {f"Standard_L{n}as_v3": n for n in (8, 16, 32, 48, 64, 80)},
        "NCASv3_T4": {f"Standard_NC{n}as_T4_v3": n for n in (4, 8, 16, 64)},
        "NCSv3": {"Standard_NC6s_v3": 6, "Standard_NC12s_v3": 12, "Standard_NC24s_v3": 24},
        "NCADS_A100_v4": {f"Standard_NC{n}ads_A100_v4": n for n in (24, 48, 96)},
    }.items()
    for name, cores in members.items()
}  # fmt: skip
DEFAULT = "Standard_DS3_v2"
QUOTA: Mapping[str, int] = {"FSv2": 6}
USUAL_QUOTA = 2_000  # cores of every other family
RESERVE = 1.2
GUIDE = "https://aka.ms/oe-tsg#error-outofquota"


def instance_type(value: object, *, managed: bool) -> str:
    """The size that a deployment asks for. Raises Refusal for a managed one that Azure does not know."""
    if not managed:
        return str(value or "defaultinstancetype")  # of the cluster's own list
    if value is None:
        return DEFAULT
    if str(value).casefold() not in SIZES:
        raise rules.inference_invalid(
            "InstanceType", f"The instance type {value} is not supported for online endpoints in this region."
        )
    return str(value)


def check_quota(wish: DeploymentSpec, others: Iterable[DeploymentSpec], *, subscription: str) -> None:
    """Whether the subscription has the cores, beside those of the other deployments. Raises Refusal."""
    if wish.kind != "Managed":
        return
    family, _ = SIZES[wish.instance_type.casefold()]
    limit = QUOTA.get(family, USUAL_QUOTA)
    used = sum(
        _cores(each) for each in others if each.kind == "Managed" and SIZES[each.instance_type.casefold()][0] == family
    )
    needed = _cores(wish)
    if used + needed > limit:
        raise rules.inference_invalid(
            "VmSize",
            f"Not enough quota available for {wish.instance_type} in SubscriptionId {subscription}. "
            f"Current usage/limit: {used}/{limit}. Additional needed: {needed} "
            f"Please see troubleshooting guide, available here: {GUIDE}",
        )


def usage(specs: Iterable[DeploymentSpec]) -> list[tuple[str, int, int]]:
    """Family, vCPUs in use and vCPUs allowed, of every family."""
    used = dict.fromkeys((family for family, _ in SIZES.values()), 0)
    for spec in specs:
        if spec.kind == "Managed":
            used[SIZES[spec.instance_type.casefold()][0]] += _cores(spec)
    return [(family, count, QUOTA.get(family, USUAL_QUOTA)) for family, count in used.items()]


def family_name(family: str) -> str:
    """As Azure's lists spell it."""
    return f"standard{family.replace('_', '')}Family"


def _cores(spec: DeploymentSpec) -> int:
    return math.ceil(spec.instances * RESERVE) * SIZES[spec.instance_type.casefold()][1]
