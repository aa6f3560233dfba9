"""What a fresh reading does to the cells that are stored. Pure.

The rule: an open minute is replaced by what was read, and what is gone from it is removed. A minute closes with the first
reading that shows it after its time; from then on nothing in it changes, whatever comes, and what would have changed it
is counted. Only a minute in which no deployment had a cell can still come as a whole: that is a silent pipe, not a judged
minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rollout.store.packing import difference

#: How often an unchanged cell is counted: the analysis trusts an open cell after two looks, and what is no longer
#: counted need not be written.
STEADY = 2

#: A deployment and a minute.
Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class StoredCell:
    """A row of the table of cells. `cell` None: the minute closed without one, and `late` rows came after."""

    cell: bytes | None
    unchanged: int = 0
    closed: bool = False
    late: int = 0


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What to write. `news`: a cell changed, became steady, or closed."""

    put: Mapping[Key, StoredCell] = field(default_factory=dict)
    remove: frozenset[Key] = frozenset()
    news: bool = False


def compare(*, stored: Mapping[Key, StoredCell], read: Mapping[Key, bytes], closed_before: int) -> Changes:
    """The changes that a reading brings; both mappings hold the minutes of its window and no others."""
    shut = {minute for (_, minute), cell in stored.items() if cell.closed}
    put: dict[Key, StoredCell] = {}
    remove: set[Key] = set()
    for key in stored.keys() | read.keys():
        old, new, minute = stored.get(key), read.get(key), key[1]
        if minute in shut:
            put[key] = _late(old, new)
        elif new is None:
            remove.add(key)
        else:
            put[key] = _open(old, new, closes=minute < closed_before)
    put = {key: cell for key, cell in put.items() if cell != stored.get(key)}
    news = bool(remove) or any(key[1] not in shut for key in put)
    return Changes(put=put, remove=frozenset(remove), news=news)


def _late(old: StoredCell | None, new: bytes | None) -> StoredCell:
    kept = old or StoredCell(cell=None, closed=True)
    return replace(kept, late=difference(kept.cell, new))


def _open(old: StoredCell | None, new: bytes, *, closes: bool) -> StoredCell:
    if old is None or old.cell != new:
        return StoredCell(cell=new, closed=closes)
    return replace(old, unchanged=min(old.unchanged + 1, STEADY), closed=closes)
