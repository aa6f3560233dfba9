"""The guards beside the evidence: absolute bounds, and whether there is anything sound to judge.

The rule: a guard looks at what was taken in and answers with None or with one sentence; what follows is `verdict.py`'s.
No data is never a pass, and no traffic is not no data.
"""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt

from rollout.analysis import sentences
from rollout.analysis.bounds import surely_above
from rollout.analysis.cells import Cell
from rollout.analysis.checks import Check
from rollout.analysis.criteria import Criteria
from rollout.analysis.evidence import NOTHING, Counts
from rollout.analysis.fold import HOUR
from rollout.analysis.judgement import CheckState, SourceState
from rollout.analysis.terms import Reason, Series, Source, Stage

LIVE: frozenset[Source] = frozenset({"logs", "metrics"})  # sources that show live requests, which follow the split
CRASHED_PAIRS = 10  # probes in a row of which only the candidate's was bad
HARD_BLOCKS = 2  # blocks in a row with half of the candidate's requests bad
MAXIMUM_BLOCKS = 3  # blocks of a step before an absolute bound can fail it
UNREAD_MINUTES = 10  # a source that was not read for longer says nothing
SILENT_MINUTES = 5  # closed minutes without any row, where a row was to be expected
SILENT_REQUESTS = 10.0  # … that many of them, at the rate of the hour before
ROUTED_REQUESTS = 20.0  # requests the candidate should have had before their absence is a routing fault
QUIET_MINUTES = 15  # … or minutes without one, however few were expected
SPLIT_MINUTES = 3  # of a step, before its split is looked at
SPLIT_Z, SPLIT_SPREAD = 4.0, 0.15  # chance, and the sd of the log-odds of a real split around the one asked for
SHOWN_BY: Mapping[Source, str] = {
    "custom": "queries of the policy's own checks"
}  # sources in words, where not as they are
WORSE_FACTOR, WORSE_POINTS = 2.0, 0.01  # "got worse": surely above twice the usual share and a point
UNEVEN = 2.0  # requests per instance this far apart: latency is compared under unequal load


def hard_guard(state: CheckState) -> bool:
    """At least half of the candidate's requests bad, of 20 or more, and under a quarter of stable's, twice in a row."""
    return state.half_bad >= HARD_BLOCKS


def above_maximum(state: CheckState, check: Check, blocks: int) -> bool:
    """The candidate's rate or quantile over the step is surely (95 %) above `max`, also without its worst minute.

    Where only quantiles are reported: in three of the step's last blocks at least, and in more than half of them.
    """
    if check.reported:
        return _often([block.x > 0.0 for block in state.reported])
    limit = check.limit
    if limit is None or blocks < MAXIMUM_BLOCKS:
        return False
    over, worst = state.over, state.worst
    return surely_above(over.x, over.n, limit) and surely_above(over.x - worst.x, over.n - worst.n, limit)


def stable_above_maximum(state: CheckState, check: Check) -> bool:
    """Stable is above `max` in the same minutes."""
    if check.reported:
        return not _often([block.x > 0.0 and block.z == 0.0 for block in state.reported])
    return state.over.z > (check.limit or 0.0) * state.over.m


def _often(above: Sequence[bool]) -> bool:
    return sum(above) >= MAXIMUM_BLOCKS and sum(above) > len(above) / 2


def no_data(series: Series | None, stage: Stage, now: int, source: str) -> str | None:
    """Why nothing can be judged: the source was not read, or is silent about both deployments."""
    if series is None or series.read_at <= 0:
        return f"no data: the {source} were not read yet"
    unread = now - series.read_at
    if unread > UNREAD_MINUTES:
        return f"no data: the {source} were last read {unread} min ago"
    seen = [minute for cells in (series.baseline, series.candidate) for minute in cells]
    silent = series.closed_before - max([*seen, stage.since - 1]) - 1
    if silent > _patience(series.history):
        return f"no data: no request of either deployment in the {source} for {silent} min"
    return None


def _patience(history: Mapping[int, Cell]) -> int:
    """Minutes of silence that are still chance, at the rate of the hour before."""
    usual = sum(cell.asked for cell in history.values()) / HOUR if history else SILENT_REQUESTS
    return min(max(SILENT_MINUTES, ceil(SILENT_REQUESTS / usual)), HOUR) if usual else HOUR


def no_traffic(state: SourceState, stage: Stage) -> str | None:
    """Why the candidate cannot be judged: stable answers, the candidate is asked nothing."""
    if stage.traffic >= 100 or not state.quiet_minutes:
        return None
    expected = state.quiet_requests * stage.traffic / (100 - stage.traffic)
    routed = state.quiet_minutes >= SILENT_MINUTES and expected >= ROUTED_REQUESTS
    if not routed and state.quiet_minutes < QUIET_MINUTES:
        return None
    least = f"about {sentences.number(expected)}" if expected >= 1 else "less than one"
    return (
        f"no traffic: the candidate got no request in {state.quiet_minutes} min ({least} expected at "
        f"{stage.traffic} %, while stable got {sentences.number(state.quiet_requests)})"
    )


def _unanswered(state: SourceState) -> str | None:
    """Probes go to both deployments alike: those of one alone are a fault of the prober."""
    if state.quiet_minutes < SILENT_MINUTES:
        return None
    return f"no data: the probes show stable alone for {state.quiet_minutes} min"


def split_mismatch(state: SourceState, stage: Stage) -> str | None:
    """The candidate's observed share is not the one asked for: pinned clients, throttling, or another hand."""
    total = state.step_baseline + state.step_candidate
    asked = stage.traffic / 100
    if not 0.0 < asked < 1.0 or state.step_minutes < SPLIT_MINUTES or not state.step_candidate:
        return None
    observed = state.step_candidate / total
    variance = asked * (1.0 - asked)
    allowed = SPLIT_Z * sqrt(variance / total + (SPLIT_SPREAD * variance) ** 2)
    if abs(observed - asked) <= allowed:
        return None
    return (
        f"the split is off: the candidate got {sentences.percent(observed)} of {sentences.number(total)} requests, "
        f"{stage.traffic} % was asked for"
    )


def shared_incident(state: SourceState, criteria: Criteria) -> str | None:
    """Both deployments are surely worse than stable was in the hour before."""
    for check in criteria.checks:
        known = state.checks.get(check.name)
        if known is None or known.usual is None or not known.recent:
            continue
        recent = _total(known.recent)
        limit = min(WORSE_FACTOR * known.usual + WORSE_POINTS, (1.0 + known.usual) / 2.0)
        if surely_above(recent.z, recent.m, limit) and surely_above(recent.x, recent.n, limit):
            what = check.label if check.quantile is None else f"requests slower than usual ({check.label})"
            return (
                f"both deployments got worse together: {what} {sentences.percent(recent.x / recent.n)} and "
                f"{sentences.percent(recent.z / recent.m)}, {sentences.percent(known.usual)} in the hour before"
            )
    return None


def _total(blocks: tuple[Counts, ...]) -> Counts:
    total = NOTHING
    for block in blocks:
        total = total.plus(block)
    return total


def uneven_load(state: SourceState, stage: Stage, source: Source) -> str | None:
    """Requests per instance differ so much that latency is compared under unequal load."""
    pair = stage.instances
    if (
        pair is None
        or source not in LIVE
        or not (pair.baseline and pair.candidate and state.step_baseline and state.step_candidate)
    ):
        return None
    ratio = (state.step_candidate / pair.candidate) / (state.step_baseline / pair.baseline)
    if 1.0 / UNEVEN <= ratio <= UNEVEN:
        return None
    return f"Latency is not quite comparable: the candidate has {ratio:.2g} times stable's requests per instance."


def hold(
    series: Series | None, state: SourceState, stage: Stage, criteria: Criteria, now: int
) -> tuple[Reason, str] | None:
    """The first reason, if any, why this look cannot pass a step."""
    blind = no_data(series, stage, now, SHOWN_BY.get(criteria.source, criteria.source))
    if blind:
        return Reason.NO_DATA, blind
    if criteria.source == "probes":
        unanswered = _unanswered(state)
        if unanswered:
            return Reason.NO_DATA, unanswered
    elif stage.retreated_since is None:
        idle = no_traffic(state, stage)
        if idle:
            return Reason.NO_TRAFFIC, idle
        off = split_mismatch(state, stage) if criteria.source in LIVE else None
        if off:
            return Reason.SPLIT, off
    shared = shared_incident(state, criteria)
    return (Reason.SHARED_INCIDENT, shared) if shared else None
