"""Weighing again: the evidence of one check over the blocks that it was made of, with some numbers changed.

The rule: the same blocks unchanged give back the evidence that was told, or nothing is weighed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, floor, isclose, log10

from rollout.analysis.cells import Cell
from rollout.analysis.checks import Check
from rollout.analysis.decision import Case
from rollout.analysis.evidence import Counts, Margin, Process
from rollout.analysis.findings import Look, process_of
from rollout.analysis.fold import compared
from rollout.analysis.terms import Finding, Series

MOST_POINTS, MOST_GROWTH = 0.5, 10.0  # the largest margins that a policy can write
_HALVINGS = 30


def weigh(finding: Finding, case: Case, series: tuple[Series, ...]) -> "Weighed | None":
    """The blocks of a finding, if they give back its evidence; `series` is what the judge was shown."""
    for look in case.looks:
        for check in look.criteria.checks:
            if (look.criteria.source, check.name) == (finding.source, finding.check):
                weighed = Weighed(case=case, look=look, check=check, blocks=_blocks(case, look, check, series))
                return weighed if weighed.holds() else None
    return None


def _blocks(case: Case, look: Look, check: Check, shown: tuple[Series, ...]) -> "tuple[Block, ...]":
    """What the check has weighed so far, minute by minute."""
    series = next((one for one in shown if one.source == look.criteria.source), None)
    process, state = process_of(look.seen, check), look.seen.checks.get(check.name)
    if series is None or state is None or not process.blocks:
        return ()
    baseline, found = compared(series, case.stage), []
    for minute in sorted(baseline.keys() & series.candidate.keys()):
        taken = minute < series.closed_before or minute in series.steady
        cells = (baseline[minute], series.candidate[minute])
        if minute >= case.stage.started and taken and all(cell.count() for cell in cells):
            counts = check.counts(*cells, state.bar)
            if counts is not None:
                found.append(Block(minute=minute, cells=cells, counts=counts, bar=state.bar))
    return tuple(found[-process.blocks :])  # before the bar was known, none was weighed


@dataclass(frozen=True, kw_only=True)
class Block:
    """Both cells of a minute, as a check counts them."""

    minute: int
    cells: tuple[Cell, Cell]
    counts: Counts
    bar: float | None


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """The blocks of one check in one source, to be weighed again."""

    case: Case
    look: Look
    check: Check
    blocks: tuple[Block, ...]

    def holds(self) -> bool:
        """The blocks give back the evidence that was told."""
        told = self.look.evidence(self.check)
        return bool(self.blocks) and isclose(self._again(), told, rel_tol=1e-6)

    @property
    def since(self) -> int:
        """The minute since which the blocks speak for a fault; else the first."""
        found = process_of(self.look.seen, self.check).fault_since()
        return self.blocks[0].minute if found is None else found

    def room(self, limit: float) -> float | None:
        """What this check's own evidence must stay below for the combined one to stay below `limit`.

        None where other checks or sources reach it without this one.
        """
        others = [look for look in self.case.looks if look is not self.look]
        parts = {look.criteria.source: sum(look.part(check) for check in look.criteria.checks) for look in others}
        rest = sum(self.look.part(check) for check in self.look.criteria.checks if check is not self.check)
        if rest >= limit or any(part >= limit for part in parts.values()):
            return None
        return (limit - rest) / (self.look.criteria.weight * self.look.criteria.weights[self.check.name])

    def fewer(self, limit: float, since: int) -> int | None:
        """The least number of bad requests of the candidate, from `since` on, without which E stays below `limit`."""

        def scaled(part: float) -> float:
            return self._again(lambda c: c._replace(x=c.x * (1.0 - part)), since=since)

        if scaled(1.0) >= limit:
            return None
        part = _bisect(lambda part: scaled(part) < limit, 1.0)
        return ceil(part * sum(block.counts.x for block in self.blocks if block.minute >= since) - 1e-9)

    def more(self, limit: float, since: int) -> int | None:
        """The least number of further bad requests of the candidate, evenly from `since` on, with which E reaches it."""

        def added(part: float) -> float:
            return self._again(lambda c: c._replace(x=min(c.n, c.x + part * c.n)), since=since)

        if added(0.0) >= limit or added(1.0) < limit:
            return None
        part = _bisect(lambda part: added(part) >= limit, 1.0)
        counts = [block.counts for block in self.blocks if block.minute >= since]
        return ceil(sum(min(c.n - c.x, part * c.n) for c in counts) - 1e-9)

    def wider(self, limit: float) -> float | None:
        """The least allowed increase, as a policy would write it, under which E stays below `limit`."""
        most = MOST_POINTS if self.check.quantile is None else MOST_GROWTH
        if self._with_increase(most) >= limit:
            return None
        found = _rounded_up(_bisect(lambda part: self._with_increase(part * most) < limit, 1.0) * most)
        return found if self._with_increase(found) < limit else most

    def _with_increase(self, increase: float) -> float:
        check = replace(self.check, increase=increase)
        if check.quantile is None:
            return self._again(margin=Margin(check.margin.ratio, increase))
        blocks = [replace(block, counts=check.counts(*block.cells, block.bar) or block.counts) for block in self.blocks]
        return replace(self, blocks=tuple(blocks))._again()

    def _again(
        self, change: Callable[[Counts], Counts] | None = None, *, since: int = 0, margin: Margin | None = None
    ) -> float:
        """E over the blocks, those from `since` on changed."""
        tuning, process = self.look.criteria.tuning, Process()
        for block in self.blocks:
            counts = change(block.counts) if change and block.minute >= since else block.counts
            process = process.after(counts, margin or self.check.margin, tuning, minute=block.minute, prove=False)
        return process.evidence(tuning.horizon)


def _bisect(holds: Callable[[float], bool], high: float) -> float:
    """The least number in [0, high] for which it holds; it holds for `high`."""
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _rounded_up(value: float) -> float:
    """To two figures, a little more rather than less."""
    step = 10.0 ** (floor(log10(value)) - 1) if value > 0.0 else 0.0001
    return max(ceil(value / step - 1e-9) * step, 0.0001)
