"""Cells as bytes: small, exact, and equal if and only if the cells are.

The rule: the first byte names the form; a form once written stays readable. Form 1 is, for each class that has requests,
its place in `PACKED_CLASSES`, the number of buckets, and for each bucket its distance from the one before and its count,
all as variable-length integers (LEB128: seven bits a byte, the lowest first). Empty classes and zero counts are dropped.
"""

from collections.abc import Iterator

from rollout.analysis.cells import UNTIMED, Cell

FORM = 1

#: The classes by their number in form 1: append, never reorder.
PACKED_CLASSES = ("ok", "4xx", "5xx", "model_5xx", "model_4xx", "throttled", "timeout", "gone")


def pack(cell: Cell) -> bytes:
    """The bytes of a cell. Raises ValueError for a class, bucket or count that form 1 cannot hold."""
    unknown = set(cell.histograms) - set(PACKED_CLASSES)
    if unknown:
        raise ValueError(f"a cell of class {', '.join(sorted(unknown))} cannot be packed")
    numbers = [FORM]
    for place, name in enumerate(PACKED_CLASSES):
        counts = sorted((bucket, count) for bucket, count in cell.histograms.get(name, {}).items() if count)
        if not counts:
            continue
        numbers += [place, len(counts)]
        before = UNTIMED
        for bucket, count in counts:
            numbers += [bucket - before, count]
            before = bucket
    return b"".join(_varint(number) for number in numbers)


def unpack(data: bytes) -> Cell:
    """The cell of these bytes. Raises ValueError for a form that this version does not know."""
    numbers = _numbers(data)
    form = next(numbers, None)
    if form != FORM:
        raise ValueError(f"cells of form {form} are not known to this version")
    histograms: dict[str, dict[int, int]] = {}
    for place in numbers:
        histogram = histograms.setdefault(PACKED_CLASSES[place], {})
        bucket = UNTIMED
        for _ in range(next(numbers)):
            bucket += next(numbers)
            histogram[bucket] = next(numbers)
    return Cell(histograms=histograms)


def difference(one: bytes | None, other: bytes | None) -> int:
    """How many rows must have come or changed for the one cell to become the other; a missing cell has none."""
    old, new = (dict(_flat(data)) if data else {} for data in (one, other))
    steps = [new.get(key, 0) - old.get(key, 0) for key in old.keys() | new.keys()]
    return max(sum(step for step in steps if step > 0), -sum(step for step in steps if step < 0))


def _flat(data: bytes) -> Iterator[tuple[tuple[str, int], int]]:
    for name, histogram in unpack(data).histograms.items():
        for bucket, count in histogram.items():
            yield (name, bucket), count


def _varint(number: int) -> bytes:
    if number < 0:
        raise ValueError("counts and buckets of a cell cannot be negative")
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
