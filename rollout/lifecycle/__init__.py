"""The life of a rollout: what it is, what it wants, and what comes next.

`phases.py` holds the phases and the table of transitions; `rollout.py` the `Rollout` itself; `advance.py` the one place
that decides. The rule: `advance(rollout, facts, now)` is pure and idempotent: the same facts give the same decision,
and a decision is a new `Rollout`, the events that tell it, and at most one write.
"""

from rollout.lifecycle.advance import advance, new_rollout, refused, written
from rollout.lifecycle.facts import Decision, Facts
from rollout.lifecycle.phases import TRANSITIONS, Phase
from rollout.lifecycle.rollout import Rollout, Write
from rollout.lifecycle.splits import wanted_traffic
from rollout.lifecycle.stage import Eta, eta, stage_of

__all__ = [
    "TRANSITIONS",
    "Decision",
    "Eta",
    "Facts",
    "Phase",
    "Rollout",
    "Write",
    "advance",
    "eta",
    "new_rollout",
    "refused",
    "stage_of",
    "wanted_traffic",
    "written",
]
