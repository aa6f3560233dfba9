"""Replay: the judge once more over what it was shown, with the same policy or another one.

The rule: the same exhibits and the same policy give the same verdicts, evidence to 1e-9. With another policy the traffic
stays as it was: the replay says how the same minutes would have been judged, not how the rollout would have gone on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil, isclose

from rollout.analysis.exhibits import Exhibit, shown_again
from rollout.analysis.judgement import Judgement
from rollout.analysis.terms import Series, Source, Stage, Verdict
from rollout.analysis.verdict import begin, judge
from rollout.policy import Policy

#: Evidence is the same when it differs by no more than this part: machines add up in different orders.
PRECISION = 1e-9


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One look, judged again."""

    at: datetime
    stage: Stage
    verdict: Verdict
    judgement: Judgement  # after the look
    series: tuple[Series, ...]  # what the judge was shown

    @property
    def now(self) -> int:
        """The minute of the look, since the epoch."""
        return int(self.at.timestamp() // 60)


def replay(policy: Policy, exhibits: Iterable[Exhibit], *, instead_of: Policy | None = None) -> Iterator[Judged]:
    """Judge every look again, in order.

    `instead_of` is the policy that the rollout had, where `policy` is another one: steps of the same shares then bake as
    `policy` says, and `policy`'s error budget is halved as often as the rollout's was. Looks before the first one at
    which judging began are left out: what came before is not known any more.
    """
    judgement: Judgement | None = None
    series: dict[Source, Series] = {}
    for exhibit in exhibits:
        if exhibit.begun is not None:
            judgement = _begun(exhibit.begun, policy, instead_of)
        if judgement is None:
            continue
        before = {} if exhibit.whole else series
        stage = exhibit.stage if instead_of is None else _stage(exhibit.stage, policy, instead_of)
        series = {one.source: shown_again(one, before.get(one.source), stage) for one in exhibit.sources}
        shown = tuple(series.values())
        judgement, verdict = judge(judgement, policy=policy, stage=stage, series=shown, now=exhibit.now)
        yield Judged(at=exhibit.at, stage=stage, verdict=verdict, judgement=judgement, series=shown)


def _begun(begun: Judgement, policy: Policy, instead_of: Policy | None) -> Judgement:
    if instead_of is None:
        return begun
    return begin(policy, alpha=policy.expert.alpha * begun.alpha / instead_of.expert.alpha, taus=begun.taus)


def same_shares(policy: Policy, other: Policy) -> bool:
    """Both move the traffic in the same steps."""
    return [step.traffic for step in policy.steps] == [step.traffic for step in other.steps]


def _stage(stage: Stage, policy: Policy, instead_of: Policy) -> Stage:
    """The stage with the bake of `policy`'s step, where it has the same steps; sized minutes bake as they did."""
    if not same_shares(policy, instead_of) or stage.bake != _minutes(instead_of.steps[stage.step].bake):
        return stage
    return replace(stage, bake=_minutes(policy.steps[stage.step].bake))


def _minutes(bake: timedelta) -> int:
    return max(1, ceil(bake / timedelta(minutes=1)))


def differences(one: Verdict, other: Verdict) -> Sequence[str]:
    """In what two verdicts differ, in words; empty where they are the same, evidence to `PRECISION`."""
    found = [
        f"{name} {ours} and {theirs}"
        for name, ours, theirs in (
            ("action", one.action, other.action),
            ("reason", one.reason.value, other.reason.value),
            ("blocks", one.blocks, other.blocks),
            ("first bad minute", one.first_bad, other.first_bad),
        )
        if ours != theirs
    ]
    numbers = [("evidence", one.evidence, other.evidence), ("harmed", one.harmed, other.harmed)]
    theirs = {(finding.source, finding.check): finding for finding in other.findings}
    for finding in one.findings:
        match = theirs.get((finding.source, finding.check))
        name = f"{finding.check} in the {finding.source}"
        if match is None:
            found.append(f"{name}: only one of them has it")
        else:
            numbers += [(f"evidence of {name}", finding.evidence, match.evidence)]
            numbers += [(f"not-worse evidence of {name}", finding.not_worse, match.not_worse)]
    found += [
        f"{name} {a!r} and {b!r}" for name, a, b in numbers if not isclose(a, b, rel_tol=PRECISION, abs_tol=1e-12)
    ]
    return found
