"""Counts on their way to cells: endpoint -> deployment -> minute -> class -> bucket -> requests.

The rule: counts of the same place add up (Azure may write one name in two ways), names of endpoints and deployments are
case-folded, and a place without requests leaves no cell.
"""

from collections.abc import Iterable, Mapping

from rollout.analysis.cells import Cell

Place = tuple[str, str, int]


class Tally:
    """Collects counts and gives cells."""

    def __init__(self) -> None:
        self._counts: dict[Place, dict[str, dict[int, int]]] = {}

    def add(self, place: Place, cls: str, histogram: Iterable[tuple[int, int]]) -> None:
        """Requests of one class at a place (endpoint, deployment, minute), by bucket."""
        endpoint, deployment, minute = place
        classes = self._counts.setdefault((endpoint.casefold(), deployment.casefold(), minute), {})
        into = classes.setdefault(cls, {})
        for bucket, count in histogram:
            into[bucket] = into.get(bucket, 0) + count

    def cells(self) -> Mapping[str, Mapping[str, Mapping[int, Cell]]]:
        """Endpoint -> deployment -> minute -> cell."""
        found: dict[str, dict[str, dict[int, Cell]]] = {}
        for (endpoint, deployment, minute), classes in self._counts.items():
            full = {
                cls: kept
                for cls, histogram in classes.items()
                if (kept := {b: n for b, n in histogram.items() if n > 0})
            }
            if full:
                found.setdefault(endpoint, {}).setdefault(deployment, {})[minute] = Cell(histograms=full)
        return found
