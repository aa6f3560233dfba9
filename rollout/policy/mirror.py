"""Mirror steps: the candidate answers copies of live requests before it gets any, and nobody reads what it says.

The rule: Azure's: copies of at most half of the requests, before the first live step, for Azure mirrors to none that is live.
"""

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from rollout.documents.models import BUILT, Model
from rollout.documents.units import Bake, Share, show

MOST = 50


def _at_most_half(value: int) -> int:
    if value > MOST:
        raise ValueError(f"{show(f'{value}%')} is out of range: Azure mirrors {MOST}% at most")
    return value


_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MOST},
        {"type": "string", "pattern": r"^0*(?:[1-9]|[1-4]\d|50) ?%?$"},
    ],
    "examples": ["10%"],
}
MirrorShare = Annotated[Share, AfterValidator(_at_most_half), WithJsonSchema(_SCHEMA)]


class MirrorStep(Model):
    """A share of the live requests that is copied, for its bake."""

    model_config = BUILT

    mirror_traffic: MirrorShare
    bake: Bake
