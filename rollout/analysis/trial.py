"""A policy's own check on what its query counted just now: what it would say, before any rollout rests on it.

The rule: judged by the same rules as in a rollout, as if it were the only check and one deployment the candidate.
"""

from collections.abc import Mapping
from datetime import timedelta

from rollout.analysis.cells import Cell
from rollout.analysis.terms import Finding, Series, Stage
from rollout.analysis.verdict import begin, judge
from rollout.policy import Checks, CustomCheck, Expert, Policy, Step

MINUTE = timedelta(minutes=1)
#: A rollout of nothing but this check.
_OFF = dict.fromkeys(("error_rate", "client_errors", "latency_p95"))


def try_out(
    check: CustomCheck, *, baseline: Mapping[int, Cell], candidate: Mapping[int, Cell], start: int, end: int
) -> tuple[Finding, float]:
    """What the check sees in the minutes [start, end), and the evidence at which it would fail the candidate."""
    bake = max(1, end - start)
    policy = Policy(
        name="trial",
        endpoint_name="trial",
        steps=(Step(traffic=100, bake=bake * MINUTE),),
        deadline=max(timedelta(hours=8), 2 * bake * MINUTE),
        checks=Checks(**_OFF, custom=(check.model_copy(update={"dry_run": False}),)),
        expert=Expert.model_construct(evidence=()),
    )
    stage = Stage(step=0, traffic=50, started=start, since=start, bake=bake)
    series = Series(source="custom", baseline=baseline, candidate=candidate, closed_before=end, read_at=end)
    _, verdict = judge(begin(policy), policy=policy, stage=stage, series=[series], now=end)
    (finding,) = verdict.findings
    return finding, verdict.threshold
