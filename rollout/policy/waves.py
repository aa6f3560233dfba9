"""Waves: one policy over several endpoints, such as those of regions, one group after the other.

The rule: a wave is written in the order in which it comes, and every endpoint stands in one wave only. What an endpoint
does not say of itself (`workspace`, `stable`, `candidate`) is the policy's.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from rollout.documents.mistakes import rule
from rollout.documents.models import Model
from rollout.documents.names import AzureName, Deployment, Name
from rollout.documents.text import Path
from rollout.documents.units import Duration, between, show

if TYPE_CHECKING:
    from rollout.policy.model import Policy

MAX_WAVES, MAX_IN_A_WAVE = 20, 50
#: What `endpoint_name` is while the first endpoint of the waves is not known; its mistake is told where it stands.
NO_ENDPOINT = "not-known"


class Target(Model):
    """One endpoint of a wave, with what it has of its own."""

    endpoint_name: AzureName = Field(description="The online endpoint", examples=["recommender-weu"])
    workspace: Name | None = Field(default=None, description="Its workspace, where it is not the policy's")
    stable: Deployment = Field(default=None, description="Its deployment that serves today")
    candidate: Deployment = Field(default=None, description="Its deployment that is to serve")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"endpoint_name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        full = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [full["properties"]["endpoint_name"], full]}


Pause = Annotated[Duration, AfterValidator(between(timedelta(0), timedelta(days=14)))]
Wave = Annotated[tuple[Target, ...], Field(max_length=MAX_IN_A_WAVE, json_schema_extra={"minItems": 1})]


class Waves(Model):
    """Which endpoints come after which, and what a bad one means for the others."""

    order: tuple[Wave, ...] = Field(
        max_length=MAX_WAVES,
        json_schema_extra={"minItems": 1},
        description="The waves; a wave begins when every endpoint of those before it has been promoted",
        examples=[[["recommender-weu"], ["recommender-neu", "recommender-eus"]]],
    )
    between: Pause = Field(
        default=timedelta(hours=1), description="How long a wave serves before the next one begins", examples=["2h"]
    )
    on_regression: Literal["stop", "rollback"] = Field(
        default="stop",
        description="One endpoint got worse: stop pauses the others that run, rollback moves their traffic back",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        raise ValueError("is a list: write the waves below `order:`, such as {order: [[first], [second, third]]}")

    @field_validator("order")
    @classmethod
    def _each_once(cls, value: tuple[tuple[Target, ...], ...]) -> tuple[tuple[Target, ...], ...]:
        broken = [*_empty(value), *_twice(value)]
        if broken:
            raise rule(*broken)
        return value

    def targets(self) -> tuple[Target, ...]:
        """Every endpoint, in order."""
        return tuple(target for wave in self.order for target in wave)


def _empty(waves: Sequence[Sequence[Target]]) -> Iterator[tuple[Path, str]]:
    if not waves:
        yield (), "has no wave: write at least one, such as [[recommender-weu]]"
    for at, wave in enumerate(waves):
        if not wave:
            yield (at,), "has no endpoint: name one, or take the wave out"


def _twice(waves: Sequence[Sequence[Target]]) -> Iterator[tuple[Path, str]]:
    seen: set[tuple[str | None, str]] = set()
    for at, wave in enumerate(waves):
        for index, target in enumerate(wave):
            key = (target.workspace, target.endpoint_name.casefold())
            if key in seen:
                message = f"{show(target.endpoint_name)} stands in the waves twice: write each endpoint once"
                yield (at, index, "endpoint_name"), message
            seen.add(key)


def with_first_endpoint(written: Any) -> Any:
    """A policy's fields, with the first endpoint of its waves as `endpoint_name` where it has waves."""
    if not isinstance(written, dict) or "endpoint_name" in written or written.get("waves") is None:
        return written
    found = written["waves"]
    while isinstance(found, dict | list) and found:
        found = found[0] if isinstance(found, list) else found.get("order", found.get("endpoint_name"))
    try:
        name = Target.model_validate(found).endpoint_name
    except ValueError:
        name = NO_ENDPOINT
    return {**written, "endpoint_name": name}


def two_roles(waves: Waves, *, stable: str | None, candidate: str | None) -> Iterator[tuple[Path, str]]:
    """Endpoints whose stable and candidate would be the same deployment, with the policy's where they say nothing."""
    for at, wave in enumerate(waves.order):
        for index, target in enumerate(wave):
            one, other = target.stable or stable, target.candidate or candidate
            if one and other and one.casefold() == other.casefold() and (target.stable or target.candidate):
                own = "candidate" if target.candidate else "stable"
                message = f"{show(one)} would be both stable and candidate of {target.endpoint_name}: name another one"
                yield ("waves", "order", at, index, own), message


def policy_of(policy: "Policy", target: Target) -> "Policy":
    """What the policy with waves means for one endpoint: what its rollout pins."""
    own = {
        "endpoint_name": target.endpoint_name,
        "workspace": target.workspace or policy.workspace,
        "stable": target.stable or policy.stable,
        "candidate": target.candidate or policy.candidate,
    }
    return policy.model_copy(update={**own, "waves": None})


def first_of(policy: "Policy") -> "Policy":
    """The policy of one endpoint: the first of the waves, or the policy itself."""
    return policy_of(policy, policy.waves.order[0][0]) if policy.waves else policy
