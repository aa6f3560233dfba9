"""A rollout played on the real reconciler and store, with logs as they are: rows come by and by, errors differ."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from rollout.analysis.cells import Cell
from rollout.ports import Reading
from tests.support.local_azure import LocalLogs
from tests.support.local_fleet import LocalFleet
from tests.support.site import Site


@dataclass
class Trickling(LocalLogs):
    """Rows come by and by: a minute is first shown in part, and errors differ from minute to minute."""

    chance: Random = field(default_factory=lambda: Random(7))
    usual: dict[str, float] = field(default_factory=lambda: {"blue": 0.01, "green": 0.01})

    def note(self, minute: int) -> None:
        self.bad = {name: self.chance.uniform(0.0, 2 * base) for name, base in self.usual.items()}
        super().note(minute)

    def read(self, endpoints: Sequence[str], *, start: int, end: int, measured: Collection[str] = ()) -> Reading:
        whole = super().read(endpoints, start=start, end=end, measured=measured)
        newest = int(self.azure.clock.now().timestamp() // 60) - self.lag
        cells = {
            name: {minute: _part(cell, 0.5 if newest - minute < 2 else 1.0) for minute, cell in minutes.items()}
            for name, minutes in whole.cells[endpoints[0]].items()
        }
        return Reading(cells={endpoints[0]: cells}, start=start, end=end)


def _part(cell: Cell, share: float) -> Cell:
    return Cell(
        histograms={
            name: {at: max(1, round(count * share)) for at, count in histogram.items()}
            for name, histogram in cell.histograms.items()
        }
    )


class Played(Site):
    """A site with such a log."""

    logs: Trickling

    def __post_init__(self) -> None:
        self.logs = Trickling(self.azure)
        self.fleet = LocalFleet(self.azure)
        self.open()


def played(folder: Path, *, worse_after: int | None = None, minutes: int = 100) -> Played:
    """A rollout, over so many minutes or to its end; the candidate gets worse so many minutes after the start."""
    site = Played(folder)
    site.azure.begin()
    site.start()
    if worse_after is not None:
        site.run(minutes=worse_after)
        site.logs.usual["green"] = 0.06
    site.run(minutes=minutes)
    return site
