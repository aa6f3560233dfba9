"""Cells: what one deployment answered in one minute, as counts by class and latency histograms.

The rule: cells of the same deployment and minute are replaced, cells of different minutes add up, and a missing cell is
missing, never zero. A histogram maps a bucket to a count: bucket b holds durations from 2^(b/8) to 2^((b+1)/8) ms
(eight to the octave, growth 9.05 %); `UNTIMED` holds requests whose duration is not known (platform metrics have none).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import floor, log2

BUCKETS_PER_OCTAVE = 8
UNTIMED = -1

#: How a request ended: answered well, refused as the caller's fault, failed by the service, failed in the model,
#: refused by the model as the caller's fault, throttled (429), timed out (408), given up by its client.
CLASSES = ("ok", "4xx", "5xx", "model_5xx", "model_4xx", "throttled", "timeout", "gone")
ERROR_CLASSES = ("5xx", "model_5xx", "throttled", "timeout")
CLIENT_ERROR_CLASSES = ("4xx", "model_4xx")

Histogram = Mapping[int, int]


def bucket(milliseconds: float) -> int:
    """The histogram bucket of a duration in milliseconds; durations below 1 ms fall in bucket 0."""
    return floor(BUCKETS_PER_OCTAVE * log2(max(1.0, milliseconds)) + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One deployment in one minute: for each class a histogram of durations."""

    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def count(self, *classes: str) -> int:
        """Requests of these classes; of all classes where none is named."""
        return sum(sum(self.histograms.get(name, {}).values()) for name in classes or CLASSES)


def merge(cells: Iterable[Cell]) -> Cell:
    """The sum of cells of different minutes."""
    total: dict[str, dict[int, int]] = {}
    for cell in cells:
        for name, histogram in cell.histograms.items():
            into = total.setdefault(name, {})
            for index, count in histogram.items():
                into[index] = into.get(index, 0) + count
    return Cell(histograms=total)
