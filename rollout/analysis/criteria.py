"""Criteria: what a policy asks of each source, fixed for the whole rollout.

The rule: what is here is known before the first minute is seen. Checks whose evidence decides share alpha; the others
(dry runs, and bounds on what Azure reported) stand beside them and take no part of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rollout.analysis.cells import ANSWER_SIZE
from rollout.analysis.checks import Check, checks_of, source_weights, sources_of, weights
from rollout.analysis.evidence import Tuning, planned
from rollout.analysis.terms import Source
from rollout.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a policy asks of one source: fixed for the rollout."""

    source: Source
    weight: float  # the source's part of alpha
    checks: tuple[Check, ...]  # whose evidence decides
    weights: Mapping[str, float]  # each check's part of the source's evidence
    tuning: Tuning  # caps and horizon, the same for all checks
    tunings: Mapping[str, Tuning]  # … and with each check's own `tau`
    beside: tuple[Check, ...] = ()  # dry runs, and those of which only `max` decides: no evidence of theirs does
    measures: tuple[str, ...] = ()  # what is kept of the step's measures
    harm_budget: int | None = None

    @cached_property
    def everything(self) -> tuple[Check, ...]:
        """All checks that are told."""
        return (*self.checks, *self.beside)

    @cached_property
    def bounded(self) -> tuple[Check, ...]:
        """The checks whose `max` decides."""
        return tuple(check for check in self.everything if check.maximum is not None and not check.dry_run)


def criteria_of(policy: Policy, taus: Mapping[str, Mapping[str, float]] | None = None) -> dict[Source, Criteria]:
    """By source, in the policy's order; the first of them that is `logs`, else the first, decides promotion.

    `taus` is what the judgement knows (see `Judgement.taus`).
    """
    minutes = round(sum(step.bake.total_seconds() for step in policy.steps) / 60)
    tuning = planned(minutes, may_retreat=policy.when.suspicion == "retreat")
    found = {}
    shown = {source: checks_of(policy, source) for source in sources_of(policy)}
    for source, weight in source_weights(shown).items():
        everything, known = shown[source], (taus or {}).get(source, {})
        checks = tuple(check for check in everything if check.weighed)
        found[source] = Criteria(
            source=source,
            weight=weight,
            checks=checks,
            weights=weights(checks),
            tuning=tuning,
            tunings={check.name: tuning._replace(tau=known.get(check.name, tuning.tau)) for check in everything},
            beside=tuple(check for check in everything if not check.weighed),
            measures=_measures(policy, source, everything),
            harm_budget=policy.expert.harm_budget,
        )
    return found


def weighed(policy: Policy) -> list[Check]:
    """The policy's checks of requests whose evidence decides in some source, in its order."""
    known = {check.name: check for one in criteria_of(policy).values() for check in one.checks}
    return [known[name] for name in policy.checks.active() if name in known]


def _measures(policy: Policy, source: Source, checks: Sequence[Check]) -> tuple[str, ...]:
    """Of its measures, what a source keeps of a step: sizes of answers, and quantiles that were reported."""
    sizes = (ANSWER_SIZE,) if source == "logs" and policy.checks.answer_size else ()
    return (*sizes, *(check.measure for check in checks if check.reported and check.measure))
