"""Cells: what one deployment answered in one minute, as counts by class and latency histograms.

The rule: cells of the same deployment and minute are replaced, cells of different minutes add up, and a missing cell is
missing, never zero. A histogram maps a bucket to a count: bucket b holds durations from 2^(b/8) to 2^((b+1)/8) ms
(eight to the octave, growth 9.05 %); `UNTIMED` holds requests whose duration is not known (platform metrics have none).

Beside its classes a cell may hold measures, which are no requests and never counted as such: `ANSWER_SIZE`, the sizes of
good answers in bytes, in the same buckets; `REPORTED`, a quantile of the minute's latency as Azure reported it, {bucket: 1};
and `custom(NAME)`, what a check of the policy's own counted, {0: good, 1: bad}.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import floor, log2

BUCKETS_PER_OCTAVE = 8
UNTIMED = -1

#: How a request ended: answered well, refused as the caller's fault, failed by the service, failed in the model,
#: refused by the model as the caller's fault, throttled (429), timed out (408), given up by its client.
CLASSES = ("ok", "4xx", "5xx", "model_5xx", "model_4xx", "throttled", "timeout", "gone")
_CLASSES = frozenset(CLASSES)
ERROR_CLASSES = ("5xx", "model_5xx", "throttled", "timeout")
CLIENT_ERROR_CLASSES = ("4xx", "model_4xx")
#: What each kind of bad answer means, in the words of Azure's documentation.
REASONS = {
    "5xx": "failed in the platform (5xx)",
    "model_5xx": "failed in the model (424, model status 5xx)",
    "throttled": "throttled, too many pending (429)",
    "timeout": "took longer than the request time-out (408)",
    "4xx": "refused as the caller's fault (4xx)",
    "model_4xx": "refused by the model as the caller's fault (424, model status 4xx)",
    "gone": "given up by the client",
}

ANSWER_SIZE = "answer_size"
#: Latency checks and the measure that tells the quantile that Azure reported.
REPORTED = {"latency_p50": "reported_p50", "latency_p95": "reported_p95", "latency_p99": "reported_p99"}
CUSTOM = "custom:"  # what the measures of a policy's own checks begin with
GOOD, BAD = 0, 1  # the "buckets" of these

Histogram = Mapping[int, int]


def custom(name: str) -> str:
    """The measure that a policy's own check of this name counts in."""
    return f"{CUSTOM}{name}"


def bucket(milliseconds: float) -> int:
    """The histogram bucket of a duration in milliseconds; durations below 1 ms fall in bucket 0."""
    return floor(BUCKETS_PER_OCTAVE * log2(max(1.0, milliseconds)) + 1e-9)


class Ranked:
    """A histogram in the order of its durations, to be asked more than once; `UNTIMED` is left out."""

    def __init__(self, histogram: Histogram) -> None:
        self.buckets = sorted(histogram)
        if self.buckets and self.buckets[0] == UNTIMED:
            del self.buckets[0]
        self.through = list(accumulate([histogram[at] for at in self.buckets]))  # requests up to and with each bucket
        self.total = self.through[-1] if self.through else 0

    def slower(self, milliseconds: float) -> float:
        """Requests slower than this; inside a bucket the durations are taken to lie log-linearly."""
        position = BUCKETS_PER_OCTAVE * log2(max(1.0, milliseconds))
        partial = floor(position)
        at = bisect_left(self.buckets, partial)
        before = self.through[at - 1] if at else 0
        if at == len(self.buckets) or self.buckets[at] != partial:
            return float(self.total - before)
        within = self.through[at] - before
        return self.total - self.through[at] + within * (partial + 1 - position)

    def quantile(self, q: float) -> float | None:
        """The q-quantile in ms, interpolated as in `slower` (its inverse); None where no duration is known."""
        if not self.total:
            return None
        wanted = q * self.total
        at = bisect_left(self.through, wanted)
        before = self.through[at - 1] if at else 0
        return edge(self.buckets[at] + max(0.0, wanted - before) / (self.through[at] - before))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One deployment in one minute: for each class a histogram of durations, for each measure one of its own."""

    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def count(self, *classes: str) -> int:
        """Requests of these classes; of all classes where none is named."""
        sizes = self.sizes
        return sum(sizes.get(name, 0) for name in classes) if classes else self.total

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Requests by class."""
        return {name: sum(histogram.values()) for name, histogram in self.histograms.items() if name in _CLASSES}

    @cached_property
    def total(self) -> int:
        """Requests of all classes."""
        return sum(self.sizes.values())

    @cached_property
    def asked(self) -> int:
        """Requests; in a cell that only holds what a policy's own checks counted, those of the check with the most."""
        if self.sizes:
            return self.total
        counted = [sum(found.values()) for name, found in self.histograms.items() if name.startswith(CUSTOM)]
        return max(counted, default=0)

    def measure(self, name: str) -> Histogram:
        """What was measured under this name; empty where nothing was."""
        return self.histograms.get(name, {})

    @cached_property
    def answered(self) -> Ranked:
        """The durations of good answers."""
        return Ranked(self.histograms.get("ok", {}))


def merge(cells: Iterable[Cell]) -> Cell:
    """The sum of cells of different minutes."""
    total: dict[str, dict[int, int]] = {}
    for cell in cells:
        for name, histogram in cell.histograms.items():
            into = total.setdefault(name, {})
            for index, count in histogram.items():
                into[index] = into.get(index, 0) + count
    return Cell(histograms=total)


def edge(index: float) -> float:
    """The duration in ms at which bucket `index` begins."""
    return float(2.0 ** (index / BUCKETS_PER_OCTAVE))


def timed(histogram: Histogram) -> int:
    """Requests of the histogram whose duration is known."""
    return sum(histogram.values()) - histogram.get(UNTIMED, 0)


def slower(histogram: Histogram, milliseconds: float) -> float:
    """Requests slower than this: see `Ranked`."""
    return Ranked(histogram).slower(milliseconds)


def quantile(histogram: Histogram, q: float) -> float | None:
    """The q-quantile in ms: see `Ranked`."""
    return Ranked(histogram).quantile(q)


def reasons(cells: Iterable[Cell]) -> list[tuple[str, int]]:
    """Why requests went wrong, in words, with how often; the most frequent first."""
    total = merge(cells)
    counts = [(words, total.count(name)) for name, words in REASONS.items()]
    return sorted((found for found in counts if found[1]), key=lambda found: -found[1])
