"""The checks: which requests of a cell are bad, for stable and for the candidate.

The rule: a check turns a block into `Counts` and knows nothing of evidence or policy files. A latency check compares
with its `bar`, stable's quantile before the rollout: bad on stable is slower than the bar, bad on the candidate slower
than the bar and the allowed increase. "Not more of the candidate's requests are slow than of stable's" then says "the
candidate's quantile is at most the allowed increase above stable's", and drift that both share cancels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from rollout.analysis.cells import CLIENT_ERROR_CLASSES, ERROR_CLASSES, Cell, Histogram, merge, quantile, slower, timed
from rollout.analysis.evidence import Counts, Margin
from rollout.analysis.terms import Source
from rollout.policy import ErrorCheck, LatencyCheck, Policy

SLOW_RATIO = 1.0  # latency: no further multiple beside the shift of the bar …
SLOW_ALLOWANCE = 0.001  # … and a tenth of a point
IGNORED_MS = 20.0  # latency increases below this are ignored
BEYOND = 10  # a bar needs this many requests beyond its quantile
DURATIONLESS: frozenset[Source] = frozenset({"metrics"})  # sources that count requests but do not time them
QUANTILES = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
REFUSED = {"error_rate": ERROR_CLASSES, "client_errors": CLIENT_ERROR_CLASSES}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the candidate with stable."""

    name: str
    margin: Margin
    increase: float  # what the policy allows: points of requests, or for latency a part of stable's quantile
    maximum: float | None  # the policy's `max`: a share of requests, or ms
    quantile: float | None = None  # of latency checks

    @property
    def label(self) -> str:
        """The check's name in sentences."""
        return {"error_rate": "errors", "client_errors": "client errors"}.get(
            self.name, self.name.removeprefix("latency_")
        )

    def needed(self) -> int:
        """Timed requests of stable that a bar needs."""
        return 0 if self.quantile is None else ceil(BEYOND / min(self.quantile, 1.0 - self.quantile) - 1e-9)

    def find_bar(self, histogram: Histogram) -> float | None:
        """Stable's quantile in ms, or None while too few of its requests are known."""
        if self.quantile is None or timed(histogram) < self.needed():
            return None
        return quantile(histogram, self.quantile)

    def candidate_bar(self, bar: float) -> float:
        """What is slow on the candidate, in ms."""
        return max(bar * (1.0 + self.increase), bar + IGNORED_MS)

    def counts(self, baseline: Cell, candidate: Cell, bar: float | None) -> Counts | None:
        """The block of these two cells; None where the check cannot judge it (no bar yet, nothing timed)."""
        if self.quantile is None:
            return _refused(baseline, candidate, REFUSED[self.name])
        if bar is None:
            return None
        counts = Counts(*slow(baseline, bar), *slow(candidate, self.candidate_bar(bar)))
        return counts if counts.m > 0.0 and counts.n > 0.0 else None

    def over(self, baseline: Cell, candidate: Cell) -> Counts | None:
        """The block against the policy's `max`; None where there is none."""
        if self.maximum is None:
            return None
        if self.quantile is None:
            return _refused(baseline, candidate, REFUSED[self.name])
        return Counts(*slow(baseline, self.maximum), *slow(candidate, self.maximum))

    @property
    def limit(self) -> float | None:
        """The share of requests that may be bad in `over`."""
        return self.maximum if self.quantile is None or self.maximum is None else 1.0 - self.quantile


def _refused(baseline: Cell, candidate: Cell, classes: tuple[str, ...]) -> Counts:
    return Counts(
        float(baseline.count(*classes)),
        float(baseline.count()),
        float(candidate.count(*classes)),
        float(candidate.count()),
    )


def answered(cell: Cell) -> Histogram:
    """The durations of good answers."""
    return cell.histograms.get("ok", {})


def slow(cell: Cell, bar: float) -> tuple[float, float]:
    """Requests slower than the bar, and those that could be told.

    Good answers count; so do requests given up by their client after the bar: they were slow, whatever came. Those
    given up earlier tell nothing, and errors are the error check's.
    """
    gone = cell.histograms.get("gone")
    given_up = slower(gone, bar) if gone else 0.0
    return cell.answered.slower(bar) + given_up, cell.answered.total + given_up


def durations(cells: Iterable[Cell]) -> Histogram:
    """The durations of good answers of many cells."""
    return answered(merge(Cell(histograms={"ok": answered(cell)}) for cell in cells))


def checks_of(policy: Policy, source: Source) -> tuple[Check, ...]:
    """The policy's checks that this source can carry, errors first."""
    found = []
    for name, written in policy.checks.active().items():
        if isinstance(written, ErrorCheck):
            margin = Margin(policy.expert.ratio, written.max_increase)
            found.append(Check(name=name, margin=margin, increase=written.max_increase, maximum=written.max))
        elif source not in DURATIONLESS:
            found.append(_latency_check(name, written))
    return tuple(found)


def _latency_check(name: str, written: LatencyCheck) -> Check:
    return Check(
        name=name,
        margin=Margin(SLOW_RATIO, SLOW_ALLOWANCE),
        increase=written.max_increase,
        maximum=written.max,
        quantile=QUANTILES[name],
    )


def weights(checks: Iterable[Check]) -> dict[str, float]:
    """Each check's part of its source's evidence: half for errors, the rest shared; the whole where it is alone."""
    names = [check.name for check in checks]
    others = [name for name in names if name != "error_rate"]
    first = (0.5 if others else 1.0) if len(others) < len(names) else 0.0
    parts = {name: (1.0 - first) / len(others) for name in others}
    return {name: parts.get(name, first) for name in names}


def source_weights(policy: Policy) -> dict[Source, float]:
    """Each source's part of alpha: half for logs, the rest shared; the whole where one is alone.

    A source fails alone, at evidence 1/(alpha * part). Sources show the same requests at different times, so it is the
    parts of alpha that are summed, never the evidence (union bound): that holds whatever they have in common.
    """
    sources: list[Source] = list(dict.fromkeys(policy.expert.evidence))
    others: list[Source] = [source for source in sources if source != "logs"]
    first = (0.5 if others else 1.0) if "logs" in sources else 0.0
    return {source: first if source == "logs" else (1.0 - first) / len(others) for source in sources}
