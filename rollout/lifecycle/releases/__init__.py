"""The release: one policy over several endpoints, in waves; the value above rollouts.

`release.py` holds the `Release`, its phases and their table; `steer.py` the one place that decides; `asked.py` what people
ask of it. The rule: as for a rollout, `steer(release, facts, now)` is pure, level-triggered and idempotent. A decision is
saved whole, with the rollouts that it starts and the commands that it gives them, or not at all.
"""

from rollout.lifecycle.releases.asked import Asked
from rollout.lifecycle.releases.release import (
    TRANSITIONS,
    Decision,
    Facts,
    Member,
    Release,
    ReleasePhase,
    Seen,
    is_busy,
    new_release,
)
from rollout.lifecycle.releases.steer import steer

__all__ = [
    "TRANSITIONS",
    "Asked",
    "Decision",
    "Facts",
    "Member",
    "Release",
    "ReleasePhase",
    "Seen",
    "is_busy",
    "new_release",
    "steer",
]
