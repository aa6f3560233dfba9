"""The judgement: all that the judge remembers between two looks, as one frozen value.

The rule: it advances once, over closed blocks in their order, and survives JSON without losing a bit.
"""

from dataclasses import dataclass

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the judge remembers of a rollout; make one with `verdict.begin`."""

    alpha: float
    version: int = VERSION

    def dump(self) -> str:
        """The judgement as JSON."""
        raise NotImplementedError

    @classmethod
    def load(cls, text: str) -> "Judgement":
        """What `dump` wrote. Raises ValueError for another version."""
        raise NotImplementedError
