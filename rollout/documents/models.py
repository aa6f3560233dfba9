"""The base of what is read from files."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen, and nothing in it that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
