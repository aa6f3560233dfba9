"""The shape of JSON answers: keys, types and nesting, never values or lengths. Pure.

The rule: two deployments that answer the same requests have one shape, or a caller who reads the one breaks on the other.
What an answer does not show (the items of an empty list) differs from nothing.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice

#: Items of a list that are looked at, and how deep.
MOST_ITEMS, MOST_DEEP = 1000, 40


@dataclass(eq=False)
class Shape:
    """What values at one place look like, over all answers so far."""

    kinds: set[str] = field(default_factory=set)
    keys: dict[str, "Shape"] = field(default_factory=dict)
    items: "Shape | None" = None

    def add(self, value: object, *, deep: int = 0) -> None:
        """Take in one more value."""
        self.kinds.add(_kind(value))
        if deep == MOST_DEEP:
            return
        if isinstance(value, dict):
            for key, found in value.items():
                self.keys.setdefault(key, Shape()).add(found, deep=deep + 1)
        elif isinstance(value, list) and value:
            self.items = self.items or Shape()
            for found in islice(value, MOST_ITEMS):
                self.items.add(found, deep=deep + 1)

    def take(self, body: bytes) -> None:
        """Take in an answer; what is not JSON is text."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            self.kinds.add("text that is not JSON")
        else:
            self.add(value)

    def differences(self, other: "Shape", place: str = "$") -> Iterator[tuple[str, str, str]]:
        """Where the other one differs: place, what is here, what is there; of the outermost places only."""
        if self.kinds != other.kinds:
            yield place, _listed(self.kinds), _listed(other.kinds)
            return
        for key in sorted(self.keys.keys() | other.keys.keys()):
            here, there = self.keys.get(key), other.keys.get(key)
            if here is None or there is None:
                yield _under(place, key), _listed(here.kinds if here else ()), _listed(there.kinds if there else ())
            else:
                yield from here.differences(there, _under(place, key))
        if self.items is not None and other.items is not None:
            yield from self.items.differences(other.items, f"{place}[]")


def _under(place: str, key: str) -> str:
    return f"{place}.{key[:40]}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "an object")


def _listed(kinds: Collection[str]) -> str:
    return " or ".join(sorted(kinds)) or "not there"
