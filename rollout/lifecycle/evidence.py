"""What is kept with a decision so that it can be explained and judged again later.

The rule: every event that a verdict caused carries the whole verdict, the stage that was judged, and the state of
the judge that gave it.
"""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from rollout.analysis.verdict import Stage, Verdict
from rollout.lifecycle.facts import Decision
from rollout.world import Event

_VERDICT = TypeAdapter(Verdict)
_STAGE = TypeAdapter(Stage)


def with_evidence(decision: Decision) -> Sequence[Event]:
    """The events of a decision; where a verdict was given in this tick, they hold it."""
    verdict, judgement = decision.rollout.verdict, decision.rollout.judgement
    if verdict is None or not decision.judged:
        return decision.events
    kept = {"verdict": _VERDICT.dump_python(verdict, mode="json"), "judgement": judgement.dump() if judgement else None}
    if decision.exhibit is not None:
        kept["stage"] = _STAGE.dump_python(decision.exhibit.stage, mode="json")
    return [replace(event, details={**event.details, **kept}) for event in decision.events]
