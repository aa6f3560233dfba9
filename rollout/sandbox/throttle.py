"""How many requests a subscription may send: ARM's token buckets, told in every answer.

The rule: the buckets fill on the sandbox's clock, so that a client which is polite at speed 1 is polite at any speed.
Source of the sizes: Microsoft's "Understand how Azure Resource Manager throttles requests" (buckets per region and
principal: 250 reads refilled by 25 a second, 200 writes and 200 deletes refilled by 10).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["reads", "writes", "deletes"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One bucket: requests it holds, and how many come back a second."""

    holds: float
    refill: float


SIZES: Mapping[Kind, Size] = {
    "reads": Size(holds=250, refill=25),
    "writes": Size(holds=200, refill=10),
    "deletes": Size(holds=200, refill=10),
}


class Buckets:
    """What is left for reads, writes and deletes."""

    def __init__(self, sizes: Mapping[Kind, Size] = SIZES) -> None:
        self._sizes = sizes
        self._left: dict[Kind, float] = {kind: size.holds for kind, size in sizes.items()}
        self._filled: dict[Kind, datetime] = {}

    def take(self, kind: Kind, *, now: datetime) -> float | None:
        """Take one request; None if there was one, else the seconds until the next will be there."""
        size = self._sizes[kind]
        passed = (now - self._filled.get(kind, now)).total_seconds()
        self._left[kind] = min(size.holds, self._left[kind] + passed * size.refill)
        self._filled[kind] = now
        if self._left[kind] < 1:
            return (1 - self._left[kind]) / size.refill
        self._left[kind] -= 1
        return None

    def left(self, kind: Kind) -> int:
        """How many whole requests are left."""
        return int(self._left[kind])


def kind_of(method: str) -> Kind:
    """Which bucket a request of this method takes from."""
    if method == "DELETE":
        return "deletes"
    return "reads" if method in ("GET", "HEAD") else "writes"
