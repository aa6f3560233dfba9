"""What pairs of answers tell, and the minutes that they add up to. Pure.

The rule: both answers of a pair lie in the minute in which the later one came, so that a minute that is over no longer
changes and its cells always compare. A pair that says nothing about the deployments counts nowhere.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from rollout.analysis.cells import ERROR_CLASSES, Cell, bucket
from rollout.ports import Answer

#: Answers about the key, not about the model behind it.
_NOT_LET_IN = frozenset({401, 403})
_SIZE = "answer_size"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to the same request, asked for at the same moment."""

    baseline: Answer
    candidate: Answer

    @property
    def failed(self) -> bool:
        """Only the candidate's answer is bad."""
        return self.baseline.cls == "ok" and self.candidate.cls in ERROR_CLASSES

    @property
    def good(self) -> bool:
        """Both answers are."""
        return self.baseline.cls == self.candidate.cls == "ok"

    @property
    def behind(self) -> float:
        """How much later than stable's the candidate's answer came, in seconds; 0 where it did not."""
        return max(0.0, self.candidate.milliseconds - self.baseline.milliseconds) / 1000

    @property
    def turned_away(self) -> Answer | None:
        """An answer to the key instead of the request, if there is one: it will be the same for every pair."""
        return next((answer for answer in (self.baseline, self.candidate) if answer.status in _NOT_LET_IN), None)

    @property
    def counts(self) -> bool:
        """It says something about the deployments: both requests were let in, and at least one reached the service."""
        unreached = all(answer.status is None and answer.cls != "timeout" for answer in (self.baseline, self.candidate))
        return self.turned_away is None and not unreached


class Minutes:
    """Cells of both deployments that are not in the store yet, or still change there."""

    def __init__(self) -> None:
        self._counts: dict[int, tuple[_Counts, _Counts]] = defaultdict(lambda: (_Counts(), _Counts()))

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, pair: Pair, minute: int) -> None:
        """Count a pair that was answered in this minute."""
        baseline, candidate = self._counts[minute]
        baseline.add(pair.baseline)
        candidate.add(pair.candidate)

    def cells(self) -> tuple[Mapping[int, Cell], Mapping[int, Cell]]:
        """Stable's and the candidate's, by minute."""
        counts = self._counts.items()
        return {at: ours.cell() for at, (ours, _) in counts}, {at: theirs.cell() for at, (_, theirs) in counts}

    def forget(self, before: int) -> None:
        """Minutes before this one are in the store."""
        for minute in [minute for minute in self._counts if minute < before]:
            del self._counts[minute]


class _Counts:
    """A cell that grows."""

    def __init__(self) -> None:
        self._histograms: dict[str, Counter[int]] = defaultdict(Counter)

    def add(self, answer: Answer) -> None:
        self._histograms[answer.cls][bucket(answer.milliseconds)] += 1
        if answer.cls == "ok":
            self._histograms[_SIZE][bucket(answer.size)] += 1

    def cell(self) -> Cell:
        return Cell(histograms={name: dict(found) for name, found in self._histograms.items()})
