"""What would have changed a verdict: how many bad requests fewer or more, how much more margin.

The rule: it is found by weighing the same blocks again with those numbers changed and nothing else, never by a formula of
its own. Where the blocks do not give back the evidence that was told, nothing is said.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil

from rollout.analysis import sentences
from rollout.analysis.bounds import surely_above
from rollout.analysis.decision import DOUBT, SUSPICION, Case
from rollout.analysis.judgement import CheckState
from rollout.analysis.replay import Judged
from rollout.analysis.terms import Finding, Reason
from rollout.analysis.verdict import case_of
from rollout.analysis.weighing import Weighed, weigh
from rollout.policy import Policy

#: What the evidence would have had to stay below, by what was decided on it, and what would have been otherwise then.
_ENDS: dict[Reason, str] = {
    Reason.REGRESSION: "would not have failed",
    Reason.SUSPICION: "would not have been under suspicion",
    Reason.DOUBT: "would not have been held in doubt",
}


def what_if(judged: Judged, policy: Policy, *, candidate: str) -> tuple[str, ...]:
    """One sentence for each thing that would have made this verdict another one; empty where numbers would not have.

    `candidate` is the deployment's name.
    """
    case = case_of(judged.judgement, policy=policy, stage=judged.stage, series=judged.series, now=judged.now)
    told = _WhatIf(judged=judged, case=case, name=candidate)
    reason = judged.verdict.reason
    if reason in _ENDS:
        return tuple(told.less(reason))
    if judged.verdict.action == "pass":
        return tuple(told.more())
    ways: dict[Reason, Callable[[], Iterator[str]]] = {
        Reason.HARD_GUARD: told.half,
        Reason.MAXIMUM: told.below_maximum,
        Reason.REQUESTS: told.requests,
        Reason.BAKE: told.minutes,
    }
    return tuple(ways[reason]()) if reason in ways else ()


@dataclass(frozen=True, kw_only=True)
class _WhatIf:
    judged: Judged
    case: Case
    name: str

    def less(self, reason: Reason) -> Iterator[str]:
        """Fewer bad requests, or a wider margin, for the check that speaks the loudest."""
        limit = {Reason.REGRESSION: self.case.threshold, Reason.SUSPICION: SUSPICION}.get(reason, DOUBT)
        blamed = self._loudest()
        if blamed is None or self.case.evidence < limit:
            return
        finding, weighed = blamed
        share = weighed.room(limit)
        if share is None:
            yield f"No change to {sentences.label(finding.check)} alone: other checks or sources say the same."
            return
        since = weighed.since
        fewer = weighed.fewer(share, since)
        ways = []
        if fewer is not None:
            bad = round(sum(block.counts.x for block in weighed.blocks if block.minute >= since))
            what = _bad(finding)
            ways.append(
                f"{sentences.number(fewer)} fewer {what} on {self.name} ({sentences.number(bad - fewer)} instead of "
                f"{sentences.number(bad)})"
            )
        wider = weighed.wider(share)
        if wider is not None:
            ways.append(
                f"`{finding.check}: {{max_increase: {_written(finding, wider)}}}` instead of "
                f"{_written(finding, finding.margin)}"
            )
        if ways:
            yield f"With {', or with '.join(ways)}, it {_ENDS[reason]} at this look."

    def more(self) -> Iterator[str]:
        """How many more bad requests in the step would have been too many for a pass."""
        source = self.case.deciding.criteria.source
        ends = [(SUSPICION, "under suspicion")] if self.case.retreats else [(DOUBT, "held in doubt")]
        ends.append((self.case.threshold, "a fail"))
        for finding in self.judged.verdict.findings:
            weighed = weigh(finding, self.case, self.judged.series) if finding.source == source else None
            if weighed is None:
                continue
            rooms = [(weighed.room(limit), end) for limit, end in ends]
            found = [(weighed.more(room, self.judged.stage.since), end) for room, end in rooms if room is not None]
            told = [f"{sentences.number(count)} for it to be {end}" for count, end in found if count is not None]
            if told:
                yield (
                    f"{sentences.capital(sentences.label(finding.check))}: it would have taken about this many more "
                    f"{_bad(finding)} on {self.name} in this step: {', '.join(told)}."
                )

    def half(self) -> Iterator[str]:
        """The hard guard looks at the last two blocks: one of them under a half is enough."""
        for finding in self.judged.verdict.findings:
            state = self._state(finding)
            if finding.action == "fail" and state is not None and state.recent:
                x, n = state.recent[-1].x, state.recent[-1].n
                fewer = round(x) - ceil(n / 2) + 1
                yield (
                    f"With {sentences.number(fewer)} fewer bad requests on {self.name} in the last minute ({round(x)} of "
                    f"{round(n)}), it would not have failed at this look."
                )

    def below_maximum(self) -> Iterator[str]:
        """As many fewer as leave it unsure whether the `max` is kept."""
        for look in self.case.looks:
            for check in look.criteria.checks:
                over = look.seen.checks.get(check.name, CheckState()).over
                limit = check.limit
                if limit is not None and surely_above(over.x, over.n, limit):
                    fewer = _least(partial(_unsure, over.x, over.n, limit), ceil(over.x))
                    yield (
                        f"With {sentences.number(fewer)} fewer {'bad' if check.quantile is None else 'slow'} requests on "
                        f"{self.name} in this step, its {check.label} would not surely have been above the `max`."
                    )

    def requests(self) -> Iterator[str]:
        """What the policy asks for, less what there was."""
        missing = self.case.policy.min_requests - self.case.deciding.closed.step_candidate
        yield f"With {sentences.number(missing)} more requests on {self.name} in this step, it could have been judged."

    def minutes(self) -> Iterator[str]:
        """The bake is not over."""
        left = self.judged.stage.bake - self.case.deciding.closed.step_blocks
        yield f"With {left} more judged minute{'' if left == 1 else 's'} and nothing else changed, the bake would be over."

    def _loudest(self) -> tuple[Finding, Weighed] | None:
        """The check that carries most of the evidence, and its blocks."""
        found = [(finding, weigh(finding, self.case, self.judged.series)) for finding in self.judged.verdict.findings]
        known = [(finding, weighed) for finding, weighed in found if weighed is not None]
        return max(known, key=lambda item: item[1].look.part(item[1].check), default=None)

    def _state(self, finding: Finding) -> CheckState | None:
        looks = [look for look in self.case.looks if look.criteria.source == finding.source]
        return looks[0].seen.checks.get(finding.check) if looks else None


def _unsure(bad: float, n: float, limit: float, fewer: int) -> bool:
    return not surely_above(bad - fewer, n, limit)


def _least(holds: Callable[[int], bool], high: int) -> int:
    """The same for whole numbers."""
    low = 0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _written(finding: Finding, increase: float) -> str:
    """As a policy writes it."""
    return f"{100 * increase:.4g}{'pp' if finding.unit == 'share' else '%'}"


def _bad(finding: Finding) -> str:
    if finding.check == "client_errors":
        return "client errors"
    return "bad requests" if finding.unit == "share" else "slow requests"
