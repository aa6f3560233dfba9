"""Which split a rollout wants, which one Azure shows, and what to write.

The rule: level-triggered. `wanted_traffic` is the whole split; it is written whenever a settled endpoint shows another
one that is ours to change, and never as a difference. A person's split is never written over (HOUSE rule 7).
"""

from dataclasses import replace
from datetime import datetime, timedelta

from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Foreign, Rollout, Write
from rollout.policy import Policy
from rollout.world import EndpointState, Snapshot, Split

#: Phases in which the rollout holds Azure to the split it wants.
HOLDS_TRAFFIC = frozenset({Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PROMOTING, Phase.ROLLING_BACK})
#: An accepted write that a settled endpoint does not show after this time is sent again (reads lag behind writes).
WRITE_AGAIN = timedelta(seconds=45)
ROLL_BACK_AGAIN = timedelta(seconds=15)
#: A foreign split counts once two snapshots this far apart show it: reads may lag behind writes.
FOREIGN_SETTLES = timedelta(seconds=5)


def wanted_traffic(rollout: Rollout) -> Split | None:
    """The split that the rollout wants Azure to show now; None where traffic is left alone."""
    if rollout.phase not in HOLDS_TRAFFIC or rollout.stable is None or rollout.candidate is None:
        return None
    return Split.of({rollout.stable: 100 - rollout.share, rollout.candidate: rollout.share})


def step_share(policy: Policy, step: int) -> int:
    """The candidate's share in a step: at 100 % the holdback stays on stable until the bake ends."""
    return min(policy.steps[step].traffic, 100 - policy.holdback)


def speaks_about_writes(rollout: Rollout, snapshot: Snapshot) -> bool:
    """Only what was asked for after our last write ended can tell what became of it."""
    if not rollout.writes:
        return rollout.confirmed_at is None or snapshot.requested_at > rollout.confirmed_at
    ended = rollout.writes[-1].ended_at
    return ended is not None and snapshot.requested_at > ended


def foreign_split(rollout: Rollout, snapshot: Snapshot) -> Split | None:
    """The split of a settled endpoint where it is neither the confirmed one nor any that we asked for since."""
    endpoint = snapshot.endpoint
    if endpoint is None or rollout.confirmed is None or not endpoint.settled:
        return None
    if not speaks_about_writes(rollout, snapshot):
        return None
    ours = {rollout.confirmed, *(write.split for write in rollout.writes)}
    return None if endpoint.traffic in ours else endpoint.traffic


def noted_foreign(rollout: Rollout, snapshot: Snapshot) -> tuple[Rollout, bool]:
    """Remember a foreign split; True once a second snapshot shows the same one."""
    split = foreign_split(rollout, snapshot)
    if split is None:
        return (replace(rollout, foreign=None) if rollout.foreign else rollout), False
    known = rollout.foreign
    if known is None or known.split != split:
        return replace(rollout, foreign=Foreign(split=split, seen_at=snapshot.requested_at)), False
    return rollout, snapshot.requested_at - known.seen_at >= FOREIGN_SETTLES


def shows_wanted(rollout: Rollout, snapshot: Snapshot) -> bool:
    """A settled endpoint shows the split that we want, after our last write."""
    endpoint = snapshot.endpoint
    return (
        endpoint is not None
        and endpoint.settled
        and speaks_about_writes(rollout, snapshot)
        and endpoint.traffic == wanted_traffic(rollout)
    )


def due_write(rollout: Rollout, snapshot: Snapshot | None, now: datetime) -> Split | None:
    """The split to ask Azure for now, or None."""
    wanted = wanted_traffic(rollout)
    if wanted is None or (rollout.foreign is not None and rollout.phase is not Phase.ROLLING_BACK):
        return None
    last = rollout.writes[-1] if rollout.writes else None
    first_try = last is None or last.split != wanted
    if rollout.phase is Phase.ROLLING_BACK and first_try:
        return None if rollout.confirmed == wanted and not rollout.writes else wanted
    if snapshot is None or snapshot.endpoint is None or not snapshot.endpoint.settled:
        return None
    return wanted if _may_write(rollout, last, snapshot, snapshot.endpoint, wanted, now) else None


def _may_write(
    rollout: Rollout, last: Write | None, snapshot: Snapshot, endpoint: EndpointState, wanted: Split, now: datetime
) -> bool:
    if endpoint.traffic == wanted:
        return False
    if last is None:
        return rollout.confirmed != wanted
    if not speaks_about_writes(rollout, snapshot):
        return False
    if last.split != wanted or last.outcome in {"conflict", "unknown"}:
        return True
    patience = ROLL_BACK_AGAIN if rollout.phase is Phase.ROLLING_BACK else WRITE_AGAIN
    return last.ended_at is not None and now - last.ended_at >= patience


def with_write(rollout: Rollout, split: Split, now: datetime) -> Rollout:
    """The intent, written down before the request is sent; one for each split, the newest last."""
    others = tuple(write for write in rollout.writes if write.split != split)
    return replace(rollout, writes=(*others, Write(split=split, begun_at=now)))


def overwritable(rollout: Rollout) -> frozenset[Split] | None:
    """The splits that our write may replace: those that were ours. On the way back to stable, any split."""
    if rollout.phase is Phase.ROLLING_BACK:
        return None
    ours = {write.split for write in rollout.writes}
    return frozenset(ours | ({rollout.confirmed} if rollout.confirmed else set()))


def tag_note(rollout: Rollout) -> str | None:
    """What the Studio shows people while a rollout runs: `25 % green; pause first`. None when it is over."""
    if rollout.phase in {Phase.ROLLING_BACK, Phase.PROMOTING}:
        return None
    return f"{rollout.share} % {rollout.candidate}; pause first"
