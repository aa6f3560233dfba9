"""A small world for the judge's tests: cells drawn from seeded chance, and the plainest lifecycle that obeys verdicts.

Minutes begin at `START`; the rollout's first whole minute is there, the hour before it is stable's history.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np

from rollout.analysis.cells import UNTIMED, Cell, bucket
from rollout.analysis.verdict import Judgement, Pair, Reason, Series, Stage, Verdict, begin, judge
from rollout.policy import Policy, Step

START = 29_000_000


def policy(*, steps: Sequence[int] = (10, 50, 100), bake: int = 10, **changes: Any) -> Policy:
    """A policy with these shares, each baked for so many minutes."""
    written = tuple(Step(traffic=share, bake=timedelta(minutes=bake)) for share in steps)
    return Policy(name="recommender", endpoint_name="recommender", steps=written, **changes)


def cell(ok: int = 0, *, bad: int = 0, client: int = 0, gone: int = 0, ms: float = 50.0, gone_ms: float = 50.0) -> Cell:
    """A cell in which every good answer took `ms`."""
    at = bucket(ms)
    counts = {"ok": {at: ok}, "5xx": {at: bad}, "model_4xx": {at: client}, "gone": {bucket(gone_ms): gone}}
    return Cell(histograms={name: histogram for name, histogram in counts.items() if sum(histogram.values())})


def without_durations(cells: Mapping[int, Cell]) -> dict[int, Cell]:
    """As platform metrics would show them."""
    return {
        minute: Cell(histograms={name: {UNTIMED: sum(part.values())} for name, part in one.histograms.items()})
        for minute, one in cells.items()
    }


def logs(baseline: Mapping[int, Cell], candidate: Mapping[int, Cell], **changes: Any) -> Series:
    """Logs in which every minute shown is closed and was just read."""
    end = max([*baseline, *candidate, START - 1]) + 1
    given: dict[str, Any] = {"closed_before": end, "read_at": end, "history": {}} | changes
    return Series(source="logs", baseline=baseline, candidate=candidate, **given)


def stage(**changes: Any) -> Stage:
    """The first step at 10 %, ten minutes to bake."""
    given: dict[str, Any] = {"step": 0, "traffic": 10, "started": START, "since": START, "bake": 10} | changes
    return Stage(**given)


def look(
    one: Policy, baseline: Mapping[int, Cell], candidate: Mapping[int, Cell], *, at: Stage | None = None, **changes: Any
) -> tuple[Judgement, Verdict]:
    """One look by a judge that has seen nothing yet."""
    series = logs(baseline, candidate, **changes)
    return judge(begin(one), policy=one, stage=at or stage(), series=[series], now=series.closed_before)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What an endpoint would show: requests a minute, rates as functions of the minute of the rollout (from 0)."""

    per_minute: float = 600.0
    error: float = 0.01
    candidate_error: Callable[[int], float] | None = None  # defaults to `error`
    candidate_slower: Callable[[int], float] = lambda minute: 1.0  # a factor on its durations
    noise: float = 0.0  # sd of the log error rate of each deployment from minute to minute
    spread: float = 0.5  # sd of the log durations
    median: float = 80.0  # ms


@dataclass
class Play:
    """One rollout, played to its end."""

    outcome: str = "unfinished"
    minutes: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    retreats: int = 0
    bad: float = 0.0  # bad requests beyond stable's rate that the candidate served

    @property
    def last(self) -> Verdict:
        """The verdict that ended it."""
        return self.verdicts[-1]

    def reasons(self) -> set[Reason]:
        """All reasons that came up."""
        return {verdict.reason for verdict in self.verdicts}


def play(
    one: Policy, traffic: Traffic, *, seed: int, lag: int = 5, steady: int = 3, longest: int = 400, keep: bool = False
) -> Play:
    """Play a rollout to its end: cells close after `lag` minutes and are steady after `steady`; a write takes a minute."""
    rng = np.random.default_rng(seed)
    draw = _Draw(traffic, rng)
    stable, candidate = {}, {}
    history = {START - 60 + i: draw.cell(traffic.per_minute, traffic.error, 1.0) for i in range(60)}
    at = Stage(step=0, traffic=_share(one, 0), started=START, since=START, bake=_bake(one, 0))
    judgement, result = begin(one), Play()
    wanted, resting = at.traffic, None
    for i in range(longest):
        minute = START + i
        share = wanted / 100
        rate = traffic.candidate_error(i) if traffic.candidate_error else traffic.error
        stable[minute] = draw.cell(traffic.per_minute * (1 - share), traffic.error, 1.0)
        candidate[minute] = draw.cell(traffic.per_minute * share, rate, traffic.candidate_slower(i))
        result.bad += traffic.per_minute * share * (rate - traffic.error)
        now = minute + 1
        shown = now - steady
        series = Series(
            source="logs",
            baseline={m: c for m, c in stable.items() if m < shown and c.count()},
            candidate={m: c for m, c in candidate.items() if m < shown and c.count()},
            closed_before=now - lag,
            steady=frozenset(range(now - lag, shown)),
            read_at=now,
            history=history,
        )
        judgement, verdict = judge(judgement, policy=one, stage=at, series=[series], now=now)
        if keep or not result.verdicts or verdict.reason is not Reason.BAKE:
            result.verdicts.append(verdict)
        result.minutes = i + 1
        if verdict.action == "fail":
            result.outcome = "failed"
            return result
        if at.retreated_since is None and verdict.action == "retreat":
            result.retreats += 1
            resting, wanted = at.traffic, min(at.traffic, 10)
            at = replace(at, retreated_since=now, traffic=wanted, since=now + 1)
        elif verdict.reason is Reason.RECOVERED and resting is not None:
            wanted, resting = resting, None
            at = replace(at, retreated_since=None, traffic=wanted, since=now + 1)
        elif verdict.action == "pass":
            if at.step + 1 == len(one.steps):
                result.outcome = "promoted"
                return result
            wanted = _share(one, at.step + 1)
            at = replace(at, step=at.step + 1, traffic=wanted, since=now + 1, bake=_bake(one, at.step + 1))
    return result


def _share(one: Policy, step: int) -> int:
    return min(one.steps[step].traffic, 100 - one.holdback)


def _bake(one: Policy, step: int) -> int:
    return round(one.steps[step].bake.total_seconds() / 60)


class _Draw:
    """Cells by chance: log-normal durations, binomial errors."""

    def __init__(self, traffic: Traffic, rng: np.random.Generator) -> None:
        self.traffic, self.rng = traffic, rng

    def cell(self, expected: float, rate: float, slower: float) -> Cell:
        traffic, rng = self.traffic, self.rng
        n = int(rng.poisson(expected))
        noisy = rate * float(np.exp(rng.normal(0.0, traffic.noise))) if traffic.noise else rate
        bad = int(rng.binomial(n, min(1.0, noisy)))
        shape = _durations(traffic.median * slower, traffic.spread)
        found = rng.multinomial(n - bad, list(shape.values()))
        ok = {index: int(count) for index, count in zip(shape, found, strict=True) if count}
        return Cell(histograms={"ok": ok} | ({"5xx": {bucket(traffic.median): bad}} if bad else {}))


def _durations(median: float, spread: float) -> dict[int, float]:
    low, high = bucket(median * np.exp(-4 * spread)), bucket(median * np.exp(4 * spread))
    middles = np.array([2 ** ((index + 0.5) / 8) for index in range(low, high + 1)])
    weight = np.exp(-0.5 * (np.log(middles / median) / spread) ** 2)
    return dict(zip(range(low, high + 1), weight / weight.sum(), strict=True))


__all__ = ["START", "Pair", "Play", "Traffic", "cell", "logs", "look", "play", "policy", "stage", "without_durations"]
