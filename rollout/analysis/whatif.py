"""What would have changed a verdict: how many bad requests fewer or more, how much more margin.

The rule: the judge itself is asked again, over the same minutes with those numbers changed and nothing else; there is no
formula beside it. Where it gives another answer with nothing changed, nothing is said.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isclose
from typing import TypeVar

from rollout.analysis import sentences
from rollout.analysis.altered import Change, altered, fewer_bad, more_bad, taken
from rollout.analysis.checks import Check
from rollout.analysis.criteria import criteria_of
from rollout.analysis.decision import Case, Ruling, decide
from rollout.analysis.replay import Judged
from rollout.analysis.terms import Finding, Reason
from rollout.analysis.verdict import case_of
from rollout.policy import Policy

#: What a verdict that speaks against the candidate would have been without it.
_WITHOUT: dict[Reason, str] = {
    Reason.REGRESSION: "would not have failed",
    Reason.HARD_GUARD: "would not have failed",
    Reason.MAXIMUM: "would not have failed",
    Reason.HARM: "would not have failed",
    Reason.SUSPICION: "would not have been under suspicion",
    Reason.DOUBT: "would not have been held in doubt",
}
#: Increases as a policy may write them, in two figures: points of requests, and parts of stable's latency.
_POINTS = [
    figure * 10.0**power for power in (-5, -4, -3, -2) for figure in range(10, 100) if figure * 10.0**power <= 0.5
]
_GROWTH = [figure * 10.0**power for power in (-3, -2, -1) for figure in range(10, 100) if figure * 10.0**power <= 10.0]
#: A longer rollout is not asked about: each answer weighs all of its minutes again.
MOST_MINUTES = 2000
_T = TypeVar("_T")


def what_if(judged: Judged, policy: Policy, *, candidate: str) -> tuple[str, ...]:
    """One sentence for each thing that would have made this verdict another one; empty where numbers would not have.

    Also empty after `MOST_MINUTES` of a rollout.

    `candidate` is the deployment's name.
    """
    asked = _Asked(judged=judged, policy=policy, name=candidate)
    verdict = judged.verdict
    if judged.now - judged.stage.started > MOST_MINUTES or not asked.answers():
        return ()
    if asked.crashed():
        return ()  # probes in a row, not numbers
    if verdict.reason in _WITHOUT:
        return tuple(asked.less())
    if verdict.action == "pass":
        return tuple(asked.more())
    return tuple(asked.missing())


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The judge, asked again about one look."""

    judged: Judged
    policy: Policy
    name: str  # the candidate's

    def answers(self) -> bool:
        """With nothing changed the judge says what it said."""
        case, ruling = self._again()
        verdict = self.judged.verdict
        same = (ruling.action, ruling.reason) == (verdict.action, verdict.reason)
        return same and isclose(case.evidence, verdict.evidence, rel_tol=1e-6)

    def crashed(self) -> bool:
        """The candidate failed for probes that only stable answered."""
        return self.judged.verdict.reason is Reason.HARD_GUARD and bool(self._again()[0].crashed)

    def less(self) -> Iterator[str]:
        """Fewer bad requests, or a wider bound, for the check that speaks the loudest."""
        finding = self._loudest()
        ways = [way for way in (self._fewer(finding), self._wider(finding)) if way]
        if ways:
            yield f"With {', or with '.join(ways)}, it {_WITHOUT[self.judged.verdict.reason]} at this look."

    def more(self) -> Iterator[str]:
        """How many more bad requests in the step would have been too many for a pass, by check."""
        source = self._again()[0].deciding.criteria.source
        for finding in self.judged.verdict.findings:
            if finding.source != source or finding.role != "evidence" or not finding.candidate.n:
                continue
            counts = [self._extra(finding, passes) for passes in (_passes, _stays_below)]
            words = ("not to pass", "to be evidence that fails")
            told = [f"{sentences.number(n)} {word}" for n, word in zip(counts, words, strict=True) if n is not None]
            if told:
                yield (
                    f"{sentences.capital(sentences.label(finding.check))}: it would have taken about this many more "
                    f"{_bad(finding)} on {self.name} in this step: {', '.join(told)}."
                )

    def missing(self) -> Iterator[str]:
        """What a hold still waits for, where that is a number."""
        state = self._again()[0].deciding.closed
        if self.judged.verdict.reason is Reason.REQUESTS:
            wanted = sentences.number(self.policy.min_requests - state.step_candidate)
            yield f"With {wanted} more requests on {self.name} in this step, it could have been judged."
        if self.judged.verdict.reason is Reason.BAKE:
            left = self.judged.stage.bake - state.step_blocks
            minutes = f"{left} more judged minute{'' if left == 1 else 's'}"
            yield f"With {minutes} and nothing else changed, the bake would be over."

    # --- the ways

    def _fewer(self, finding: Finding) -> str | None:
        changed = fewer_bad(self.judged, finding, self._check(finding), self._since(finding))
        least = _least(range(1, ceil(changed.most) + 1), lambda count: self._other(changed, count / changed.most))
        if least is None:
            return None
        left = sentences.number(max(0.0, changed.bad - least))
        bad = sentences.number(changed.bad)
        return f"{sentences.number(least)} fewer {_bad(finding)} on {self.name} ({left} instead of {bad})"

    def _wider(self, finding: Finding) -> str | None:
        """The next bound, as a policy would write it, that would not have been crossed."""
        reason = self.judged.verdict.reason
        if reason is Reason.HARD_GUARD:
            return None
        if reason is Reason.HARM:
            least, old = floor(self._again()[0].harm.surely) + 1, self.policy.expert.harm_budget
            return f"`harm_budget: {least}` instead of {old}"
        if reason is Reason.MAXIMUM:
            return self._higher(finding)
        wider = [one for one in (_POINTS if finding.unit == "share" else _GROWTH) if one > finding.margin * 1.001]
        found = _least(wider, lambda increase: self._otherwise(finding, max_increase=increase))
        if found is None:
            return None
        unit = "pp" if finding.unit == "share" else "%"
        return (
            f"`{finding.check}: {{max_increase: {100 * found:.4g}{unit}}}` instead of {100 * finding.margin:.4g}{unit}"
        )

    def _higher(self, finding: Finding) -> str | None:
        old = finding.maximum or 0.0
        if finding.unit == "share":
            found = _least([one / 1000 for one in range(1, 1001) if one / 1000 > old], self._with_max(finding))
            return None if found is None else f"`max: {100 * found:.4g}%` instead of {100 * old:.4g}%"
        slower = _least(range(int(old) + 1, 20 * int(old) + 2), self._with_max(finding))
        return None if slower is None else f"`max: {slower}ms` instead of {old:.0f}ms"

    def _with_max(self, finding: Finding) -> Callable[[float], bool]:
        return lambda most: self._otherwise(finding, max=most)

    def _extra(self, finding: Finding, holds: Callable[[Case, Ruling], bool]) -> int | None:
        """The least number of further bad requests, evenly over the step, with which it does not hold any more."""
        changed = more_bad(self.judged, finding, self._check(finding), self.judged.stage.since)

        def broken(count: int) -> bool:
            return not holds(*self._again(changed.by(count / changed.most)))

        return _least(range(1, int(changed.most) + 1), broken)

    # --- asking

    def _again(self, judged: Judged | None = None, policy: Policy | None = None) -> tuple[Case, Ruling]:
        """The case over all minutes, taken in at once, and the ruling on it."""
        look = judged or self.judged
        fresh = replace(self.judged.judgement, sources={})
        case = case_of(fresh, policy=policy or self.policy, stage=look.stage, series=look.series, now=look.now)
        return case, decide(case)

    def _other(self, changed: Change, part: float) -> bool:
        return self._differs(self._again(changed.by(part))[1])

    def _otherwise(self, finding: Finding, **changes: float) -> bool:
        return self._differs(self._again(policy=altered(self.policy, finding.check, **changes))[1])

    def _differs(self, ruling: Ruling) -> bool:
        verdict = self.judged.verdict
        if verdict.action == "fail":
            return ruling.action != "fail"
        return (ruling.action, ruling.reason) != (verdict.action, verdict.reason)

    def _loudest(self) -> Finding:
        """The check that carries the verdict; where none is marked, the one that carries most of the evidence."""
        findings = [finding for finding in self.judged.verdict.findings if finding.role in {"evidence", "bound"}]
        blamed = [finding for finding in findings if finding.action in {"fail", "retreat"}]
        return max(blamed or findings, key=lambda finding: finding.evidence * finding.weight)

    def _check(self, finding: Finding) -> Check:
        criteria = criteria_of(self.policy)[finding.source]
        return next(check for check in criteria.everything if check.name == finding.check)

    def _since(self, finding: Finding) -> int:
        """The minute since which the requests speak for a fault; of the hard guard's minutes, the last one is enough."""
        if self.judged.verdict.reason is Reason.HARD_GUARD:
            shown = next(one for one in self.judged.series if one.source == finding.source)
            return max(taken(shown))
        found = self.judged.verdict.first_bad
        return self.judged.stage.started if found is None else found


def _passes(_case: Case, ruling: Ruling) -> bool:
    return ruling.action == "pass"


def _stays_below(case: Case, _ruling: Ruling) -> bool:
    return case.evidence < case.threshold


def _least(choices: Sequence[_T], holds: Callable[[_T], bool]) -> _T | None:
    """The first of rising choices for which it holds, given that it then holds for all after it; None if for none."""
    if not choices or not holds(choices[-1]):
        return None
    low, high = 0, len(choices) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(choices[middle]) else (middle + 1, high)
    return choices[high]


def _bad(finding: Finding) -> str:
    if finding.check == "client_errors":
        return "client errors"
    return "bad requests" if finding.unit == "share" else "slow requests"
