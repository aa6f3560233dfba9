"""The rehearsal moves rollouts as the real judge and the real lifecycle do, on the same minutes."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from rollout.analysis.cells import BUCKETS_PER_OCTAVE, UNTIMED, quantile
from rollout.analysis.cells import Cell as Cells
from rollout.analysis.crowd import Minute, Numbers
from rollout.analysis.engine import Array
from rollout.analysis.verdict import Series, Source, begin, judge
from rollout.lifecycle import Facts, Phase, Rollout, advance, stage_of, written
from rollout.lifecycle.rehearsal import Delay, Ended, Outcomes, rehearse
from rollout.lifecycle.stage import minute_of
from rollout.policy import Policy
from rollout.world import EndpointState, Snapshot, Split
from tests.benchmarks.detection.workload import (
    BARS,
    FAULTS,
    HARMLESS,
    MARGIN,
    MEDIAN,
    QUANTILES,
    SIGMA,
    Cell,
    Endpoint,
    Fault,
    benchmark_policy,
)
from tests.support.judging import START, without_durations
from tests.support.stories import NOON, REF

PHASE = 0.5
Delays = Mapping[Source, Delay]
CLOSED: Delays = {"logs": Delay(steady=2, closed=2)}
OPEN: Delays = {"logs": Delay(steady=2, closed=6)}
BOTH: Delays = {"logs": Delay(steady=5, closed=8), "metrics": Delay(steady=2, closed=3)}


class Recorded:
    """A world that remembers what it showed to whom."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.usual, self.per_minute = endpoint, endpoint.usual, endpoint.per_minute
        self.shown: dict[int, dict[int, tuple[float, Minute]]] = defaultdict(dict)

    def minute(
        self, minute: int, rollouts: Numbers, *, share: Array, step: Numbers, since: Numbers
    ) -> tuple[Minute, Array]:
        cells, harm = self.endpoint.minute(minute, rollouts, share=share, step=step, since=since)
        for column, rollout in enumerate(rollouts):
            only = np.arange(len(rollouts)) == column
            self.shown[int(rollout)][minute] = (float(share[column]), cells.kept(only))
        return cells, harm


def _cell(bad: Array, total: float, buckets: tuple[int, ...]) -> Cells:
    errors, client, *slow = (round(float(count)) for count in bad)
    good = round(total) - errors - client
    counts = [good - slow[0], slow[0] - slow[1], slow[1] - slow[2], slow[2]]
    parts = {"ok": dict(zip(buckets, counts, strict=True)), "5xx": {UNTIMED: errors}, "4xx": {UNTIMED: client}}
    return Cells(histograms={name: {b: c for b, c in part.items() if c} for name, part in parts.items()})


def _between(bars: Array) -> tuple[int, ...]:
    """Buckets that lie wholly between the bars: as fast as the first, …, slower than the last."""
    low, middle, high = (BUCKETS_PER_OCTAVE * np.log2(MEDIAN * bars)).astype(int)
    return int(low - 2), int(low + 2), int(middle + 1), int(high + 4)


def _history(endpoint: Endpoint) -> dict[int, Cells]:
    """An hour in which stable showed exactly its usual rates and durations."""
    edges = np.arange(0, 160)
    below = ndtr(np.log(2 ** (edges / BUCKETS_PER_OCTAVE) / MEDIAN) / SIGMA)
    good = np.diff(np.round(below * 1e7)).astype(int)
    errors, client = endpoint.usual[:2]
    each = 1e7 / (1 - errors - client)
    hour = Cells(
        histograms={
            "ok": {int(b): int(c) for b, c in enumerate(good) if c},
            "5xx": {UNTIMED: round(each * errors)},
            "4xx": {UNTIMED: round(each * client)},
        }
    )
    return {START - 1: hour}


class Life:
    """One rollout, moved by the real judge and lifecycle, shown the recorded minutes."""

    def __init__(self, policy: Policy, recorded: Recorded, rollout: int, delays: Delays) -> None:
        self.recorded, self.delays, self.minutes = recorded, delays, recorded.shown[rollout]
        share = round(100 * self.minutes[0][0])
        self.origin = NOON.replace(microsecond=0) - timedelta(minutes=minute_of(NOON) - START)
        split = Split.of({"blue": 100 - share, "green": share})
        first, self.shown = self.origin, split
        self.history = _history(recorded.endpoint)
        self.rollout = Rollout(
            id="r",
            ref=REF,
            policy=policy,
            stable="blue",
            candidate="green",
            phase=Phase.PROGRESSING,
            created_at=first,
            created_by="anna",
            phase_since=first,
            sentence="",
            share=share,
            sized_share=share if share < policy.steps[0].traffic else None,
            confirmed=split,
            confirmed_at=first,
            started_at=first,
            judged_from=first,
            step_since=first,
        )

    def live(self) -> tuple[Phase, float, list[float]]:
        """How it ended, after how many minutes, and the candidate's share in each minute."""
        shares, before = [], self.rollout.share
        deadline = round(self.rollout.policy.deadline.total_seconds() / 60)
        for minute in range(deadline):
            shares.append((PHASE * before + (1 - PHASE) * self.rollout.share) / 100)
            before = self.rollout.share
            self._tick(minute)
            if self.rollout.phase in {Phase.ROLLED_BACK, Phase.SUCCEEDED, Phase.PAUSED}:
                return self.rollout.phase, minute + PHASE, shares
        return Phase.PAUSED, deadline, shares

    def _tick(self, minute: int) -> None:
        now = self.origin + timedelta(minutes=minute + PHASE)
        rollout = self.rollout
        judgement, verdict, stage = None, None, stage_of(rollout, now)
        if stage is not None and rollout.phase is not Phase.ROLLING_BACK:
            before, policy = rollout.judgement or begin(rollout.policy), rollout.policy
            series = [self._series(source, minute) for source in self.delays]
            judgement, verdict = judge(before, policy=policy, stage=stage, series=series, now=minute_of(now))
        endpoint = EndpointState(name=REF.name, resource_id="", state="Succeeded", traffic=self.shown)
        snapshot = Snapshot(endpoint=endpoint, deployments=None, requested_at=now)
        facts = Facts(snapshot=snapshot, per_minute=self.recorded.per_minute, judgement=judgement, verdict=verdict)
        decision = advance(rollout, facts, now)
        self.rollout = decision.rollout
        if decision.write is not None:
            self.shown = decision.write
            self.rollout = written(decision.rollout, outcome="accepted", now=now)

    def _series(self, source: Source, minute: int) -> Series:
        delay = self.delays[source]
        stable, candidate = _between(BARS), _between(BARS * (1 + MARGIN))
        cells: tuple[dict[int, Cells], dict[int, Cells]] = ({}, {})
        for at in range(max(0, minute - delay.steady)):
            shown = self.minutes[at][1]
            if shown.baseline[0]:
                cells[0][START + at] = _cell(shown.z[:, 0], shown.baseline[0], stable)
            if shown.candidate[0]:
                cells[1][START + at] = _cell(shown.x[:, 0], shown.candidate[0], candidate)
        closed = START + minute - delay.closed
        series = Series(
            source=source,
            baseline=cells[0],
            candidate=cells[1],
            closed_before=closed,
            steady=frozenset(range(closed, START + minute - delay.steady)),
            read_at=START + minute,
            history=self.history,
        )
        if source == "logs":
            return series
        parts = {name: without_durations(getattr(series, name)) for name in ("baseline", "candidate", "history")}
        return replace(series, **parts)


def _rehearsed(cell: Cell, fault: Fault, policy: Policy, delays: Delays, count: int) -> tuple[Recorded, Outcomes]:
    recorded = Recorded(Endpoint(cell, "noisy", fault, count, (7,)))
    return recorded, rehearse(policy, recorded, delays, rollouts=count, phase=PHASE)


ENDINGS = {Phase.ROLLED_BACK: Ended.ROLLED_BACK, Phase.SUCCEEDED: Ended.PROMOTED, Phase.PAUSED: Ended.PAUSED}
CASES: list[tuple[Cell, Fault, dict[str, Any]]] = [
    (Cell(100, 0.01), HARMLESS["healthy"], {}),
    (Cell(10, 0.01), HARMLESS["cold start"], {"early": True}),
    (Cell(100, 0.01), HARMLESS["shared incident"], {}),
    (Cell(100, 0.01), FAULTS["+1pp"], {}),
    (Cell(10, 0.01), FAULTS["mid-step +5pp"], {"early": True}),
    (Cell(100, 0.001), FAULTS["+50pp"], {"sized": False}),
    (Cell(10, 0.01), FAULTS["p95 ×1.3"], {"retreat": False}),
    (Cell(0.02, 0.01), HARMLESS["healthy"], {}),
]


@pytest.mark.parametrize(("cell", "fault", "choices"), CASES, ids=[str(number) for number in range(len(CASES))])
@pytest.mark.parametrize("delays", [CLOSED, OPEN, BOTH], ids=["closed", "open", "both"])
def test_the_rehearsal_moves_rollouts_as_the_lifecycle_does(
    cell: Cell, fault: Fault, choices: dict[str, Any], delays: Delays
) -> None:
    count = 3
    policy = benchmark_policy(**choices, evidence=tuple(delays))
    recorded, outcomes = _rehearsed(cell, fault, policy, delays, count)
    for rollout in range(count):
        phase, minutes, shares = Life(policy, recorded, rollout, delays).live()
        theirs = [share for _, (share, _) in sorted(recorded.shown[rollout].items())]
        assert shares == pytest.approx(theirs[: len(shares)])
        assert ENDINGS[phase] == outcomes.ended[rollout]
        assert minutes == outcomes.minutes[rollout]


def test_what_the_sample_covers() -> None:
    """The cases above see every ending, and retreats that end well and badly."""
    endings: Counter[tuple[Ended, bool]] = Counter()
    for cell, fault, choices in CASES:
        _, outcomes = _rehearsed(cell, fault, benchmark_policy(**choices), OPEN, 4)
        endings.update(zip(map(Ended, outcomes.ended), map(bool, outcomes.retreats), strict=True))
    assert endings.keys() >= {
        (Ended.PROMOTED, False),
        (Ended.PROMOTED, True),
        (Ended.ROLLED_BACK, True),
        (Ended.ROLLED_BACK, False),
        (Ended.PAUSED, False),
    }


def test_the_recorded_durations_lie_where_the_bars_want_them() -> None:
    endpoint = Endpoint(Cell(1, 0.01), "iid", Fault(), 1, (1,))
    (hour,) = _history(endpoint).values()
    for q, bar in zip(QUANTILES, BARS, strict=True):
        assert quantile(hour.histograms["ok"], q) == pytest.approx(MEDIAN * bar, rel=5e-3)
