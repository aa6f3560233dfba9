"""The verdict in one sentence, past tense, with its numbers.

The rule: a pass says whether "not worse" was shown or only not refuted; a fail says what was allowed; a hold says what
is missing.
"""

from collections.abc import Sequence

from rollout.analysis import sentences
from rollout.analysis.decision import Case, Ruling
from rollout.analysis.terms import Finding, Reason


def told(case: Case, ruling: Ruling, findings: Sequence[Finding]) -> str:
    """The sentence of a verdict."""
    source = case.deciding.criteria.source
    mine = [finding for finding in findings if finding.source == source and finding.role == "evidence"]
    accused = [finding for key in ruling.marked for finding in findings if (finding.source, finding.check) == key]
    if ruling.action == "pass":
        return _passed(case, ruling, mine)
    if ruling.because:
        return f"{_step(case)} is held: {ruling.because}."
    if accused:
        return _accused(case, ruling, accused)
    return _held(case, ruling, mine)


def _step(case: Case) -> str:
    if case.policy.mode == "observe":
        return f"This split ({case.stage.traffic} %)"
    where = f"step {case.stage.step + 1} of {len(case.policy.steps)}"
    return f"The first minutes of {where}" if case.sized else sentences.capital(where)


def _passed(case: Case, ruling: Ruling, findings: Sequence[Finding]) -> str:
    told = f"{_step(case)} passed: {sentences.comparisons(findings)}"
    if ruling.reason is Reason.TIME:
        return f"{told}; {sentences.unproven(findings, case.proof)}."
    if ruling.reason is Reason.EARLY:
        return f"{told}; proven not worse after {case.deciding.closed.step_blocks} of {case.stage.bake} minutes."
    return f"{told}; proven not worse."


def _accused(case: Case, ruling: Ruling, accused: Sequence[Finding]) -> str:
    first = accused[0]
    if ruling.reason is Reason.HARD_GUARD and case.crashed:
        return _crashed(case)
    if ruling.reason is Reason.HARM:
        return _harmful(case, first)
    if ruling.reason is Reason.HARD_GUARD:
        return f"The candidate failed: half of its requests or more were bad two minutes in a row, {_numbers(first)}."
    if ruling.reason is Reason.MAXIMUM:
        return f"The candidate failed: {_numbers(first)}, above the maximum of {_maximum(first)}."
    if ruling.action == "fail":
        return f"The candidate failed: {sentences.accusation(first, case.evidence, case.threshold)}."
    suspicion = f"suspicion {sentences.evidence(case.suspicion)}"
    against = sentences.accusation(first, case.evidence, case.threshold, beside=f"{suspicion}, ")
    return f"The candidate is under suspicion: {against}."


def _crashed(case: Case) -> str:
    probes = case.policy.probes
    limit = f"within {sentences.seconds(probes.timeout)}" if probes else "in time"
    return (
        f"The candidate failed: {case.failed_pairs} probes in a row got no good answer {limit}, while stable answered "
        "each of them."
    )


def _harmful(case: Case, first: Finding) -> str:
    budget = sentences.number(case.policy.expert.harm_budget or 0)
    harm = case.harm
    return (
        f"The candidate failed: about {sentences.number(harm.excess)} bad requests beyond stable's rate (at least "
        f"{sentences.number(harm.surely)}), above the harm budget of {budget}; {_numbers(first)}, evidence "
        f"{sentences.evidence(case.evidence)}."
    )


def _numbers(finding: Finding) -> str:
    return sentences.accused(finding)


def _maximum(finding: Finding) -> str:
    most = finding.maximum or 0.0
    return sentences.percent(most) if finding.unit == "share" else f"{sentences.number(most)} ms"


def _held(case: Case, ruling: Ruling, findings: Sequence[Finding]) -> str:
    state, stage = case.deciding.closed, case.stage
    numbers = sentences.comparisons(findings)
    if ruling.reason is Reason.RECOVERED:
        over = "is over" if case.evidence < 1.0 else "was not confirmed"
        return f"The suspicion {over}: {numbers}; evidence {sentences.evidence(case.evidence)}."
    why = {
        Reason.BAKE: (
            f"is baking, {state.step_blocks} of {stage.bake} minutes judged"
            f"{_more(case.deciding.seen.step_blocks - state.step_blocks)}"
        ),
        Reason.REQUESTS: (
            f"is held: {sentences.number(state.step_candidate)} of the {sentences.number(case.policy.min_requests)} "
            f"requests wanted on the candidate{_more(case.deciding.seen.step_candidate - state.step_candidate)}"
        ),
        Reason.DOUBT: f"is held in doubt: evidence {sentences.evidence(case.evidence)} against the candidate",
        Reason.NOT_COMPARABLE: f"is held: {_unknown(case)}",
    }.get(ruling.reason, "is retreated, under suspicion")
    return f"{_step(case)} {why}: {numbers}."


def _unknown(case: Case) -> str:
    own = [check.label for check in case.unknown if check.quantile is None]
    if own:
        return f"nothing was counted yet on both deployments by {', '.join(own)}"
    reported = [check.label for check in case.unknown if check.reported]
    if reported:
        return f"Azure has not reported the {' and '.join(reported)} of both deployments yet"
    return "too few timed requests of stable to compare latency with"


def _more(count: int) -> str:
    """What the numbers show already, but does not count before its minutes are closed."""
    return f" ({sentences.number(count)} more not closed yet)" if count > 0 else ""
