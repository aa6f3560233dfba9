"""What becomes of the old stable once the candidate holds all traffic.

The rule: the short form (`after: keep`) asks for nothing more; with `keep_stable` the stable deployment is kept without
traffic for that long, and takes the traffic back by itself if the candidate fails meanwhile (`guarding`).
"""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from rollout.documents.models import Model
from rollout.documents.units import Duration, between

LEAST, MOST = timedelta(minutes=5), timedelta(days=30)


class After(Model):
    """What becomes of the old stable: how long it is kept to take the traffic back, and what follows then."""

    keep_stable: Annotated[Duration, AfterValidator(between(LEAST, MOST))] | None = Field(
        default=timedelta(days=1),
        description="How long stable is kept, ready to take the traffic back by itself",
        examples=["24h"],
    )
    then: Literal["keep", "scale_to_1", "delete"] = Field(default="keep", description="What becomes of stable then")

    @property
    def guards(self) -> bool:
        """The candidate is watched after the promotion, with stable ready to take the traffic back."""
        return self.keep_stable is not None

    @property
    def retires(self) -> Literal["scale_to_1", "delete"] | None:
        """What becomes of stable, where it is not kept."""
        return None if self.then == "keep" else self.then

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"keep_stable": None, "then": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.guards else self.then

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        full = handler.resolve_ref_schema(handler(schema))
        kept, then = full["properties"]["keep_stable"], full["properties"]["then"]
        shape = next(one for one in kept["anyOf"] if one.get("type") != "null")
        told = {name: kept[name] for name in ("description", "examples")}
        fields = {"keep_stable": {**shape, **told, "default": "1d"}, "then": then}
        return {"anyOf": [then, {**full, "properties": fields}]}


#: `after: keep`.
KEEP = After.model_construct(keep_stable=None, then="keep")
