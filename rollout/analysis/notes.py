"""Notes: what a reader of a verdict should know besides, one sentence each.

The rule: a note decides nothing. What a dry run would have done is said here, and which source shows nothing.
"""

from collections.abc import Iterator, Sequence

from rollout.analysis.decision import Case
from rollout.analysis.findings import Look
from rollout.analysis.guards import uneven_load
from rollout.analysis.judgement import CheckState, SourceState
from rollout.analysis.terms import Finding

SILENT_BLOCKS = 3  # of a step, after which a source that shows nothing of it is worth a word


def notes_of(case: Case, state: SourceState, findings: Sequence[Finding]) -> Iterator[str]:
    """What the numbers do not say by themselves; `state` is the deciding source's, as it was judged."""
    timed = any(check.quantile is not None for check in case.deciding.criteria.everything)
    uneven = uneven_load(state, case.stage, case.deciding.criteria.source)
    if uneven and timed:
        yield uneven
    if not case.stage.holdback and case.stage.traffic >= 100 and case.deciding.criteria.source != "probes":
        yield (
            "Nothing is held back on stable: compared with the last hour that stable answered, not with the same minutes."
        )
    for finding in findings:
        if finding.alert or (finding.role == "dry_run" and finding.evidence >= case.threshold):
            yield finding.sentence
    if state.step_blocks >= SILENT_BLOCKS:
        yield from _silent(case)


def _silent(case: Case) -> Iterator[str]:
    """Sources beside the deciding one, and own checks, that have shown nothing of this step."""
    for look in case.looks:
        if look is case.deciding:
            continue
        if look.criteria.source == "probes" and not look.seen.step_blocks:
            yield "The probes show nothing of this step: it is judged without them."
        if look.criteria.source == "custom":
            yield from _uncounted(look)


def _uncounted(look: Look) -> Iterator[str]:
    for check in look.criteria.everything:
        if not look.seen.checks.get(check.name, CheckState()).step.n:
            yield f"Check {check.name} has counted nothing on both deployments in this step."
