"""What policies ask of Azure beyond moving traffic: requests of their own, deployments to write, autoscale settings.

The rule: read from the policy as it would be pinned; a policy with waves asks it of each of its endpoints.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rollout.cli.doctor.actions import AUTOSCALE, CREATE, DELETE, SCALE, Need
from rollout.policy import Policy
from rollout.policy.waves import policy_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one policy asks of one endpoint. `sample` is a request that it sends, None: it sends none."""

    endpoint: str
    workspace: str | None = None
    sample: str | None = None
    needs: tuple[Need, ...] = ()


def asked_of(policies: Iterable[Policy]) -> list[Asked]:
    """What each policy asks of each of its endpoints."""
    return [_asked(each) for policy in policies for each in _single(policy)]


def _single(policy: Policy) -> Iterator[Policy]:
    if policy.waves is None:
        yield policy
    else:
        yield from (policy_of(policy, target) for target in policy.waves.targets())


def _asked(policy: Policy) -> Asked:
    requests = [each.requests for each in (policy.probes, policy.smoke_test) if each is not None]
    return Asked(
        endpoint=policy.endpoint_name,
        workspace=policy.workspace,
        sample=requests[0][0] if requests else None,
        needs=tuple(dict.fromkeys(_needs(policy))),
    )


def _needs(policy: Policy) -> Iterator[Need]:
    if policy.manifest is not None:
        yield CREATE
    if not policy.capacity.keeps or policy.after.then != "keep":
        yield from (SCALE, AUTOSCALE)
    if policy.after.then == "delete":
        yield DELETE
