"""The base of what is read from files.

The rule: a part is built only as a part of the whole that is read, since building takes time on every start of a
command. What threads read by itself is built at once (`BUILT`): pydantic's first use of a model is not safe in threads.
"""

from pydantic import BaseModel, ConfigDict

BUILT = ConfigDict(defer_build=False)


class Model(BaseModel):
    """Frozen, and nothing in it that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
