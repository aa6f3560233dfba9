"""Cells as bytes: small, exact, and equal if and only if the cells are.

The rule: the first byte names the form; a form once written stays readable. Form 1 is, for each class that has requests,
its place in `PACKED_CLASSES`, the number of buckets, and for each bucket its distance from the one before and its count,
all as variable-length integers (LEB128: seven bits a byte, the lowest first). Empty classes and zero counts are dropped.
Form 2 is for cells that hold measures too: their places follow those of the classes, and where a measure has no place of
its own, `NAMED` stands there, then the length of its name and its UTF-8 bytes. A cell without measures is of form 1.
"""

from collections.abc import Iterator

from rollout.analysis.cells import ANSWER_SIZE, CUSTOM, UNTIMED, Cell, Histogram

PLAIN, MEASURED = 1, 2

#: The classes by their number in both forms: append, never reorder.
PACKED_CLASSES = ("ok", "4xx", "5xx", "model_5xx", "model_4xx", "throttled", "timeout", "gone")
#: The measures by their number in form 2, from `FIRST_MEASURE` on: append, never reorder.
PACKED_MEASURES = (ANSWER_SIZE, "reported_p50", "reported_p95", "reported_p99")
FIRST_MEASURE = 32
NAMED = 127
_PLACES = {
    **{name: place for place, name in enumerate(PACKED_CLASSES)},
    **{name: place for place, name in enumerate(PACKED_MEASURES, start=FIRST_MEASURE)},
}
_NAMES = {place: name for name, place in _PLACES.items()}


def pack(cell: Cell) -> bytes:
    """The bytes of a cell. Raises ValueError for a class, measure, bucket or count that no form can hold."""
    held = {name: counts for name, found in cell.histograms.items() if (counts := _counts(found))}
    unknown = [name for name in cell.histograms if name not in _PLACES and not name.startswith(CUSTOM)]
    if unknown:
        raise ValueError(f"a cell of class {', '.join(sorted(unknown))} cannot be packed")
    numbers = [PLAIN if held.keys() <= set(PACKED_CLASSES) else MEASURED]
    for name in sorted(held, key=lambda name: (_PLACES.get(name, NAMED), name)):
        numbers += _named(name)
        numbers.append(len(held[name]))
        before = UNTIMED
        for bucket, count in held[name]:
            numbers += [bucket - before, count]
            before = bucket
    return b"".join(_varint(number) for number in numbers)


def _counts(histogram: Histogram) -> list[tuple[int, int]]:
    return sorted((bucket, count) for bucket, count in histogram.items() if count)


def _named(name: str) -> list[int]:
    if name in _PLACES:
        return [_PLACES[name]]
    spelt = name.encode()
    return [NAMED, len(spelt), *spelt]


def unpack(data: bytes) -> Cell:
    """The cell of these bytes. Raises ValueError for a form or place that this version does not know."""
    numbers = _numbers(data)
    form = next(numbers, None)
    if form not in {PLAIN, MEASURED}:
        raise ValueError(f"cells of form {form} are not known to this version")
    histograms: dict[str, dict[int, int]] = {}
    for place in numbers:
        histogram = histograms.setdefault(_name(place, numbers), {})
        bucket = UNTIMED
        for _ in range(next(numbers)):
            bucket += next(numbers)
            histogram[bucket] = next(numbers)
    return Cell(histograms=histograms)


def _name(place: int, numbers: Iterator[int]) -> str:
    if place == NAMED:
        return bytes(next(numbers) for _ in range(next(numbers))).decode()
    if place not in _NAMES:
        raise ValueError(f"cells with a class of number {place} are not known to this version")
    return _NAMES[place]


def difference(one: bytes | None, other: bytes | None) -> int:
    """How many rows must have come or changed for the one cell to become the other; a missing cell has none.

    Measures that are told beside the requests (sizes, reported quantiles) are no rows of their own.
    """
    old, new = (dict(_flat(data)) if data else {} for data in (one, other))
    steps = [new.get(key, 0) - old.get(key, 0) for key in old.keys() | new.keys()]
    return max(sum(step for step in steps if step > 0), -sum(step for step in steps if step < 0))


def _flat(data: bytes) -> Iterator[tuple[tuple[str, int], int]]:
    for name, histogram in unpack(data).histograms.items():
        if name in PACKED_MEASURES:
            continue
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
