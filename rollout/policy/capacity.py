"""How many instances the candidate gets before its first live request.

The rule: the short forms (`keep`, `match_stable`) and the long ones are one thing; the candidate is never made smaller.
"""

from typing import Annotated, Any, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    Strict,
    StrictInt,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from rollout.documents.models import Model
from rollout.documents.units import show

#: Azure's limit for one deployment.
MAX_INSTANCES = 50
FACTOR = 1.2
_KEEP: dict[str, object] = {"match_stable": None, "instances": None}


class Capacity(Model):
    """How many instances the candidate gets: a multiple of stable's, or a number; neither: it is kept as it is."""

    match_stable: Annotated[float, Strict()] | None = Field(
        default=None, ge=0.1, le=10, allow_inf_nan=False, description="Stable's instances times this", examples=[1.2]
    )
    instances: StrictInt | None = Field(default=None, ge=1, le=MAX_INSTANCES, description="So many instances")

    @property
    def keeps(self) -> bool:
        """The candidate stays as it is."""
        return self.match_stable is None and self.instances is None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        forms = {"keep": _KEEP, "match_stable": {"match_stable": FACTOR}}
        if isinstance(value, str):
            if value not in forms:
                raise ValueError(
                    f"{show(value)} is none of keep, match_stable, {{match_stable: 1.2}}, {{instances: 3}}"
                )
            return forms[value]
        if isinstance(value, dict) and not value:
            raise ValueError("is empty: write keep, match_stable, {match_stable: 1.2} or {instances: 3}")
        if isinstance(value, dict) and isinstance(value.get("match_stable"), int):
            factor = value["match_stable"]
            return value if isinstance(factor, bool) else {**value, "match_stable": float(factor)}
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.match_stable is not None and self.instances is not None:
            raise ValueError("has two sizes: write either match_stable or instances")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return "keep" if self.keeps else {name: found for name, found in handler(self).items() if found is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        full = handler.resolve_ref_schema(handler(schema))
        fields = full["properties"]
        each = []
        for name in ("match_stable", "instances"):
            shape = next(one for one in fields[name]["anyOf"] if one.get("type") != "null")
            told = {key: fields[name][key] for key in ("description", "examples") if key in fields[name]}
            each.append({**full, "properties": {name: {**shape, **told}}, "required": [name]})
        return {"anyOf": [{"enum": ["keep", "match_stable"]}, *each]}


#: `capacity: keep`.
KEEP = Capacity.model_construct(match_stable=None, instances=None)
