"""Our own requests, taken out of what platform metrics count.

The rule: metrics know no callers, so what the prober sent is subtracted by deployment, minute and class, and never below
zero: what remains is the live traffic. An answer that we did not wait for may be counted as given up by its client.
"""

from collections.abc import Mapping

from rollout.analysis.cells import CLASSES, UNTIMED, Cell, Histogram

Cells = Mapping[str, Mapping[int, Cell]]  # deployment -> minute -> cell


def without(counted: Cells, ours: Cells) -> Cells:
    """The cells of metrics without the probes' of the same deployments and minutes."""
    return {
        name: {minute: _less(cell, ours.get(name, {}).get(minute)) for minute, cell in cells.items()}
        for name, cells in counted.items()
    }


def _less(cell: Cell, own: Cell | None) -> Cell:
    if own is None:
        return cell
    left = {name: cell.count(name) for name in CLASSES}
    for name in CLASSES:
        taken = min(left[name], own.count(name))
        left[name] -= taken
        if name == "timeout":
            left["gone"] = max(0, left["gone"] - (own.count(name) - taken))
    measures = {name: found for name, found in cell.histograms.items() if name not in CLASSES}
    counts: dict[str, Histogram] = {name: {UNTIMED: count} for name, count in left.items() if count}
    return Cell(histograms={**counts, **measures})
