"""Answer sizes: whether the candidate's good answers are of another size than stable's.

The rule: it is told to people and decides nothing. A model that sends `{"error": …}` with status 200 shows here, and so
does one that is meant to answer at more length.
"""

from rollout.analysis import sentences
from rollout.analysis.cells import ANSWER_SIZE
from rollout.analysis.findings import Look, middle
from rollout.analysis.terms import Finding, Rate
from rollout.policy import AnswerSizeCheck

LEAST_ANSWERS = 30  # of each deployment in the step


def answer_size(written: AnswerSizeCheck, look: Look, *, seen: bool) -> Finding:
    """The median sizes of this step's answers, in bytes."""
    state = look.seen if seen else look.closed
    baseline = middle(state.baseline_measures.get(ANSWER_SIZE, {}))
    candidate = middle(state.candidate_measures.get(ANSWER_SIZE, {}))
    times = _times(baseline, candidate)
    other = times is not None and not 1.0 / written.max_change <= times <= written.max_change
    return Finding(
        check=ANSWER_SIZE,
        source=look.criteria.source,
        unit="bytes",
        baseline=baseline,
        candidate=candidate,
        margin=written.max_change - 1.0,
        maximum=None,
        bar=None,
        evidence=1.0,
        weight=0.0,
        not_worse=1.0,
        compatible=None,
        action="hold",
        sentence=_told(baseline, candidate, times, other=other),
        role="dry_run" if written.dry_run else "alert",
        alert=other and not written.dry_run,
    )


def _times(baseline: Rate, candidate: Rate) -> float | None:
    """The candidate's median as a multiple of stable's; None where too few answers are known."""
    if min(baseline.n, candidate.n) < LEAST_ANSWERS or not baseline.value or not candidate.value:
        return None
    return candidate.value / baseline.value


def _told(baseline: Rate, candidate: Rate, times: float | None, *, other: bool) -> str:
    if times is None:
        return "Answer size: too few answers to say."
    both = f"{sentences.value(candidate, 'bytes')} vs {sentences.value(baseline, 'bytes')} in the median"
    if not other:
        return f"Answer size: {both}."
    return (
        f"Answers have another size: {both}, {times:.2g} times stable's; whether they are right is for people to see."
    )
