"""What a workspace has room for: names, numbers, clusters, cores.

The rule: pure checks of a wish against what is there; the refusals are Azure's (`rules.py`).
"""

from collections.abc import Collection, Iterable, Mapping

from rollout.sandbox import rules, skus
from rollout.sandbox.resources import Deployment, DeploymentSpec, Endpoint, EndpointSpec, Identity, Traffic

MOST_MIRRORED = 50  # percent


def check_new_endpoint(name: str, *, count: int, taken: Collection[str]) -> None:
    """A name that is free in the region, and room for one more. `taken`: case-folded. Raises Refusal."""
    rules.check_name(name, "endpoint")
    if name.casefold() in taken:
        cause = "There is already an endpoint with this name, Endpoint name needs to be unique within a region."
        raise rules.inference_invalid("", f"{cause} Try some other name.")
    if count >= rules.MAX_ENDPOINTS:
        raise rules.invalid(
            f"The subscription has {rules.MAX_ENDPOINTS} endpoints in this region already.", code="QuotaExceeded"
        )


def check_new_deployment(name: str, parent: Endpoint, *, count: int) -> None:
    """A good name, and room for one more. Raises Refusal."""
    rules.check_name(name, "deployment")
    if count >= rules.MAX_DEPLOYMENTS:
        raise rules.invalid(
            f"Endpoint {parent.name} has {rules.MAX_DEPLOYMENTS} deployments already.", code="QuotaExceeded"
        )


def check_compute(wish: EndpointSpec, old: Endpoint | None, *, clusters: Iterable[str], identity: Identity) -> None:
    """A Kubernetes endpoint lives on an attached cluster, and stays what it is. Raises Refusal."""
    if old is not None and (old.spec.compute or "").casefold() != (wish.compute or "").casefold():
        raise rules.invalid(f"The compute of endpoint {old.name} cannot be changed.")
    known = {f"{identity.workspace}/computes/{name}".casefold() for name in clusters}
    if old is None and wish.compute is not None and wish.compute.casefold() not in known:
        raise rules.invalid(f"Compute '{wish.compute}' is not attached to the workspace.", code="ComputeNotFound")


def check_machines(
    wish: DeploymentSpec, name: str, parent: Endpoint, *, all_deployments: Iterable[Deployment], identity: Identity
) -> None:
    """The endpoint's own kind of machines, and cores that are left. Raises Refusal."""
    kind = "Managed" if parent.spec.compute is None else "Kubernetes"
    if wish.kind != kind:
        raise rules.invalid(f"Endpoint {parent.name} takes deployments of type {kind}, not {wish.kind}.")
    own = parent.name.casefold(), name.casefold()
    others = [each.spec for each in all_deployments if (each.endpoint.casefold(), each.name.casefold()) != own]
    skus.check_quota(wish, others, subscription=identity.subscription_id)


def check_mirror(
    wish: Traffic, *, known: Mapping[str, Deployment], traffic: Traffic, kubernetes: bool
) -> dict[str, int]:
    """The mirrored share, keyed as the deployment spells its name, without zeros. Raises Refusal."""
    names = {name.casefold(): name for name in known}
    asked = {name: share for name, share in wish.items() if share}
    if not asked:
        return {}
    if kubernetes:
        raise _refused("Mirrored traffic is not supported for Kubernetes online endpoints.")
    if strangers := sorted(name for name in asked if name.casefold() not in names):
        raise _refused(f"Mirror traffic names deployments that do not exist in the endpoint: {', '.join(strangers)}.")
    if len(asked) > 1:
        raise _refused("Traffic can be mirrored to one deployment only.")
    (name, share), live = next(iter(asked.items())), {key.casefold() for key, part in traffic.items() if part}
    if not 0 < share <= MOST_MIRRORED:
        raise _refused(f"The mirrored percentage must be from 0 to {MOST_MIRRORED}; {share} was given.")
    if name.casefold() in live:
        raise _refused(f"Deployment {name} cannot take live traffic and mirrored traffic at the same time.")
    found = known[names[name.casefold()]]
    if found.generation == 0:
        raise _refused(f"Deployment {found.name} cannot take traffic: it is in {found.state} provisioning state.")
    return {found.name: share}


def _refused(words: str) -> rules.Refusal:
    return rules.invalid(words, code="InvalidMirrorTraffic")
