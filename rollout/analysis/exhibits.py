"""Exhibits: what was laid before the judge, look by look, so that it can be judged again.

The rule: an exhibit holds everything that a verdict was made of (stage, cells, which of them were closed or steady, when
the sources were read), told as the difference from the exhibit before. Those of a rollout, in order, give the judge
exactly what it saw: nothing is looked up, nothing is guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rollout.analysis.cells import Cell
from rollout.analysis.fold import LATE_WINDOW
from rollout.analysis.judgement import Judgement
from rollout.analysis.terms import Series, Source, Stage

#: A minute's cell, or None where the minute has none any more.
Changes = Mapping[int, Cell | None]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What one source showed at a look; of its cells those that are new or changed since the look before."""

    source: Source
    closed_before: int
    steady: tuple[int, ...]
    read_at: int  # minute of the last successful read; 0 where there was none
    baseline: Changes = field(default_factory=dict)
    candidate: Changes = field(default_factory=dict)
    failed_pairs: int = 0  # see `Series`


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One look at the cells: all that `verdict.judge` was given, but for what an exhibit before this one holds."""

    at: datetime
    stage: Stage
    sources: tuple[Shown, ...]
    begun: Judgement | None = None  # the empty judgement that judging began with, or began afresh with, at this look
    whole: bool = False  # the sources show all their cells: what was shown before counts no more

    @property
    def now(self) -> int:
        """The minute of the look, since the epoch."""
        return int(self.at.timestamp() // 60)


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What was shown of one source so far: None stands for a cell that cannot change any more."""

    baseline: Changes
    candidate: Changes


class Recorder:
    """Makes exhibits; remembers of each rollout what was shown before.

    Whoever has written an exhibit down says so with `kept`; until then the next one holds its changes too. A new recorder
    (after a restart) begins with everything again.
    """

    def __init__(self) -> None:
        self._known: dict[str, Mapping[Source, _Known]] = {}
        self._made: dict[str, Mapping[Source, _Known]] = {}

    def exhibit(
        self, rollout_id: str, *, at: datetime, stage: Stage, series: Sequence[Series], begun: Judgement | None
    ) -> Exhibit:
        """What this look shows beyond the last one that was kept."""
        known = {} if begun else self._known.get(rollout_id, {})
        self._made[rollout_id] = {one.source: _known(one) for one in series}
        return Exhibit(
            at=at,
            stage=stage,
            sources=tuple(_shown(one, known.get(one.source, _NOTHING)) for one in series),
            begun=begun,
            whole=not known,
        )

    def kept(self, rollout_id: str) -> None:
        """The last exhibit of this rollout was written down."""
        self._known[rollout_id] = self._made[rollout_id]

    def forget(self, rollout_id: str) -> None:
        """The rollout has ended."""
        self._known.pop(rollout_id, None)
        self._made.pop(rollout_id, None)


_NOTHING = _Known(baseline={}, candidate={})


def _shown(series: Series, known: _Known) -> Shown:
    return Shown(
        source=series.source,
        closed_before=series.closed_before,
        steady=tuple(sorted(minute for minute in series.steady if minute >= series.closed_before)),
        read_at=series.read_at,
        baseline=_changes(series.baseline, known.baseline),
        candidate=_changes(series.candidate, known.candidate),
        failed_pairs=series.failed_pairs,
    )


def _changes(cells: Mapping[int, Cell], known: Changes) -> dict[int, Cell | None]:
    new = {
        minute: cell
        for minute, cell in cells.items()
        if minute not in known or (known[minute] is not None and known[minute] != cell)
    }
    return new | dict.fromkeys(known.keys() - cells.keys())


def _known(series: Series) -> _Known:
    settled = series.closed_before - LATE_WINDOW
    baseline, candidate = (
        {minute: None if minute < settled else cell for minute, cell in cells.items()}
        for cells in (series.baseline, series.candidate)
    )
    return _Known(baseline=baseline, candidate=candidate)


def shown_again(shown: Shown, before: Series | None, stage: Stage) -> Series:
    """The series that the judge was given: this look's cells over those of the look before (None: there are none)."""
    baseline = _over(before.baseline if before else {}, shown.baseline)
    return Series(
        source=shown.source,
        baseline=baseline,
        candidate=_over(before.candidate if before else {}, shown.candidate),
        closed_before=shown.closed_before,
        steady=frozenset(shown.steady),
        read_at=shown.read_at,
        history={minute: cell for minute, cell in baseline.items() if minute < stage.started},
        failed_pairs=shown.failed_pairs,
    )


def _over(before: Mapping[int, Cell], changes: Changes) -> Mapping[int, Cell]:
    both = {**before, **changes}
    return {minute: cell for minute, cell in both.items() if cell is not None} if changes else before
