"""Which split a rollout wants, which one Azure shows, and what to write.

The rule: level-triggered. `wanted_traffic` is the whole split; it is written whenever a settled endpoint shows another
one that is ours to change, and never as a difference. A person's split is never written over, unless a
person said so or a roll back is under way.
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
#: A roll back is not sent without a look at stable; if Azure cannot be read for so long, it is.
BLIND_AFTER = timedelta(seconds=10)
#: A foreign split counts once two snapshots this far apart show it: reads may lag behind writes.
FOREIGN_SETTLES = timedelta(seconds=5)
#: A write that was not seen may take effect for so long after we gave up on its answer: its operation takes 20 to 31 s.
LATE_WRITE = timedelta(seconds=60)


def intended_traffic(rollout: Rollout) -> Split | None:
    """The split that the rollout is at, in every phase; None before its two deployments are known."""
    if rollout.stable is None or rollout.candidate is None:
        return None
    return Split.of({rollout.stable: 100 - rollout.share, rollout.candidate: rollout.share})


def wanted_traffic(rollout: Rollout) -> Split | None:
    """The split that the rollout wants Azure to show now; None where traffic is left alone."""
    return intended_traffic(rollout) if rollout.phase in HOLDS_TRAFFIC and not rollout.observes else None


def step_share(policy: Policy, step: int) -> int:
    """The candidate's share in a step: at 100 % the holdback stays on stable until the bake ends."""
    return min(policy.steps[step].traffic, 100 - policy.holdback)


def our_splits(rollout: Rollout) -> frozenset[Split]:
    """What Azure may show without a person's doing: what was confirmed, and every intent that may have come true since.

    A person's split that we were told to write over counts as ours, too.
    """
    known = {rollout.confirmed, rollout.replaceable, *(write.split for write in (*rollout.writes, *rollout.strays))}
    return frozenset(split for split in known if split is not None)


def overwritable(rollout: Rollout) -> frozenset[Split] | None:
    """The splits that our write may replace; on the way back to stable, any."""
    return None if rollout.phase is Phase.ROLLING_BACK else our_splits(rollout)


def speaks_about_writes(rollout: Rollout, snapshot: Snapshot) -> bool:
    """Only what was asked for after our last write ended can tell what became of it."""
    if not rollout.writes:
        return rollout.confirmed_at is None or snapshot.requested_at > rollout.confirmed_at
    ended = rollout.writes[-1].ended_at
    return ended is not None and snapshot.requested_at > ended


def noted_foreign(rollout: Rollout, snapshot: Snapshot) -> tuple[Rollout, bool]:
    """Remember a foreign split; True once a second snapshot shows the same one."""
    split = _foreign_split(rollout, snapshot)
    known = rollout.foreign
    if split is None:
        # what was told to be a person's stays so until a snapshot that can tell shows otherwise
        keep = known is None or not _can_tell(rollout, snapshot)
        return (rollout if keep else replace(rollout, foreign=None)), False
    if known is None or known.split != split:
        return replace(rollout, foreign=Foreign(split=split, seen_at=snapshot.requested_at)), False
    return rollout, snapshot.requested_at - known.seen_at >= FOREIGN_SETTLES


def _foreign_split(rollout: Rollout, snapshot: Snapshot) -> Split | None:
    """The split of a settled endpoint where it is neither the confirmed one nor any that we asked for since."""
    if snapshot.endpoint is None or rollout.confirmed is None or not _can_tell(rollout, snapshot):
        return None
    return None if snapshot.endpoint.traffic in our_splits(rollout) else snapshot.endpoint.traffic


def _can_tell(rollout: Rollout, snapshot: Snapshot) -> bool:
    """Whether a snapshot can show whose split it is: nothing runs, and it was asked for after our last write."""
    endpoint = snapshot.endpoint
    return endpoint is not None and endpoint.settled and speaks_about_writes(rollout, snapshot)


def shows_intended(rollout: Rollout, snapshot: Snapshot) -> bool:
    """A settled endpoint shows the split that we are at, after our last write."""
    return (
        snapshot.endpoint is not None
        and _can_tell(rollout, snapshot)
        and not _unsent(rollout)
        and snapshot.endpoint.traffic == intended_traffic(rollout)
    )


def confirmed(rollout: Rollout, now: datetime) -> Rollout:
    """The rollout after Azure has shown its split."""
    split = intended_traffic(rollout)
    ours = replace(rollout, foreign=None, replaceable=None)
    if rollout.confirmed == split and not rollout.writes:
        return replace(ours, strays=_possible(rollout.strays, now))
    strays = _possible((*rollout.strays, *_outstanding(rollout.writes, split, now)), now)
    return replace(ours, confirmed=split, confirmed_at=now, writes=(), strays=strays)


def _outstanding(writes: tuple[Write, ...], shown: Split | None, now: datetime) -> tuple[Write, ...]:
    """Writes that may take effect after `shown` was read: never answered, or accepted last and not seen yet.

    Azure takes one write after the other, so an accepted one is over once a later one was accepted; but a read that
    lags behind its end may still show what was before.
    """
    accepted = [write for write in writes if write.outcome == "accepted"][-1:]
    unseen = [replace(write, ended_at=now) for write in accepted]
    unanswered = [write for write in writes if write.outcome == "unknown"]
    return tuple(write for write in (*unanswered, *unseen) if write.split != shown)


def _possible(strays: tuple[Write, ...], now: datetime) -> tuple[Write, ...]:
    return tuple(write for write in strays if now - (write.ended_at or write.begun_at) < LATE_WRITE)


def due_write(rollout: Rollout, snapshot: Snapshot | None, now: datetime) -> Split | None:
    """The split to ask Azure for now, or None."""
    wanted = wanted_traffic(rollout)
    rolling_back = rollout.phase is Phase.ROLLING_BACK
    if wanted is None or (rollout.foreign is not None and not rolling_back):
        return None
    last = rollout.writes[-1] if rollout.writes else None
    if rolling_back and _unsent(rollout):
        return wanted if snapshot is not None or _long_decided(rollout, now) else None  # it waits for no operation
    endpoint = snapshot.endpoint if snapshot else None
    if snapshot is None or endpoint is None or not endpoint.settled or endpoint.traffic == wanted:
        return None
    return wanted if _may_write(rollout, last, snapshot, endpoint, now) else None


def _unsent(rollout: Rollout) -> bool:
    """A roll back that was not asked for yet. It always is: what a read shows may lag behind somebody's operation."""
    if rollout.phase is not Phase.ROLLING_BACK or rollout.decided_at is None:
        return False
    if rollout.writes:
        return rollout.writes[-1].split != wanted_traffic(rollout)
    return rollout.confirmed_at is None or rollout.confirmed_at < rollout.decided_at


def _long_decided(rollout: Rollout, now: datetime) -> bool:
    return rollout.decided_at is not None and now - rollout.decided_at >= BLIND_AFTER


def _may_write(
    rollout: Rollout, last: Write | None, snapshot: Snapshot, endpoint: EndpointState, now: datetime
) -> bool:
    replacing = overwritable(rollout)
    if replacing is not None and endpoint.traffic not in replacing:
        return False
    if last is None:
        return rollout.confirmed != wanted_traffic(rollout) or speaks_about_writes(rollout, snapshot)
    if not speaks_about_writes(rollout, snapshot) or (last.not_before is not None and now < last.not_before):
        return False
    if last.split != wanted_traffic(rollout) or last.outcome in {"conflict", "unknown"}:
        return True
    patience = ROLL_BACK_AGAIN if rollout.phase is Phase.ROLLING_BACK else WRITE_AGAIN
    return last.ended_at is not None and now - last.ended_at >= patience


def with_write(rollout: Rollout, split: Split, now: datetime) -> Rollout:
    """The intent, written down before the request is sent; one for each split, the newest last."""
    others = tuple(write for write in rollout.writes if write.split != split)
    return replace(rollout, writes=(*others, Write(split=split, begun_at=now)))


def unconfirmed(rollout: Rollout) -> bool:
    """Azure has not yet shown the split that is wanted."""
    wanted = wanted_traffic(rollout)
    return wanted is not None and (rollout.confirmed != wanted or bool(rollout.writes))


def tag_note(rollout: Rollout) -> str | None:
    """What the Studio shows people while a rollout runs: `25 % green; pause first`. None when it is over."""
    if rollout.phase in {Phase.ROLLING_BACK, Phase.PROMOTING}:
        return None
    return f"{rollout.share} % {rollout.candidate}; pause first"
