"""The phases of a rollout and the table of transitions between them.

The rule: `TRANSITIONS` is complete and final: a change that it does not list is a bug, and says so.
"""

from enum import StrEnum


class Phase(StrEnum):
    """Where a rollout stands."""

    PENDING = "pending"  # asked for; nothing looked at yet
    PREPARING = "preparing"  # checking that it can start: endpoint, deployments, fresh data
    PROGRESSING = "progressing"  # a step's traffic is live, or on its way, and judged
    RETREATED = "retreated"  # share cut while in doubt; resumes or rolls back
    WAITING = "waiting"  # share held until something comes: an approval, data, evidence, the end of an incident
    PAUSED = "paused"  # share left alone until a person says how to go on
    ROLLING_BACK = "rolling_back"  # all traffic is on its way back to stable
    ROLLED_BACK = "rolled_back"  # all traffic is back on stable, confirmed by Azure
    PROMOTING = "promoting"  # the last traffic is on its way to the candidate
    GUARDING = "guarding"  # the candidate holds all traffic; stable is kept, and takes it back if the candidate fails
    SUCCEEDED = "succeeded"  # the candidate holds all traffic, confirmed by Azure
    HALTED = "halted"  # stable cannot serve: traffic left alone, a person paged
    ABORTED = "aborted"  # ended by a person, or never started
    OBSERVING = "observing"  # people move the traffic; it is judged, and left alone
    OBSERVED = "observed"  # the observation is over; nothing was written

    @property
    def ended(self) -> bool:
        """No tick changes anything any more."""
        return self in ENDED


ENDED = frozenset({Phase.ROLLED_BACK, Phase.SUCCEEDED, Phase.HALTED, Phase.ABORTED, Phase.OBSERVED})
#: Where a rollout that only observes may be: in none of these is any split wanted, and none leads to one where it is.
WRITES_NOTHING = frozenset({Phase.PENDING, Phase.PREPARING, Phase.OBSERVING, Phase.OBSERVED, Phase.ABORTED})

_ANY_TIME = frozenset({Phase.PAUSED, Phase.ROLLING_BACK, Phase.HALTED, Phase.ABORTED})

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.PENDING: frozenset({Phase.PREPARING}),
    Phase.PREPARING: frozenset(
        {Phase.PROGRESSING, Phase.WAITING, Phase.ROLLING_BACK, Phase.ABORTED, Phase.OBSERVING}  # back: an undo
    ),
    Phase.PROGRESSING: _ANY_TIME | {Phase.RETREATED, Phase.WAITING, Phase.PROMOTING},
    Phase.RETREATED: _ANY_TIME | {Phase.PROGRESSING, Phase.WAITING, Phase.PROMOTING},
    Phase.WAITING: _ANY_TIME | {Phase.PROGRESSING, Phase.RETREATED, Phase.PROMOTING},
    Phase.PAUSED: (_ANY_TIME - {Phase.PAUSED}) | {Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PROMOTING},
    Phase.ROLLING_BACK: frozenset({Phase.ROLLED_BACK, Phase.HALTED, Phase.ABORTED}),
    Phase.PROMOTING: _ANY_TIME | {Phase.GUARDING, Phase.SUCCEEDED},
    Phase.GUARDING: frozenset({Phase.ROLLING_BACK, Phase.HALTED, Phase.ABORTED, Phase.SUCCEEDED}),
    Phase.ROLLED_BACK: frozenset(),
    Phase.SUCCEEDED: frozenset(),
    Phase.HALTED: frozenset(),
    Phase.ABORTED: frozenset(),
    Phase.OBSERVING: frozenset({Phase.OBSERVED}),
    Phase.OBSERVED: frozenset(),
}


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.PENDING}"]
    for phase, following in TRANSITIONS.items():
        lines += [f"    {phase} --> {after}" for after in Phase if after in following]
        lines += [f"    {phase} --> [*]"] if phase.ended else []
    return "\n".join(lines)
