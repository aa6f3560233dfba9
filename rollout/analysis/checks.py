"""The checks: which requests of a cell are bad, for stable and for the candidate.

The rule: a check turns a block into `Counts` and knows nothing of evidence or policy files. A latency check compares
with its `bar`, stable's quantile before the rollout: bad on stable is slower than the bar, bad on the candidate slower
than the bar and the allowed increase. "Not more of the candidate's requests are slow than of stable's" then says "the
candidate's quantile is at most the allowed increase above stable's", and drift that both share cancels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from rollout.analysis.cells import (
    BAD,
    CLIENT_ERROR_CLASSES,
    ERROR_CLASSES,
    REPORTED,
    Cell,
    Histogram,
    custom,
    merge,
    quantile,
    slower,
    timed,
)
from rollout.analysis.evidence import Counts, Margin
from rollout.analysis.terms import DECIDING, Source
from rollout.policy import CustomCheck, ErrorCheck, LatencyCheck, Policy

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
    dry_run: bool = False  # reports, and decides nothing
    measure: str | None = None  # counts in this measure instead of the classes; for latency, what reports its quantile

    @property
    def label(self) -> str:
        """The check's name in sentences."""
        return {"error_rate": "errors", "client_errors": "client errors"}.get(
            self.name, self.name.removeprefix("latency_")
        )

    @property
    def reported(self) -> bool:
        """Only each minute's quantile is known, and of how many requests is not: no evidence, `max` alone."""
        return self.quantile is not None and self.measure is not None

    @property
    def weighed(self) -> bool:
        """Its evidence decides."""
        return not self.dry_run and not self.reported

    def needed(self) -> int:
        """Timed requests of stable that a bar needs."""
        return 0 if self.quantile is None else ceil(BEYOND / min(self.quantile, 1.0 - self.quantile) - 1e-9)

    def find_bar(self, histogram: Histogram) -> float | None:
        """Stable's quantile in ms, or None while too few of its requests are known."""
        if self.quantile is None or self.reported or timed(histogram) < self.needed():
            return None
        return quantile(histogram, self.quantile)

    def candidate_bar(self, bar: float) -> float:
        """What is slow on the candidate, in ms."""
        return max(bar * (1.0 + self.increase), bar + IGNORED_MS)

    def counts(self, baseline: Cell, candidate: Cell, bar: float | None) -> Counts | None:
        """The block of these two cells; None where the check cannot judge it (no bar yet, nothing timed or counted)."""
        if self.quantile is None:
            return self._bad(baseline, candidate)
        if bar is None:
            return None
        counts = Counts(*slow(baseline, bar), *slow(candidate, self.candidate_bar(bar)))
        return counts if counts.m > 0.0 and counts.n > 0.0 else None

    def over(self, baseline: Cell, candidate: Cell) -> Counts | None:
        """The block against the policy's `max`; None where there is none.

        Where only quantiles are reported, each deployment counts as one "request", bad where it is above.
        """
        if self.maximum is None:
            return None
        if self.quantile is None:
            return self._bad(baseline, candidate)
        if self.measure is not None:
            return _above(baseline.measure(self.measure), candidate.measure(self.measure), self.maximum)
        return Counts(*slow(baseline, self.maximum), *slow(candidate, self.maximum))

    def _bad(self, baseline: Cell, candidate: Cell) -> Counts | None:
        if self.measure is None:
            return _refused(baseline, candidate, REFUSED[self.name])
        theirs, ours = baseline.measure(self.measure), candidate.measure(self.measure)
        counts = Counts(*_counted(theirs), *_counted(ours))
        return counts if counts.m > 0.0 and counts.n > 0.0 else None

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


def _counted(measure: Histogram) -> tuple[float, float]:
    return float(measure.get(BAD, 0)), float(sum(measure.values()))


def _above(baseline: Histogram, candidate: Histogram, maximum: float) -> Counts | None:
    theirs, ours = quantile(baseline, 0.5), quantile(candidate, 0.5)
    return None if theirs is None or ours is None else Counts(float(theirs > maximum), 1.0, float(ours > maximum), 1.0)


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
    if source == "custom":
        return tuple(_own_check(policy, written) for written in policy.checks.custom)
    found = []
    for name, written in policy.checks.active().items():
        if isinstance(written, ErrorCheck):
            found.append(_error_check(policy, name, written))
        elif source not in DURATIONLESS:
            found.append(_latency_check(name, written))
        elif deciding_source(policy) == source:
            found.append(replace(_latency_check(name, written), measure=REPORTED[name]))
    return tuple(found)


def _error_check(policy: Policy, name: str, written: ErrorCheck) -> Check:
    return Check(
        name=name,
        margin=Margin(policy.expert.ratio, written.max_increase),
        increase=written.max_increase,
        maximum=written.max,
        dry_run=written.dry_run,
    )


def _own_check(policy: Policy, written: CustomCheck) -> Check:
    return Check(
        name=written.name,
        margin=Margin(policy.expert.ratio, written.max_increase),
        increase=written.max_increase,
        maximum=written.max,
        dry_run=written.dry_run,
        measure=custom(written.name),
    )


def _latency_check(name: str, written: LatencyCheck) -> Check:
    return Check(
        name=name,
        margin=Margin(SLOW_RATIO, SLOW_ALLOWANCE),
        increase=written.max_increase,
        maximum=written.max,
        quantile=QUANTILES[name],
        dry_run=written.dry_run,
    )


def sources_of(policy: Policy) -> tuple[Source, ...]:
    """What a policy is judged by: the sources that it names, and its own checks where it has some."""
    own: tuple[Source, ...] = ("custom",) if policy.checks.custom else ()
    return (*dict.fromkeys(policy.expert.evidence), *own)


def deciding_source(policy: Policy) -> Source:
    """The source that decides promotion."""
    sources = sources_of(policy)
    return next(source for source in DECIDING if source in sources)


def weights(checks: Iterable[Check]) -> dict[str, float]:
    """Each check's part of its source's evidence: half for errors, the rest shared; the whole where it is alone."""
    names = [check.name for check in checks]
    others = [name for name in names if name != "error_rate"]
    first = (0.5 if others else 1.0) if len(others) < len(names) else 0.0
    parts = {name: (1.0 - first) / len(others) for name in others}
    return {name: parts.get(name, first) for name in names}


def source_weights(checks: Mapping[Source, Sequence[Check]]) -> dict[Source, float]:
    """Each source's part of alpha: half for logs, the rest shared; the whole where one is alone.

    A source without a check whose evidence decides takes no part. A source fails alone, at evidence 1/(alpha * part).
    Sources show the same requests at different times, so it is the parts of alpha that are summed, never the evidence
    (union bound): that holds whatever they have in common.
    """
    sources = [source for source, found in checks.items() if any(check.weighed for check in found)]
    others = [source for source in sources if source != "logs"]
    first = (0.5 if others else 1.0) if "logs" in sources else 0.0
    parts = {source: first if source == "logs" else (1.0 - first) / len(others) for source in sources}
    return {source: parts.get(source, 0.0) for source in checks}
