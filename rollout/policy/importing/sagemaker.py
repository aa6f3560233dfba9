"""SageMaker deployment guardrails: a DeploymentConfig, alone or in an UpdateEndpoint request or a CloudFormation template.

The rule: the traffic routing is the steps, the waiting times are the bakes. Alarms are only named there; what they compare
is not in the file, so the usual comparison with stable takes their place, and they are told by name.
"""

from datetime import timedelta

from rollout.documents.units import show
from rollout.policy.importing.draft import Draft, Share
from rollout.policy.importing.node import Node

_POLICIES = ("BlueGreenUpdatePolicy", "RollingUpdatePolicy")
_GUESSED_CANARY, _GUESSED_STEP = 10, 25  # where a size is given in instances


def convert(nodes: list[Node]) -> Draft:
    """The draft of a policy. Raises PolicyError."""
    config, name = _find(nodes[0])
    if config is None:
        nodes[0].fail("there is no DeploymentConfig with a BlueGreenUpdatePolicy or a RollingUpdatePolicy in this file")
    draft = Draft()
    draft.named(name, what="the SageMaker endpoint's name")
    blue_green, rolling = config.get(_POLICIES[0]), config.get(_POLICIES[1])
    if blue_green is not None:
        _blue_green(draft, blue_green)
    elif rolling is not None:
        _rolling(draft, rolling)
    _alarms(draft, config)
    return draft


def _find(node: Node) -> tuple[Node | None, Node | None]:
    """The DeploymentConfig, and the endpoint's name, wherever they stand."""
    if not isinstance(node.value, dict):
        node.fail("this is no JSON object: a DeploymentConfig is expected")
    if any(node.has(name) for name in _POLICIES):
        return node, None
    if node.get("DeploymentConfig") is not None:
        return node.need("DeploymentConfig"), node.get("EndpointName")
    resources = node.get("Resources")
    for resource in resources.fields().values() if resources else ():
        kind = resource.get("Type") if isinstance(resource.value, dict) else None
        if kind is not None and kind.value == "AWS::SageMaker::Endpoint" and resource.get("Properties"):
            properties = resource.need("Properties")
            name = properties.get("EndpointName")
            named = name if name is not None and isinstance(name.value, str) else None
            return properties.get("DeploymentConfig"), named
    return None, None


def _blue_green(draft: Draft, policy: Node) -> None:
    routing = policy.need("TrafficRoutingConfiguration")
    kind = routing.need("Type").text()
    wait = _seconds(routing.get("WaitIntervalInSeconds"))
    if kind == "CANARY":
        first = _size(draft, routing.need("CanarySize"), usual=_GUESSED_CANARY)
        shares = [first, 100]
    elif kind == "LINEAR":
        shares = _linear(_size(draft, routing.need("LinearStepSize"), usual=_GUESSED_STEP))
    elif kind == "ALL_AT_ONCE":
        shares = [100]
        draft.note(
            routing,
            "all traffic at once leaves only the 5% held back to compare with: think of a small step before it, such as 10%",
        )
    else:
        routing.need("Type").fail(f"{show(kind)} is none of ALL_AT_ONCE, CANARY and LINEAR")
    last = _seconds(policy.get("TerminationWaitInSeconds"))
    _steps(draft, shares, wait, last, routing, policy)
    _deadline(draft, policy)


def _rolling(draft: Draft, policy: Node) -> None:
    size = _size(draft, policy.need("MaximumBatchSize"), usual=_GUESSED_STEP)
    wait = _seconds(policy.get("WaitIntervalInSeconds"))
    _steps(draft, _linear(size), wait, None, policy, policy)
    draft.note(
        policy, "instances are not replaced in batches: both deployments keep theirs, and only the traffic moves"
    )
    if policy.has("RollbackMaximumBatchSize"):
        draft.note(policy.get("RollbackMaximumBatchSize"), "a roll back in batches: here all traffic goes back at once")
    _deadline(draft, policy)


def _linear(step: int) -> list[int]:
    return [*range(step, 100, step), 100]


def _seconds(node: Node | None) -> timedelta | None:
    return node.duration() if node is not None else None


def _size(draft: Draft, size: Node, *, usual: int) -> int:
    kind, value = size.need("Type").text(), size.need("Value")
    if kind == "INSTANCE_COUNT":
        draft.note(size, f"{show(value.value)} instances, of a number that is not in the file: taken for {usual}%")
        return usual
    if kind != "CAPACITY_PERCENT":
        size.need("Type").fail(f"{show(kind)} is none of INSTANCE_COUNT and CAPACITY_PERCENT")
    share = value.percent()
    if share == 0:
        value.fail("0 % of the traffic is no step")
    return share


def _steps(
    draft: Draft, shares: list[int], wait: timedelta | None, last: timedelta | None, routing: Node, policy: Node
) -> None:
    waiting, ending = routing.get("WaitIntervalInSeconds"), policy.get("TerminationWaitInSeconds")
    for share in shares:
        node, bake, told = (waiting, wait, "WaitIntervalInSeconds") if share < 100 else (ending, last, _POLICIES[0])
        if share == 100:
            told = "TerminationWaitInSeconds"
        if bake:
            draft.shares.append(Share(traffic=share, bake=draft.baked(bake, node), told=told))
        else:
            draft.shares.append(Share(traffic=share))
    if wait is not None and not wait:
        draft.note(waiting, "no time between the steps: nothing could be judged in it, so each bakes as usual (15m)")


def _deadline(draft: Draft, policy: Node) -> None:
    longest = policy.get("MaximumExecutionTimeoutInSeconds")
    if longest is not None:
        length = longest.duration()
        if length:
            draft.deadline, draft.deadline_from = (
                length,
                "MaximumExecutionTimeoutInSeconds; pauses here, rolls back there",
            )


def _alarms(draft: Draft, config: Node) -> None:
    alarms = config.get("AutoRollbackConfiguration", "Alarms")
    named = []
    for alarm in alarms.items() if alarms else ():
        name = alarm.get("AlarmName")
        named.append(show(name.value).strip('"') if name else "one without a name")
        draft.note(
            alarm,
            f"the alarm {named[-1]}: its metric and threshold are not in this file; the candidate's errors and latency are "
            "compared with stable's instead (an absolute bound is a check's `max`)",
        )
    if not named:
        draft.note(config, "no alarms: SageMaker would never roll back; here a candidate that is worse than stable is")
