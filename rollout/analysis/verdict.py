"""The verdict: everything known -> findings -> pass, hold, retreat or fail, with its sentence.

The rule: `judge` is pure and idempotent. Its state advances once, over closed blocks in order; open blocks that were
seen unchanged twice are folded into a throw-away copy, which may fail, retreat or hold, and never pass.

The order: absolute bounds, evidence, suspicion, "is there anything sound to judge", then the bake. While retreated,
`retreat` stays retreated, `hold` with `Reason.RECOVERED` ends the retreat, `hold` with any other reason stays and waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rollout.analysis.answers import answer_size
from rollout.analysis.checks import deciding_source
from rollout.analysis.criteria import criteria_of
from rollout.analysis.decision import Case, Ruling, decide
from rollout.analysis.findings import Look, Marks, combined, culprits, findings_of, harmed, process_of, suspects
from rollout.analysis.fold import advance
from rollout.analysis.judgement import Judgement, SourceState
from rollout.analysis.notes import notes_of
from rollout.analysis.telling import told
from rollout.analysis.terms import Action, Finding, Pair, Rate, Reason, Series, Source, Stage, Verdict
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


def begin(
    policy: Policy, *, alpha: float | None = None, taus: Mapping[str, Mapping[str, float]] | None = None
) -> Judgement:
    """An empty judgement. `alpha` overrides the policy's: half of it where a person went on past a fail.

    `taus` is what was learned before of the noise between minutes (see `Judgement.taus`, `noise.learned`).
    """
    return Judgement(alpha=policy.expert.alpha if alpha is None else alpha, taus=taus or {})


def judge(
    judgement: Judgement, *, policy: Policy, stage: Stage, series: Sequence[Series], now: int
) -> tuple[Judgement, Verdict]:
    """Take in what is new and say what to do. `now` is a minute since the epoch.

    Sources that the policy does not ask for are left out; one that is missing shows nothing. One of them decides
    promotion (`checks.deciding_source`); every source may fail or retreat.
    """
    case = case_of(judgement, policy=policy, stage=stage, series=series, now=now)
    known = {one.source for one in series}
    states = dict(judgement.sources)
    states.update({look.criteria.source: look.closed for look in case.looks if look.criteria.source in known})
    ruling = decide(case)
    after = replace(judgement, sources=states, resumed_at=ruling.resumed_at)
    return after, _verdict(case, ruling)


def case_of(judgement: Judgement, *, policy: Policy, stage: Stage, series: Sequence[Series], now: int) -> Case:
    """All that a ruling rests on. What was taken in is not taken in again: after a look its case can be made anew."""
    by_source = {one.source: one for one in series}
    looks = []
    for source, criteria in criteria_of(policy, judgement.taus).items():
        closed = seen = judgement.sources.get(source, SourceState())
        if source in by_source:
            closed, seen = advance(closed, by_source[source], stage, criteria)
        looks.append(Look(criteria=criteria, closed=closed, seen=seen))
    decides = deciding_source(policy)
    deciding = next(look for look in looks if look.criteria.source == decides)
    return Case(
        policy=policy,
        stage=stage,
        looks=tuple(looks),
        deciding=deciding,
        series=by_source.get(deciding.criteria.source),
        evidence=combined(looks),
        culprits=tuple(culprits(looks)),
        suspects=suspects(looks),
        threshold=1.0 / judgement.alpha,
        resumed_at=judgement.resumed_at,
        now=now,
        failed_pairs=by_source["probes"].failed_pairs if "probes" in by_source else 0,
    )


def _verdict(case: Case, ruling: Ruling) -> Verdict:
    seen = ruling.action != "pass"
    state = case.deciding.seen if seen else case.deciding.closed
    findings = _findings(case, ruling, seen=seen)
    return Verdict(
        action=ruling.action,
        reason=ruling.reason,
        sentence=told(case, ruling, findings),
        findings=tuple(findings),
        evidence=case.evidence,
        threshold=case.threshold,
        blocks=case.deciding.closed.step_blocks,
        requests=Pair(baseline=state.step_baseline, candidate=state.step_candidate),
        first_bad=_first_bad(case, ruling),
        harmed=max(0.0, harmed(case.looks, ruling.marked)),
        suspicion=case.suspicion,
        late=sum(look.closed.late for look in case.looks),
        notes=tuple(notes_of(case, state, findings)),
    )


def _findings(case: Case, ruling: Ruling, *, seen: bool) -> list[Finding]:
    marks = Marks(marked=ruling.marked, action=ruling.action, proof=case.proof, threshold=case.threshold)
    found = [finding for look in case.looks for finding in findings_of(look, seen=seen, marks=marks)]
    sizes = case.policy.checks.answer_size
    if sizes is not None:
        found += [answer_size(sizes, look, seen=seen) for look in case.looks if look.criteria.source == "logs"]
    return found


def _first_bad(case: Case, ruling: Ruling) -> int | None:
    """Where the change point of the loudest check lies, while there is something to suspect."""
    for source, name in ruling.marked:
        for look in case.looks:
            for check in look.criteria.checks:
                if (look.criteria.source, check.name) == (source, name):
                    return process_of(look.seen, check).fault_since()
    return None
