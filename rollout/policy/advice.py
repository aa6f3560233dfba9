"""Advice: what a policy without mistakes will not do, though its author may think so.

The rule: one sentence for each field that it is about, with what to write instead; it never refuses a policy.
"""

from collections.abc import Iterator

from rollout.policy.checks import LatencyCheck
from rollout.policy.model import Policy


def advice(policy: Policy) -> tuple[str, ...]:
    """One sentence for each thing worth knowing, with the field first."""
    return tuple(_advice(policy))


def _advice(policy: Policy) -> Iterator[str]:
    timed = {"logs", "probes"} & set(policy.expert.evidence)
    for name, check in policy.checks.active().items():
        if not policy.expert.evidence:
            yield f"checks.{name}: this policy is judged by queries of its own alone, which do not show it; switch it off"
        elif isinstance(check, LatencyCheck) and not timed and not check.dry_run:
            yield from _untimed(name, check)
    errors = policy.checks.error_rate
    if policy.probes is not None and (errors is None or errors.dry_run):
        yield (
            f"checks.error_rate: it {'is off' if errors is None else 'is a dry run'}, so a candidate whose probes all fail is "
            "not rolled back for that; let it decide, or take `probes:` out"
        )
    if policy.checks.answer_size is not None and "logs" not in policy.expert.evidence:
        yield "checks.answer_size: only the logs tell the size of answers, and this policy is judged without them"
    if policy.expert.harm_budget is not None and not {"logs", "metrics"} & set(policy.expert.evidence):
        yield "expert.harm_budget: only logs and metrics show what callers were harmed, and this policy is judged without them"


def _untimed(name: str, check: LatencyCheck) -> Iterator[str]:
    if check.max is None:
        yield (
            f"checks.{name}: metrics tell latency without counts, so it will only report; give it a `max`, "
            "or judge by [logs, metrics]"
        )
    else:
        yield f"checks.{name}: metrics tell latency without counts, so only its `max` decides, not max_increase"
