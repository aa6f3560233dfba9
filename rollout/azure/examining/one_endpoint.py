"""One endpoint looked at: its machines, its diagnostic settings, its key, its scoring address.

The rule: each of these by itself, so that one that is refused hides none of the others.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from rollout.azure.examining import reaching, traffic_log
from rollout.azure.examining.causes import attempt
from rollout.azure.examining.clients import Bound, Clients
from rollout.azure.examining.facts import EndpointFacts, Machines, Reach, Sampled, Seen, Unread
from rollout.azure.resources import endpoint_state

PREDICTION = timedelta(seconds=30)


def look_at(clients: Clients, bound: Bound, item: Any, *, sample: bytes | None) -> EndpointFacts:
    """The facts of the endpoint that Azure describes so; `sample` is sent as a prediction."""
    state = endpoint_state(item)
    facts = EndpointFacts(
        state=state,
        public=str(item["properties"].get("publicNetworkAccess")).casefold() != "disabled",
        deployments=bound.in_time(lambda: _deployments(clients, state.name)),
        diagnostics=bound.in_time(lambda: traffic_log.diagnostics(clients.manager, state.resource_id)),
        secret=bound.in_time(lambda: _secret(clients, state.name, state.auth_mode)),
        reach=_reach(clients, bound, state.scoring_uri),
    )
    if sample is None:
        return facts
    return replace(facts, sample=bound.in_time(lambda: _predict(clients, facts, sample)))


def _reach(clients: Clients, bound: Bound, address: str | None) -> Reach:
    found = bound.in_time(lambda: reaching.reach(clients.http, address))
    return Reach(status=found) if isinstance(found, Unread) else found


def _deployments(clients: Clients, endpoint: str) -> Seen[tuple[Machines, ...]]:
    def read() -> tuple[Machines, ...]:
        return tuple(_machines(each) for each in clients.resources.deployments(endpoint))

    return attempt(f"read the deployments of {endpoint}", read)


def _machines(item: Any) -> Machines:
    properties = item["properties"]
    return Machines(
        name=str(item["name"]),
        state=str(properties.get("provisioningState")),
        instance_type=properties.get("instanceType"),
        instances=int((item.get("sku") or {}).get("capacity") or 1),
    )


def _secret(clients: Clients, endpoint: str, auth_mode: str) -> Seen[str]:
    kind = {"key": "key", "aml_token": "token"}.get(auth_mode, "token of Microsoft Entra ID")

    def ask() -> str:
        clients.keys.get(endpoint, auth_mode)
        return kind

    return attempt(f"get the {kind} of {endpoint}", ask)


def _predict(clients: Clients, facts: EndpointFacts, sample: bytes) -> Seen[Sampled]:
    def ask() -> Sampled:
        answer = clients.scoring().send(facts.state, sample, deployment=None, timeout=PREDICTION)
        return Sampled(
            good=answer.status == 200,
            told=answer.why,
            deployment=answer.deployment,
            milliseconds=round(answer.milliseconds, 1),
        )

    return attempt(f"send a prediction to {facts.state.name}", ask)
