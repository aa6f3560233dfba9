"""The terms of judging: what goes into `verdict.judge` and what comes out of it.

The rule: plain frozen values; minutes are integers since the epoch, shares of requests numbers between 0 and 1,
durations milliseconds; every number is finite, so that all of it survives JSON. In pairs stable (`baseline`) is first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from rollout.analysis.cells import Cell

Source = Literal["logs", "metrics", "probes", "custom"]
#: Which source decides promotion: the first of these that a policy judges by.
DECIDING: tuple[Source, ...] = ("logs", "metrics", "probes", "custom")
Action = Literal["pass", "hold", "retreat", "fail"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A count of stable and of the candidate."""

    baseline: int
    candidate: int


@dataclass(frozen=True, kw_only=True)
class Series:
    """What one source has shown of both deployments.

    The mappings are sparse: a minute that is missing showed no rows, which is not the same as zero. They must hold
    every minute since `Stage.started` that the judgement has not yet taken in, and the hour before `Stage.since`.
    """

    source: Source
    baseline: Mapping[int, Cell]  # minute since the epoch -> cell
    candidate: Mapping[int, Cell]
    closed_before: int  # minutes below this one are closed: they can no longer change
    steady: frozenset[int] = frozenset()  # open minutes seen unchanged twice
    read_at: int  # minute of the last successful read; 0 where there was none
    history: Mapping[int, Cell] = field(default_factory=dict)  # stable's closed cells of the hour before the rollout
    failed_pairs: int = 0  # probes: pairs in a row, up to now, in which only the candidate's answer was bad


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where the rollout stands, as the lifecycle knows it."""

    step: int  # index into the policy's steps
    traffic: int  # the candidate's share asked for now, percent
    started: int  # first whole minute of the rollout under a confirmed split
    since: int  # first whole minute under this step's confirmed split; it moves on when a retreat ends
    bake: int  # closed blocks wanted
    retreated_since: int | None = None  # minute at which the share was cut, else None
    holdback: bool = True  # stable still has a share to compare with
    instances: Pair | None = None  # of both deployments, where known


class Reason(StrEnum):
    """Why the verdict is what it is: one word for machines, the sentence is for people."""

    PROVEN = "proven"  # pass: the bake is over and the candidate is shown to be not worse
    EARLY = "early"  # pass before the bake is over: shown to be not worse
    TIME = "time"  # pass: the bake is over, no evidence against, not proven
    BAKE = "bake"  # hold: blocks of this step are still to come
    REQUESTS = "requests"  # hold: bake over, too few requests on the candidate
    DOUBT = "doubt"  # hold: bake over, 5 <= E < 1/alpha
    NOT_COMPARABLE = "not_comparable"  # hold: bake over, too little is known of stable's latency to compare with
    NO_DATA = "no_data"  # hold: the pipe is silent, late or was not read
    NO_TRAFFIC = "no_traffic"  # hold: the pipe is alive, the candidate gets nothing
    SPLIT = "split"  # hold: the observed share is not the one asked for
    SHARED_INCIDENT = "shared_incident"  # hold: both got worse together
    RECOVERED = "recovered"  # hold, only while retreated: the suspicion is over, go back to the step's share
    SUSPICION = "suspicion"  # retreat, or stay retreated
    REGRESSION = "regression"  # fail: E >= 1/alpha
    HARD_GUARD = "hard_guard"  # fail: half of the candidate's requests bad two blocks in a row, or all its probes
    HARM = "harm_budget"  # fail: more requests harmed than the policy allows
    MAXIMUM = "maximum"  # fail (or hold, where stable is above it too): above the policy's `max`


#: How a finding takes part: its evidence decides; only its `max` does (reported quantiles); it reports and decides
#: nothing; it is told to people and decides nothing.
Role = Literal["evidence", "bound", "dry_run", "alert"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one deployment showed for one check in this step.

    `value` is the share of bad requests (0 to 1), for a latency check its quantile in ms, for the size of answers their
    median in bytes; None where n is 0. For a latency check `bad` counts the requests slower than this deployment's bar.
    Of quantiles that Azure reported, n is the number of minutes, and `value` the median of them.
    """

    bad: float
    n: float
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check saw in one source."""

    check: str  # error_rate, client_errors, latency_p50, latency_p95, latency_p99, answer_size, or the name of an own check
    source: Source
    unit: Literal["share", "ms", "bytes"]
    baseline: Rate
    candidate: Rate
    margin: float  # the increase allowed: 0.005 = 0.5 points of requests; for latency 0.25 = 25 %, for sizes 1.0 = × 2
    maximum: float | None  # the policy's `max`: a share, or ms
    bar: float | None  # latency: stable's quantile before the rollout in ms, what "slow" is measured against
    evidence: float  # E of this check alone: 1 says nothing, large speaks against the candidate
    weight: float  # its part of the source's E
    not_worse: float  # N: large says "not worse than the margin"
    compatible: float | None  # the largest increase still compatible with the data (95 %): in points, latency relative
    action: Action
    sentence: str
    role: Role = "evidence"
    alert: bool = False  # people should hear of it, though it decides nothing


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do now and why; the last word on one look at the cells."""

    action: Action
    reason: Reason
    sentence: str
    findings: tuple[Finding, ...]
    evidence: float  # the combined E: fails at 1/alpha
    threshold: float  # 1/alpha
    blocks: int  # closed blocks of this step counted towards the bake
    requests: Pair  # in this step, as far as the verdict saw
    first_bad: int | None  # the minute at which the change point puts the fault, where there is suspicion
    harmed: float  # excess bad requests of the candidate so far
    suspicion: float = 0.0  # of the loudest check: the share is cut at `decision.SUSPICION`
    late: int = 0  # rows that came after their minute was closed; they changed nothing
    notes: tuple[str, ...] = ()  # what else a reader should know, one sentence each
