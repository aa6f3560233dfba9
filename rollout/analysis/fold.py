"""Folding: how a source's minutes become what is remembered of it.

The rule: each minute is taken in once, in order, when it is closed; what it is weighed with comes from minutes before
it. A minute that both deployments have rows in is a block; one with only stable's rows counts as quiet; what changes
after its minute was taken in changes nothing and is counted as late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rollout.analysis.cells import Cell, Histogram
from rollout.analysis.checks import Check, answered, durations
from rollout.analysis.criteria import Criteria
from rollout.analysis.evidence import NOTHING, Counts
from rollout.analysis.judgement import CheckState, SourceState
from rollout.analysis.terms import Series, Stage

HOUR = 60
RECENT_BLOCKS = 5
LATE_WINDOW = 30  # minutes in which late rows are looked for
ANEW_FROM = 50  # percent: from this share on, each step shows "not worse" anew, for faults that come with load
REPORTED_BLOCKS = 10  # of a step, in which reported quantiles are held against `max`
HALF_BAD_LEAST = 0.25  # the increase that the hard guard sees at least: half bad, and less than a quarter of stable's
USUAL_REQUESTS = 100  # requests of the hour before that make "usual" known


def advance(state: SourceState, series: Series, stage: Stage, criteria: Criteria) -> tuple[SourceState, SourceState]:
    """The state after all closed minutes, and a throw-away copy after the steady open ones too."""
    baseline = compared(series, stage)
    minutes = sorted(baseline.keys() | series.candidate.keys())
    state = _late(_entered(state, stage), series, stage)
    fold = _Fold(series=series, baseline=baseline, stage=stage, criteria=criteria)
    first = max(stage.started, state.through)
    closed = [minute for minute in minutes if first <= minute < series.closed_before]
    steady = [minute for minute in minutes if minute >= max(first, series.closed_before) and minute in series.steady]
    state = fold.minutes(state, closed)
    state = replace(state, through=max(first, series.closed_before), taken=_recent(state.taken, series.closed_before))
    return state, fold.minutes(state, steady)


def compared(series: Series, stage: Stage) -> Mapping[int, Cell]:
    """Stable's cells to compare with, by the candidate's minute.

    Where nothing is held back in the last step, stable answers nothing: the candidate's minutes are then compared, one to
    one and in order, with the last hour that stable answered before this step.
    """
    if stage.holdback or stage.traffic < 100 or series.source == "probes":  # which ask stable all the same
        return series.baseline
    before = {**series.history, **{minute: cell for minute, cell in series.baseline.items() if minute < stage.since}}
    last_hour = [before[minute] for minute in sorted(before)[-HOUR:]]
    until = stage.retreated_since
    shifted = {
        minute: last_hour[(minute - stage.since) % len(last_hour)]
        for minute in series.candidate
        if last_hour and minute >= stage.since
        if until is None
        or minute < until
        or minute not in series.baseline  # a share that is cut gives stable some again
    }
    own = {m: cell for m, cell in series.baseline.items() if m < stage.since or (until is not None and m >= until)}
    return {**own, **shifted}


def _entered(state: SourceState, stage: Stage) -> SourceState:
    """Begin the step's counts anew where the stage is another one than before."""
    if (state.step, state.since) == (stage.step, stage.since):
        return state
    checks = {
        name: check._replace(step=NOTHING, over=NOTHING, worst=NOTHING, reported=())
        for name, check in state.checks.items()
    }
    prove_from = state.prove_from
    if state.step != stage.step and stage.traffic >= ANEW_FROM:
        prove_from = stage.since
        checks = {name: check._replace(process=check.process.unproven()) for name, check in checks.items()}
    return replace(
        state,
        step=stage.step,
        since=stage.since,
        prove_from=prove_from,
        checks=checks,
        step_blocks=0,
        step_minutes=0,
        step_baseline=0,
        step_candidate=0,
        baseline_durations={},
        candidate_durations={},
        baseline_measures={},
        candidate_measures={},
        quiet_minutes=0,
        quiet_requests=0,
    )


def _late(state: SourceState, series: Series, stage: Stage) -> SourceState:
    """Count the rows that came after their minute was taken in."""
    if state.through < 0:
        return state
    taken, late = dict(state.taken), state.late
    for minute in range(max(stage.started, state.through - LATE_WINDOW), state.through):
        rows = _rows(series, minute)
        if rows > taken.get(minute, 0):
            late += rows - taken.get(minute, 0)
            taken[minute] = rows
    return replace(state, taken=taken, late=late) if late != state.late else state


def _rows(series: Series, minute: int) -> int:
    cells = (series.baseline.get(minute), series.candidate.get(minute))
    return sum(cell.asked for cell in cells if cell is not None)


def _recent(taken: Mapping[int, int], through: int) -> Mapping[int, int]:
    return {minute: rows for minute, rows in taken.items() if minute >= through - LATE_WINDOW}


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """One pass over the minutes of a source."""

    series: Series
    baseline: Mapping[int, Cell]
    stage: Stage
    criteria: Criteria

    def minutes(self, state: SourceState, minutes: Sequence[int]) -> SourceState:
        """The state with these minutes, in order."""
        for minute in minutes:
            state = self._minute(state, minute, self.baseline.get(minute), self.series.candidate.get(minute))
        return state

    def _minute(self, state: SourceState, minute: int, baseline: Cell | None, candidate: Cell | None) -> SourceState:
        m = baseline.asked if baseline else 0
        n = candidate.asked if candidate else 0
        here = minute >= self.stage.since
        changes: dict[str, object] = {
            "latest": minute if m + n else state.latest,
            "quiet_minutes": 0 if n else state.quiet_minutes + (here and m > 0),
            "quiet_requests": 0 if n else state.quiet_requests + m * here,
            "taken": {**state.taken, minute: _rows(self.series, minute)},
        }
        if here:
            changes |= {"step_baseline": state.step_baseline + m, "step_candidate": state.step_candidate + n}
            changes["step_minutes"] = state.step_minutes + (m + n > 0)
        if baseline and candidate and m and n:
            changes |= self._block(state, minute, baseline, candidate)
        return replace(state, **changes)  # type: ignore[arg-type]

    def _block(self, state: SourceState, minute: int, baseline: Cell, candidate: Cell) -> dict[str, object]:
        here = minute >= self.stage.since
        checks = self._with_bars(state, minute)
        folded = {
            check.name: self._check(
                checks[check.name], check, minute, (baseline, candidate), prove=minute >= state.prove_from
            )
            for check in self.criteria.everything
        }
        changes: dict[str, object] = {"blocks": state.blocks + 1, "checks": folded}
        if here:
            changes["step_blocks"] = state.step_blocks + 1
            changes["baseline_durations"] = _added(state.baseline_durations, answered(baseline))
            changes["candidate_durations"] = _added(state.candidate_durations, answered(candidate))
            if self.criteria.measures:
                changes["baseline_measures"] = self._measured(state.baseline_measures, baseline)
                changes["candidate_measures"] = self._measured(state.candidate_measures, candidate)
        return changes

    def _measured(self, before: Mapping[str, Histogram], cell: Cell) -> Mapping[str, Histogram]:
        return {name: _added(before.get(name, {}), cell.measure(name)) for name in self.criteria.measures}

    def _check(
        self, state: CheckState, check: Check, minute: int, cells: tuple[Cell, Cell], *, prove: bool
    ) -> CheckState:
        counts = check.counts(*cells, state.bar)
        over = check.over(*cells) if minute >= self.stage.since else None
        if over is not None:
            state = _over(state, over, check)
        if counts is None:
            return state
        tuning = self.criteria.tunings[check.name]
        process = state.process.after(counts, check.margin, tuning, minute=minute, prove=prove)
        run = NOTHING if process.run_start == minute else state.run
        z, m, x, n = counts
        half_bad = n >= 20 and x >= 0.5 * n and z < 0.25 * m and _guarded(check)
        theirs, ours = state.run_baseline, state.run_candidate
        if check.quantile is not None:
            theirs, ours = answered(cells[0]), answered(cells[1])
            if run is not NOTHING:
                theirs, ours = _added(state.run_baseline or {}, theirs), _added(state.run_candidate or {}, ours)
        return state._replace(
            process=process,
            step=state.step.plus(counts) if minute >= self.stage.since else state.step,
            recent=(*state.recent, counts)[-RECENT_BLOCKS:],
            excess=state.excess + x - n * z / m,
            run=run.plus(counts),
            run_baseline=theirs,
            run_candidate=ours,
            half_bad=state.half_bad + 1 if half_bad else 0,
            spread=state.spread + self._spread(state, check, counts) if self.criteria.harm_budget else 0.0,
        )

    def _spread(self, state: CheckState, check: Check, counts: Counts) -> float:
        """The variance of this block's excess x - n z/m: of both counts, and of the noise between minutes."""
        z, m, x, n = counts
        expected = n * z / m
        noise = state.process.noise.tau(self.criteria.tunings[check.name].tau) * expected
        return x + expected * n / m + noise * noise

    def _with_bars(self, state: SourceState, minute: int) -> dict[str, CheckState]:
        """The states of all checks, with the bars and usual shares that minutes before this one could set."""
        checks = dict(state.checks)
        if not checks:
            checks = {check.name: self._usual(CheckState(), check) for check in self.criteria.everything}
        barless = [
            check
            for check in self.criteria.everything
            if check.quantile is not None and not check.reported and checks[check.name].bar is None
        ]
        if barless:
            known = self._stable_before(minute)
            for check in barless:
                checks[check.name] = checks[check.name]._replace(bar=check.find_bar(known))
        return checks

    def _usual(self, state: CheckState, check: Check) -> CheckState:
        """With stable's share of bad requests in the hour before; of latency it is known by what the bar is."""
        if check.quantile is not None:
            return state._replace(usual=1.0 - check.quantile)
        totals = NOTHING
        for cell in self.series.history.values():
            counts = check.counts(cell, cell, None)
            totals = totals.plus(counts) if counts else totals
        return state._replace(usual=totals.z / totals.m if totals.m >= USUAL_REQUESTS else None)

    def _stable_before(self, minute: int) -> Histogram:
        """Stable's good answers of the hour before the rollout, and of the rollout up to this minute."""
        own = [cell for at, cell in self.series.baseline.items() if self.stage.started <= at < minute]
        return durations([*self.series.history.values(), *own])


def _guarded(check: Check) -> bool:
    """Half of the requests bad is beyond what the check allows: latency allows no share, own checks may allow much."""
    return check.quantile is None and (check.measure is None or check.increase < HALF_BAD_LEAST)


def _over(state: CheckState, over: Counts, check: Check) -> CheckState:
    if check.reported:
        return state._replace(reported=(*state.reported, over)[-REPORTED_BLOCKS:])
    limit = check.limit or 0.0
    excess, worst = over.x - limit * over.n, state.worst.x - limit * state.worst.n
    return state._replace(over=state.over.plus(over), worst=over if excess > worst else state.worst)


def _added(histogram: Mapping[int, int], other: Histogram) -> dict[int, int]:
    total = dict(histogram)
    known = total.get
    for index, count in other.items():
        total[index] = known(index, 0) + count
    return total
