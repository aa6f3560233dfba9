"""The judge's cost: microseconds for one minute of one rollout with all five checks, from raw cells.

    ./dev bench judge

*Evidence* is the weighing alone, five checks; *fold* is all that each new minute costs (counting the cells, weighing five
checks, remembering); *look* is what a tick asks of the judge: fold, decide, and say it in sentences with intervals; *many*
is the fold of forecasts and benchmarks, in arrays. The yardstick, in the same run, is `math.lgamma`: five checks need two
hundred of them. The least of some rounds counts: other work on the machine only adds. Fails (exit 1) where evidence or a
fold takes half as many lgammas again as it did; the goal of 50 µs is told, met or not.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from math import lgamma
from time import process_time

import numpy as np

from rollout.analysis.cells import Cell, bucket
from rollout.analysis.criteria import criteria_of
from rollout.analysis.crowd import Minute, Places, Watch
from rollout.analysis.evidence import Counts, Process
from rollout.analysis.fold import advance
from rollout.analysis.judgement import SourceState
from rollout.analysis.verdict import Series, begin, judge
from tests.benchmarks.detection.workload import benchmark_policy
from tests.support.judging import START, stage

ROUNDS, MINUTES, MANY = 15, 40, 500
STABLE, CANDIDATE, MEDIAN, SIGMA = 5_400, 600, 80.0, 0.5  # requests a minute; ms
MOST_EVIDENCE, MOST_FOLD, GOAL = 800, 1_900, 50.0  # lgammas, µs
POLICY = benchmark_policy()
(CRITERIA,) = criteria_of(POLICY).values()


def main() -> int:
    """Measure, print, and say whether a minute is cheap enough."""
    rng = np.random.default_rng(1)
    stable, candidate, before = (_cells(rng, n) for n in (STABLE, CANDIDATE, STABLE))
    shown = [_series(stable, candidate, before, minutes) for minutes in range(1, MINUTES + 1)]
    rounds = [(_lgamma(), _evidence(), _fold(shown[-1]), _looks(shown), _many(rng)) for _ in range(ROUNDS)]
    one, evidence, fold, look, many = (min(column) for column in zip(*rounds, strict=True))
    print(
        f"judge: evidence {evidence:.0f} µs a minute of 5 checks, {evidence / one:.0f} times lgamma ({1000 * one:.0f} ns)"
    )
    print(f"judge: fold {fold:.0f} µs a minute of 5 checks from raw cells, {fold / one:.0f} times lgamma")
    print(f"judge: look {look:.0f} µs, with intervals and sentences, {look / one:.0f} times lgamma")
    print(f"judge: many {many:.1f} µs a minute of 5 checks, {many / one:.0f} times lgamma, {MANY} rollouts at once")
    for what, cost in (("evidence", evidence), ("fold", fold)):
        print(f"judge: the goal of {GOAL:.0f} µs is {'met' if cost <= GOAL else 'not met'} here by the {what}")
    slow = [
        f"{what} may take {most} times lgamma"
        for what, cost, most in (("evidence", evidence, MOST_EVIDENCE), ("a fold", fold, MOST_FOLD))
        if cost > most * one
    ]
    print("".join(f"too slow: {said}\n" for said in slow), end="")
    return int(bool(slow))


def _cells(rng: np.random.Generator, n: int) -> dict[int, Cell]:
    return {START + minute: _cell(rng, n) for minute in range(60)}


def _cell(rng: np.random.Generator, n: int) -> Cell:
    bad, refused = rng.binomial(n, 0.01, size=2).tolist()
    durations = MEDIAN * np.exp(SIGMA * rng.standard_normal(n - bad - refused))
    buckets, counts = np.unique([bucket(ms) for ms in durations], return_counts=True)
    ok = dict(zip(buckets.tolist(), counts.tolist(), strict=True))
    return Cell(histograms={"ok": ok, "5xx": {60: bad}, "4xx": {40: refused}})


def _series(stable: dict[int, Cell], candidate: dict[int, Cell], before: dict[int, Cell], minutes: int) -> Series:
    end = START + minutes
    both = [
        {at: Cell(histograms=cell.histograms) for at, cell in cells.items() if at < end}
        for cells in (stable, candidate)
    ]
    history = {at - 60: cell for at, cell in before.items()}
    return Series(source="logs", baseline=both[0], candidate=both[1], closed_before=end, read_at=end, history=history)


def _lgamma() -> float:
    return _per(lambda: [lgamma(123.4) for _ in range(20_000)], 20_000)


def _evidence() -> float:
    process, check = Process(), CRITERIA.checks[0]
    tuning, counts = CRITERIA.tunings[check.name], Counts(0.01 * STABLE, STABLE, 0.01 * CANDIDATE, CANDIDATE)

    def weigh() -> None:
        known = process
        for minute in range(MINUTES):
            known = known.after(counts, check.margin, tuning, minute=minute, prove=True)

    return _per(weigh, MINUTES) * len(CRITERIA.checks)


def _fold(series: Series) -> float:
    at, first = stage(bake=MINUTES), replace(series, closed_before=START + 1)
    begun, _ = advance(SourceState(), first, at, CRITERIA)  # knows the bars
    fresh = _fresh(series)
    return _per(lambda: advance(begun, fresh, at, CRITERIA), MINUTES - 1)


def _looks(shown: list[Series]) -> float:
    fresh, at = [_fresh(series) for series in shown], stage(bake=MINUTES)

    def look() -> None:
        judgement = begin(POLICY)
        for series in fresh:
            judgement, _ = judge(judgement, policy=POLICY, stage=at, series=[series], now=series.closed_before)

    return _per(look, MINUTES)


def _fresh(series: Series) -> Series:
    """With cells that nobody has counted yet, as the store gives them."""
    both = [
        {at: Cell(histograms=cell.histograms) for at, cell in cells.items()}
        for cells in (series.baseline, series.candidate)
    ]
    return replace(series, baseline=both[0], candidate=both[1])


def _many(rng: np.random.Generator) -> float:
    watch = Watch(CRITERIA, np.full(5, 0.01), behind=0, rollouts=MANY)
    whole = np.zeros(MANY, dtype=np.int64)
    places = Places(
        step=whole,
        share=whole + 10,
        since=whole,
        bake=whole + 10,
        retreated=whole - 1,
        sized=whole > 0,
        resumed_at=whole * 1.0,
    )
    m, n = np.full((5, MANY), float(STABLE)), np.full((5, MANY), float(CANDIDATE))
    z, x = rng.binomial(STABLE, 0.01, (5, MANY)).astype(float), rng.binomial(CANDIDATE, 0.01, (5, MANY)).astype(float)
    minute = Minute(baseline=m[0], candidate=n[0], z=z, m=m, x=x, n=n)

    def take() -> None:
        for at in range(MINUTES):
            watch.take(at, minute, places)

    return _per(take, MINUTES * MANY)


def _per(act: Callable[[], object], count: int) -> float:
    """Microseconds of this process for each."""
    begun = process_time()
    act()
    return (process_time() - begun) / count * 1e6


if __name__ == "__main__":
    sys.exit(main())
