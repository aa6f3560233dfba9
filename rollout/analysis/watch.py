"""The watch after a promotion: the candidate holds all traffic, so there is no stable beside it to compare with.

The rule: nothing is called worse than stable that stable was not asked. What is left is judged in the last minutes: half
of the requests bad; the policy's `max`; errors far above the candidate's own rate before the promotion; and probes, which
still ask both deployments by name. Latency without a `max` is told and not judged. The watch keeps no state: the same cells
give the same verdict, and it begins anew after a crash.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rollout.analysis import guards, sentences
from rollout.analysis.bounds import highest_share, surely_above
from rollout.analysis.cells import Cell, Ranked, merge
from rollout.analysis.checks import Check, answered, deciding_source
from rollout.analysis.criteria import criteria_of
from rollout.analysis.evidence import NOTHING, Counts
from rollout.analysis.fold import HOUR
from rollout.analysis.terms import Action, Finding, Pair, Rate, Reason, Series, Source, Stage, Verdict
from rollout.policy import Policy

WINDOW = 10  # minutes that are looked at together
LEAST_BLOCKS = 3  # of them with requests, before anything but the hard guard speaks
KNOWN = 20  # requests before the promotion that make "usual" known, within bounds
FACTOR, POINTS = 2.0, 0.01  # "far above": surely above twice the usual rate, a point and what the policy allows
HALF, QUARTER, HALF_LEAST = 0.5, 0.25, 20  # the hard guard's shares, and its requests in a minute
SEEN_BEFORE = 120  # minutes of the candidate's cells that a look needs


@dataclass(frozen=True, kw_only=True)
class Usual:
    """How often requests were bad for a check before the promotion, in the words of the last verdict then."""

    source: Source
    check: str
    bad: float
    n: float


def usual_of(verdict: Verdict | None) -> tuple[Usual, ...]:
    """What the last verdict before the promotion knows; of a check that failed, stable's rate is the usual one."""
    found = verdict.findings if verdict else ()
    pairs = [(one, one.baseline if one.action == "fail" else one.candidate) for one in found if one.unit == "share"]
    return tuple(Usual(source=one.source, check=one.check, bad=rate.bad, n=rate.n) for one, rate in pairs)


def watch(policy: Policy, *, series: Sequence[Series], since: int, usual: Sequence[Usual], now: int) -> Verdict:
    """What the last minutes say of the candidate; `since` is the first whole minute after the promotion.

    `fail`, or `hold` with the reason why not: no data, an incident of both deployments (as probes show it), or nothing.
    """
    watched = _watched(policy, series, since, usual)
    deciding = next((one for one in series if one.source == deciding_source(policy)), None)
    bad, reason = _failed(watched, series)
    silent = _silent(policy, deciding, since, now)
    if bad and not bad.paired and _both(watched):
        found = _verdict(watched, "hold", Reason.SHARED_INCIDENT, _told_both(watched, bad))
    elif bad:
        found = _verdict(watched, "fail", reason, f"The candidate failed: {bad.accusation(reason)}.", bad)
    elif silent:
        found = _verdict(watched, "hold", Reason.NO_DATA, f"The candidate is not seen: {silent}.")
    else:
        told = f"Watched at 100 %: {_numbers(watched, deciding_source(policy))}; nothing speaks against it."
        found = _verdict(watched, "hold", Reason.BAKE, told)
    return replace(found, threshold=1.0 / policy.expert.alpha)


@dataclass(frozen=True, kw_only=True)
class _Row:
    minute: int
    baseline: Cell
    candidate: Cell


@dataclass(frozen=True, kw_only=True)
class _Watched:
    """One check in one source, in the last minutes."""

    source: Source
    check: Check
    rows: tuple[_Row, ...]
    usual: Usual | None
    failed_pairs: int = 0

    @property
    def paired(self) -> bool:
        """Stable is asked in the same minutes."""
        return self.source == "probes"

    @cached_property
    def blocks(self) -> tuple[Counts, ...]:
        """Bad requests by minute; of latency none, since there is no bar that both share."""
        if self.check.quantile is not None:
            return ()
        found = [self.check.counts(row.baseline, row.candidate, None) for row in self.rows]
        return tuple(block for block in found if block is not None and block.n > 0.0)

    @cached_property
    def over(self) -> tuple[Counts, ...]:
        """The minutes against the policy's `max`."""
        found = [self.check.over(row.baseline, row.candidate) for row in self.rows]
        return tuple(block for block in found if block is not None and block.n > 0.0)

    @property
    def reference(self) -> tuple[float, float]:
        """Bad requests, and all of them, that say what is usual: of stable's probes, or of the time before."""
        if self.paired:
            total = _total(self.blocks)
            return total.z, total.m
        return (self.usual.bad, self.usual.n) if self.usual else (0.0, 0.0)

    @property
    def known(self) -> bool:
        """What is usual is known."""
        return self.reference[1] >= (guards.CRASHED_PAIRS if self.paired else KNOWN)

    @property
    def limit(self) -> float:
        """The share of bad requests that is far above the usual one; half of them where that is not known."""
        if not self.known:
            return HALF
        p = highest_share(*self.reference)
        return min(FACTOR * p + POINTS + self.check.increase, (1.0 + p) / 2.0)

    def half_bad(self) -> bool:
        """Half of the requests bad in the last two minutes, and not so before, or on stable."""
        if not self._halved:
            return False
        bad, n = self.reference
        usual = n > 0.0 and not self.paired and bad >= QUARTER * n
        last = self.blocks[-guards.HARD_BLOCKS :]
        return not usual and len(last) == guards.HARD_BLOCKS and all(map(self._half, last))

    def _half(self, block: Counts) -> bool:
        stable = self.paired and block.z >= QUARTER * block.m
        return block.n >= HALF_LEAST and block.x >= HALF * block.n and not stable

    def above_maximum(self) -> bool:
        """Surely above the policy's `max`, also without the worst minute."""
        if self.check.reported:
            above = [block.x > 0.0 and not (self.paired and block.z > 0.0) for block in self.over]
            return sum(above) >= LEAST_BLOCKS and sum(above) > len(above) / 2
        limit, total = self.check.limit, _total(self.over)
        stable = self.paired and limit is not None and total.z > limit * total.m
        return limit is not None and not stable and _surely(self.over, limit)

    def far_above(self) -> bool:
        """Surely far above what is usual, also without the worst minute."""
        return self.check.quantile is None and (self.known or self._halved) and _surely(self.blocks, self.limit)

    @property
    def _halved(self) -> bool:
        """Half of the requests bad is beyond what the check allows."""
        return self.check.measure is None or self.check.increase < QUARTER

    def accusation(self, reason: Reason) -> str:
        """What speaks against the candidate, with what it is held against."""
        if self.failed_pairs >= guards.CRASHED_PAIRS:
            return f"{self.failed_pairs} probes in a row got no good answer, while stable answered each of them"
        if reason is Reason.HARD_GUARD:
            return f"half of its requests or more were bad two minutes in a row, {self.numbers()}"
        if reason is Reason.MAXIMUM:
            most = self.check.maximum or 0.0
            told = sentences.percent(most) if self.check.quantile is None else f"{sentences.number(most)} ms"
            return f"{self.numbers()} in the last {WINDOW} min, above the maximum of {told}"
        bad, n = self.reference
        if not self.known:
            return f"more than half of its requests were bad, {self.numbers()} in the last {WINDOW} min"
        where = "on stable" if self.paired else "before the promotion"
        return f"{self.numbers()} in the last {WINDOW} min, {sentences.percent(bad / n)} {where}"

    def numbers(self) -> str:
        """`errors 6.8 % (61 of 900)`, `p95 84 ms`."""
        rate, of = self.rate(), " of the probes" if self.paired else ""
        unit = "share" if self.check.quantile is None else "ms"
        told = f"{self.check.label}{of} {sentences.value(rate, unit)}"
        counted = f" ({sentences.number(rate.bad)} of {sentences.number(rate.n)})"
        return told + (counted if unit == "share" else "")

    def rate(self) -> Rate:
        """The candidate's, of all these minutes."""
        if self.check.reported and self.check.measure:
            known = Ranked(merge(row.candidate for row in self.rows).measure(self.check.measure))
            return Rate(bad=0.0, n=known.total, value=known.quantile(0.5))
        if self.check.quantile is not None:
            known = Ranked(answered(merge(row.candidate for row in self.rows)))
            return Rate(bad=_total(self.over).x, n=known.total, value=known.quantile(self.check.quantile))
        total = _total(self.blocks)
        return Rate(bad=total.x, n=total.n, value=total.x / total.n if total.n else None)

    def excess(self) -> float:
        """Bad requests beyond what is usual: of callers only, and not of latency, whose usual rate is not known."""
        bad, n = self.reference
        total = _total(self.blocks)
        return 0.0 if self.paired or n <= 0.0 else max(0.0, total.x - bad / n * total.n)

    @property
    def judged(self) -> bool:
        """Something of it can fail the candidate."""
        errors = self.check.quantile is None and (self.known or self._halved)
        return not self.check.dry_run and (self.check.maximum is not None or errors)

    def finding(self, action: Action) -> Finding:
        """As a value; the baseline is stable's where it is asked, else nothing."""
        total = _total(self.blocks) if self.paired else NOTHING
        told = f"{sentences.capital(self.numbers())} in the last {WINDOW} minutes"
        return Finding(
            check=self.check.name,
            source=self.source,
            unit="share" if self.check.quantile is None else "ms",
            baseline=Rate(bad=total.z, n=total.m, value=total.z / total.m if total.m else None),
            candidate=self.rate(),
            margin=self.check.increase,
            maximum=self.check.maximum,
            bar=None,
            evidence=1.0,
            weight=0.0,
            not_worse=1.0,
            compatible=None,
            action=action,
            sentence=told if self.judged else f"{told}: not judged without stable's own requests",
            role="dry_run" if self.check.dry_run else "bound" if self.judged else "alert",
        )


def _watched(policy: Policy, series: Sequence[Series], since: int, usual: Sequence[Usual]) -> tuple[_Watched, ...]:
    known = {(one.source, one.check): one for one in usual}
    criteria = criteria_of(policy)
    return tuple(
        _Watched(
            source=one.source,
            check=check,
            rows=_rows(one, since),
            usual=known.get((one.source, check.name)),
            failed_pairs=one.failed_pairs if check.name == "error_rate" else 0,
        )
        for one in series
        if one.source in criteria
        for check in criteria[one.source].everything
    )


def _rows(series: Series, since: int) -> tuple[_Row, ...]:
    """The last minutes that are closed, or open and steady."""
    known = [
        minute
        for minute in sorted(series.candidate)
        if minute >= since and (minute < series.closed_before or minute in series.steady)
    ]
    first = known[-1] - WINDOW + 1 if known else 0
    return tuple(
        _Row(minute=minute, baseline=_stable(series, minute), candidate=series.candidate[minute])
        for minute in known
        if minute >= first
    )


def _stable(series: Series, minute: int) -> Cell:
    """Stable's probes; else the candidate's own cell, of which only the candidate's side is used."""
    own = series.candidate[minute]
    return series.baseline.get(minute, Cell()) if series.source == "probes" else own


def _failed(watched: Sequence[_Watched], series: Sequence[Series]) -> tuple[_Watched | None, Reason]:
    deciding = [one for one in watched if not one.check.dry_run]
    crashed = any(one.failed_pairs >= guards.CRASHED_PAIRS for one in series)
    for one in deciding:
        if one.half_bad() or (crashed and one.paired and one.check.name == "error_rate"):
            return one, Reason.HARD_GUARD
    above = next((one for one in deciding if one.above_maximum()), None)
    if above:
        return above, Reason.MAXIMUM
    return next((one for one in deciding if one.far_above()), None), Reason.REGRESSION


def _both(watched: Sequence[_Watched]) -> bool:
    """Stable's probes are bad, too: what both suffer from, a roll back does not mend."""
    errors = [one for one in watched if one.paired and one.check.name == "error_rate"]
    totals = [_total(one.blocks) for one in errors]
    return any(total.m >= HALF_LEAST and total.z >= QUARTER * total.m for total in totals)


def _told_both(watched: Sequence[_Watched], bad: _Watched) -> str:
    total = next(_total(one.blocks) for one in watched if one.paired and one.check.name == "error_rate")
    return (
        f"Both deployments are in trouble: {bad.numbers()} in the last {WINDOW} min, and of stable's probes "
        f"{sentences.percent(total.z / total.m)} were bad, too."
    )


def _silent(policy: Policy, deciding: Series | None, since: int, now: int) -> str | None:
    before = {minute: cell for minute, cell in deciding.candidate.items() if minute < now - HOUR} if deciding else {}
    stage = Stage(step=len(policy.steps) - 1, traffic=100, started=since, since=since, bake=1, holdback=False)
    seen = None
    if deciding is not None:
        seen = Series(
            source=deciding.source,
            baseline={},
            candidate=deciding.candidate,
            closed_before=deciding.closed_before,
            read_at=deciding.read_at,
            history=before,
        )
    source = deciding_source(policy)
    return guards.no_data(seen, stage, now, guards.SHOWN_BY.get(source, source))


def _surely(blocks: Sequence[Counts], limit: float) -> bool:
    """The candidate's share of bad requests is surely above the limit, also without its worst minute."""
    if len(blocks) < LEAST_BLOCKS:
        return False
    total = _total(blocks)
    worst = max(blocks, key=lambda block: block.x - limit * block.n)
    return surely_above(total.x, total.n, limit) and surely_above(total.x - worst.x, total.n - worst.n, limit)


def _total(blocks: Sequence[Counts]) -> Counts:
    total = NOTHING
    for block in blocks:
        total = total.plus(block)
    return total


def _numbers(watched: Sequence[_Watched], source: Source) -> str:
    mine = [one for one in watched if one.source == source and one.rate().n]
    told = [one.numbers() for one in mine if one.check.name != "client_errors" or one.rate().bad]
    return ", ".join(told) or "no request yet"


def _verdict(
    watched: Sequence[_Watched], action: Action, reason: Reason, sentence: str, bad: _Watched | None = None
) -> Verdict:
    live = [one for one in watched if one.source in guards.LIVE] or list(watched)
    asked = max((merge(row.candidate for row in one.rows).asked for one in live), default=0)
    return Verdict(
        action=action,
        reason=reason,
        sentence=sentence,
        findings=tuple(one.finding(action if one is bad else "hold") for one in watched),
        evidence=1.0,
        threshold=1.0,
        blocks=max((len(one.rows) for one in watched), default=0),
        requests=Pair(baseline=0, candidate=asked),
        first_bad=bad.rows[0].minute if bad and bad.rows else None,
        harmed=bad.excess() if bad else 0.0,
        notes=_notes(watched),
    )


def _notes(watched: Sequence[_Watched]) -> tuple[str, ...]:
    """What is not judged, and why."""
    kinds = {one.check.label for one in watched if one.judged}
    blind = dict.fromkeys(
        one.check.label for one in watched if not one.judged and not one.check.dry_run and one.check.label not in kinds
    )
    if not blind:
        return ()
    return (f"Not judged while the candidate serves alone: {', '.join(blind)} (no stable beside it, no `max`).",)
