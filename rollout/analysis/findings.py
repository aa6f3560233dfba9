"""Findings: what each check saw in each source, as values with a sentence.

The rule: a finding reports, it does not decide; its action only marks which checks carried the verdict.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple

from rollout.analysis import sentences
from rollout.analysis.bounds import Z, highest_growth, highest_increase
from rollout.analysis.cells import Histogram, Ranked
from rollout.analysis.checks import Check
from rollout.analysis.criteria import Criteria
from rollout.analysis.evidence import Counts, Process, likelihood
from rollout.analysis.judgement import CheckState, SourceState
from rollout.analysis.terms import Action, Finding, Rate, Source

LOUD = 0.5  # of what the loudest check says: this loud carries the evidence, too
Key = tuple[Source, str]  # a source and a check


@dataclass(frozen=True, kw_only=True)
class Look:
    """One source as this look at it shows it: `closed` after its closed minutes, `seen` with the steady open ones too."""

    criteria: Criteria
    closed: SourceState
    seen: SourceState

    def evidence(self, check: Check) -> float:
        """E of one check, the open minutes included."""
        return process_of(self.seen, check).evidence(self.criteria.tuning.horizon)

    def not_worse(self, check: Check) -> float:
        """N of one check: open minutes never help to pass."""
        return process_of(self.closed, check).not_worse()

    def suspicion(self, check: Check) -> float:
        """The suspicion of one check, the open minutes included."""
        return process_of(self.seen, check).suspicion()

    def blamed(self) -> list[Check]:
        """The checks that carry the evidence."""
        loud = LOUD * max((self.part(check) for check in self.criteria.checks), default=0.0)
        return [check for check in self.criteria.checks if self.part(check) >= loud]

    def says(self, check: Check) -> float:
        """What this step's minutes alone, taken as one block, say for a fault: 1 says nothing."""
        state = self.seen.checks.get(check.name, CheckState())
        return likelihood(state.step, check.margin, state.process.noise.tau(self.criteria.tunings[check.name].tau))

    def part(self, check: Check) -> float:
        """What the check contributes to the combined evidence."""
        return self.criteria.weight * self.criteria.weights[check.name] * self.evidence(check)

    def total(self) -> float:
        """What the source contributes to the combined evidence."""
        return sum(self.part(check) for check in self.criteria.checks)


def process_of(state: SourceState, check: Check) -> Process:
    """The evidence of a check, new where none was gathered yet."""
    known = state.checks.get(check.name)
    return known.process if known else Process()


def combined(looks: Collection[Look]) -> float:
    """The combined E: within a source the weighted mean of its checks; of the sources the one that speaks loudest."""
    return max((look.total() for look in looks), default=0.0)


def culprits(looks: Collection[Look]) -> list[Key]:
    """The checks that carry the evidence, the loudest first: each at least half as loud as the loudest."""
    parts: Mapping[Key, float] = {
        (look.criteria.source, check.name): look.part(check)
        for look in looks
        for check in look.criteria.checks
        if look.evidence(check) > 1.0
    }
    loud = [key for key, part in parts.items() if part >= LOUD * max(parts.values())]
    return sorted(loud, key=lambda key: -parts[key])


def suspects(looks: Collection[Look]) -> dict[Key, float]:
    """The suspicion of each check, the loudest first."""
    found = {
        (look.criteria.source, check.name): look.suspicion(check) for look in looks for check in look.criteria.checks
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, kw_only=True)
class Marks:
    """How a verdict marks its findings: `marked` checks carry `action`; proven means N >= `proof`."""

    marked: Collection[Key]
    action: Action
    proof: float
    threshold: float  # E that fails

    def of(self, look: Look, check: Check) -> Action:
        """What this check's finding is marked with."""
        if check.dry_run:
            return "hold"
        if self.action != "pass" and (look.criteria.source, check.name) in self.marked:
            return self.action
        proven = check.weighed and look.not_worse(check) >= self.proof
        return "pass" if proven or self.action == "pass" else "hold"


def findings_of(look: Look, *, seen: bool, marks: Marks) -> tuple[Finding, ...]:
    """The findings of one source, `seen` with its open minutes."""
    state = look.seen if seen else look.closed
    found = []
    for check in look.criteria.everything:
        finding = (_bound if check.reported else _weighed)(look, check, state, marks.of(look, check))
        told = sentences.of_check(finding, marks.proof, marks.threshold)
        found.append(replace(finding, sentence=sentences.capital(told)))
    return tuple(found)


def _weighed(look: Look, check: Check, state: SourceState, action: Action) -> Finding:
    known = state.checks.get(check.name, CheckState())
    baseline, candidate, compatible = _rates(check, *shown_by(check, state, action))
    return Finding(
        check=check.name,
        source=look.criteria.source,
        unit="share" if check.quantile is None else "ms",
        baseline=baseline,
        candidate=candidate,
        margin=check.increase,
        maximum=check.maximum,
        bar=known.bar,
        evidence=look.evidence(check),
        weight=look.criteria.weights.get(check.name, 0.0),
        not_worse=look.not_worse(check),
        compatible=compatible,
        action=action,
        sentence="",
        role="dry_run" if check.dry_run else "evidence",
    )


def _bound(look: Look, check: Check, state: SourceState, action: Action) -> Finding:
    """Of quantiles that Azure reported: no counts, so no evidence."""
    name = check.measure or ""
    decides = check.maximum is not None and not check.dry_run
    return Finding(
        check=check.name,
        source=look.criteria.source,
        unit="ms",
        baseline=middle(state.baseline_measures.get(name, {})),
        candidate=middle(state.candidate_measures.get(name, {})),
        margin=check.increase,
        maximum=check.maximum,
        bar=None,
        evidence=1.0,
        weight=0.0,
        not_worse=1.0,
        compatible=None,
        action=action if decides else "hold",
        sentence="",
        role="bound" if decides else "dry_run",
    )


def middle(histogram: Histogram) -> Rate:
    """The median of what was measured, and of how much."""
    known = Ranked(histogram)
    return Rate(bad=0.0, n=known.total, value=known.quantile(0.5))


Shown = tuple[Counts, Histogram, Histogram]  # counts, and the durations of stable and of the candidate


def shown_by(check: Check, state: SourceState, action: Action) -> Shown:
    """What a finding is told from: the step, but what speaks for a fault from the minute since which it does."""
    known = state.checks.get(check.name, CheckState())
    accused = action in {"fail", "retreat"} and (known.process.run > 0.0 or not known.step.n)
    if accused:
        return known.run, known.run_baseline or {}, known.run_candidate or {}
    return known.step, state.baseline_durations, state.candidate_durations


def _rates(check: Check, counts: Counts, stable: Histogram, ours: Histogram) -> tuple[Rate, Rate, float | None]:
    """Stable's and the candidate's rate, and the largest increase still compatible with them."""
    z, m, x, n = counts
    if check.quantile is None:
        return _share(z, m), _share(x, n), highest_increase(counts) if m and n else None
    q, baseline, candidate = check.quantile, Ranked(stable), Ranked(ours)
    return (
        Rate(bad=z, n=baseline.total, value=baseline.quantile(q)),
        Rate(bad=x, n=candidate.total, value=candidate.quantile(q)),
        highest_growth(baseline, candidate, q),
    )


def _share(bad: float, n: float) -> Rate:
    return Rate(bad=bad, n=n, value=bad / n if n else None)


class Harm(NamedTuple):
    """Bad requests of the candidate beyond stable's rate, and their variance (0 where nobody asks for it)."""

    excess: float = 0.0
    variance: float = 0.0

    @property
    def surely(self) -> float:
        """So many at least, 95 % one-sided."""
        return self.excess - Z * sqrt(self.variance)


def harm_of(look: Look, marked: Collection[Key]) -> Harm:
    """What the candidate has done to the callers over the rollout, as this source shows it, beyond stable's rate.

    Errors and client errors are different requests and add up; slow answers count where latency carries the verdict,
    once however many quantiles are checked; what own checks count may be the same requests, so only the worst counts.
    Probes are nobody's requests.
    """
    source = look.criteria.source
    states = {check: look.seen.checks.get(check.name, CheckState()) for check in look.criteria.checks}
    found = {check: Harm(state.excess, state.spread) for check, state in states.items()}
    if source == "probes":
        return Harm()
    if source == "custom":
        return max(found.values(), default=Harm())
    slow = [found[check] for check in found if check.quantile is not None and (source, check.name) in marked]
    bad = [harm for check, harm in found.items() if check.quantile is None] + [max(slow, default=Harm())]
    return Harm(sum(harm.excess for harm in bad), sum(harm.variance for harm in bad))


def harmed(looks: Collection[Look], marked: Collection[Key]) -> float:
    """The excess of the source that shows the most: sources show the same requests."""
    return max((harm_of(look, marked).excess for look in looks), default=0.0)
