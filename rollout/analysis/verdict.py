"""The verdict: everything known -> findings -> pass, hold, retreat or fail, with its sentence.

The rule: `judge` is pure and idempotent. Its state advances once, over closed blocks in order; open blocks that were
seen unchanged twice are folded into a throw-away copy, which may fail, retreat or hold, and never pass.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rollout.analysis.judgement import Judgement
from rollout.analysis.terms import Action, Finding, Pair, Rate, Reason, Series, Source, Stage, Verdict

if TYPE_CHECKING:
    from rollout.policy import Policy

__all__ = [
    "Action",
    "Finding",
    "Judgement",
    "Pair",
    "Rate",
    "Reason",
    "Series",
    "Source",
    "Stage",
    "Verdict",
    "begin",
    "judge",
]


def begin(policy: "Policy", *, alpha: float | None = None) -> Judgement:
    """An empty judgement. `alpha` overrides the policy's: half of it where a person went on past a fail."""
    raise NotImplementedError


def judge(
    judgement: Judgement, *, policy: "Policy", stage: Stage, series: Sequence[Series], now: int
) -> tuple[Judgement, Verdict]:
    """Take in what is new and say what to do. `now` is a minute since the epoch."""
    raise NotImplementedError
