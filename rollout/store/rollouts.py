"""Rollouts, their leases and their history.

The rule: state, history, outgoing alerts and answered commands change in one transaction, and only under a lease whose
owner and fence still stand in the row. A fence grows with every owner, so whoever was overtaken finds no row to change.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Case, ColumnElement, Connection, and_, case, func, insert, literal, or_, select, true, update

from rollout.analysis.exhibits import Exhibit
from rollout.errors import ConflictError, RefusedError
from rollout.lifecycle.again import superseded, taking_over
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.ports import Lease, Start
from rollout.store import codec, tables
from rollout.store.commands import answer, answer_the_rest
from rollout.store.database import Database
from rollout.store.exhibits import keep
from rollout.store.noise import learn
from rollout.store.outbox import post
from rollout.store.starts import claim, started_by
from rollout.world import Alert, CommandResult, EndpointRef, Event

_T = tables.rollouts.c
_FREE = {"lease_owner": None, "lease_until": None}


class Rollouts:
    """The part of the store that holds rollouts; see `ports.Store` for what each method promises."""

    _database: Database

    def create(
        self, rollout: Rollout, events: Sequence[Event], alerts: Sequence[Alert], *, key: str | None = None
    ) -> str:
        """A new rollout, due now; or the one that this key has started before."""
        with self._database.writing() as connection:
            if key is not None and (before := started_by(connection, key)) is not None:
                return before
            insert_rollout(connection, rollout, events)
            post(connection, alerts)
            if key is not None:
                claim(connection, _start_of(rollout, key))
        return rollout.id

    def load(self, rollout_id: str) -> Rollout:
        """The rollout of this id."""
        with self._database.reading() as connection:
            doc = connection.scalar(select(_T.doc).where(_T.id == rollout_id))
        if doc is None:
            raise RefusedError(f"There is no rollout {rollout_id}: `rollout list` shows those that there are.")
        return codec.load_rollout(doc, name=rollout_id)

    def latest(self, ref: EndpointRef) -> Rollout | None:
        """The active rollout of an endpoint, else its newest."""
        query = select(_T.id, _T.doc).where(_of(ref)).order_by(_T.active.desc(), _T.number.desc()).limit(1)
        with self._database.reading() as connection:
            found = connection.execute(query).one_or_none()
        return codec.load_rollout(found.doc, name=found.id) if found else None

    def rollouts(
        self, ref: EndpointRef | None = None, *, active_only: bool = False, limit: int = 100
    ) -> Sequence[Rollout]:
        """Newest first."""
        query = select(_T.id, _T.doc).order_by(_T.number.desc()).limit(limit)
        if ref is not None:
            query = query.where(_of(ref))
        if active_only:
            query = query.where(_T.active)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [codec.load_rollout(row.doc, name=row.id) for row in rows]

    def history(self, rollout_id: str) -> Sequence[Event]:
        """Oldest first."""
        table = tables.history.c
        query = select(table.doc).where(table.rollout_id == rollout_id).order_by(table.number)
        with self._database.reading() as connection:
            return [codec.load_event(doc) for doc in connection.scalars(query)]

    def claim_due(self, *, now: datetime, owner: str, lease: timedelta, limit: int = 50) -> Sequence[Lease]:
        """Take the active rollouts that are due and that nobody holds, those due the longest first."""
        if not self._anything_due(now):
            return []
        due = select(_T.id).where(_due(now)).order_by(_T.due_at).limit(limit).with_for_update(skip_locked=True)
        claim = (
            update(tables.rollouts)
            .where(_T.id.in_(due))
            .values(lease_owner=owner, lease_until=now + lease, fence=_T.fence + 1, woken=False)
            .returning(_T.id, _T.fence, _T.due_at)
        )
        with self._database.writing() as connection:
            rows = sorted(connection.execute(claim).all(), key=lambda row: row.due_at)
        return [Lease(rollout_id=row.id, owner=owner, fence=row.fence, until=now + lease) for row in rows]

    def _anything_due(self, now: datetime) -> bool:
        """A look without the write lock: most of the time there is nothing to claim."""
        with self._database.reading() as connection:
            return connection.scalar(select(_T.id).where(_due(now)).limit(1)) is not None

    def renew(self, lease: Lease, *, until: datetime) -> Lease:
        """Hold it longer."""
        with self._database.writing() as connection:
            _change(connection, lease, {"lease_until": until})
        return Lease(rollout_id=lease.rollout_id, owner=lease.owner, fence=lease.fence, until=until)

    def release(self, lease: Lease, *, due_at: datetime) -> None:
        """Give it back; one that was woken meanwhile stays due. A lease that was lost has nothing to give back."""
        at = literal(due_at, tables.Moment)
        with self._database.writing() as connection:
            connection.execute(
                update(tables.rollouts)
                .where(_held(lease))
                .values(due_at=case((_T.woken, _earlier(due_at)), else_=at), **_FREE)
            )

    def release_all(self, owner: str) -> None:
        """Free whatever this owner holds."""
        with self._database.writing() as connection:
            connection.execute(update(tables.rollouts).where(_T.lease_owner == owner).values(**_FREE))

    def wake(self, refs: Iterable[EndpointRef], *, now: datetime) -> None:
        """The active rollouts of these endpoints are due now."""
        matching = [_of(ref) for ref in refs]
        if matching:
            with self._database.writing() as connection:
                wake_where(connection, and_(_T.active, or_(*matching)), now=now)

    def save(
        self,
        lease: Lease,
        rollout: Rollout,
        *,
        events: Sequence[Event] = (),
        alerts: Sequence[Alert] = (),
        results: Sequence[CommandResult] = (),
        exhibit: Exhibit | None = None,
    ) -> None:
        """State, history, exhibit, lessons, outbox and answered commands in one durable transaction."""
        values = {"doc": codec.dump_rollout(rollout), "phase": str(rollout.phase), "active": _is_active(rollout)}
        with self._database.writing() as connection:
            _change(connection, lease, values)
            _write_events(connection, rollout.id, events)
            keep(connection, rollout.id, exhibit)
            post(connection, alerts)
            answer(connection, results)
            if rollout.ended:
                answer_the_rest(connection, rollout.id, phase=rollout.phase)
                learn(connection, rollout)


def insert_rollout(connection: Connection, rollout: Rollout, events: Sequence[Event]) -> None:
    """A new rollout, due now. Raises ConflictError if the endpoint has an active one that does more than guard."""
    active = select(_T.id, _T.phase, _T.doc).where(_T.active, _of(rollout.ref))
    found = connection.execute(active).first()
    if found:
        taken_over = _superseded(connection, found.doc, found.id, rollout)
        if taken_over is None:
            raise ConflictError(_taken(rollout.ref, found.id, Phase(found.phase)))
        rollout = taken_over
    connection.execute(insert(tables.rollouts), _new_row(rollout))
    _write_events(connection, rollout.id, events)


def wake_where(connection: Connection, condition: ColumnElement[bool], *, now: datetime) -> None:
    """Make the rollouts of this condition due at `now`, if they are not due before."""
    connection.execute(update(tables.rollouts).where(condition).values(due_at=_earlier(now), woken=true()))


def free_all(database: Database) -> None:
    """Take every lease from owners that are known to be dead."""
    with database.writing() as connection:
        connection.execute(update(tables.rollouts).where(_T.lease_owner.is_not(None)).values(**_FREE))


def _new_row(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "workspace": rollout.ref.workspace,
        "endpoint": rollout.ref.name,
        "phase": str(rollout.phase),
        "active": _is_active(rollout),
        "created_at": rollout.created_at,
        "doc": codec.dump_rollout(rollout),
        "due_at": rollout.created_at,
        "woken": False,
        "fence": 0,
    }


def _taken(ref: EndpointRef, rollout_id: str, phase: Phase) -> str:
    """Why no other rollout begins."""
    if phase.ended:
        done = f"The last rollout of {ref} ({rollout_id}, {phase}) still puts its deployments back as they were"
        return f"{done}: try again in a minute; `rollout history {ref}` says how far it is."
    what = "`rollout promote` ends it" if phase is Phase.GUARDING else "abort it"
    return f"Endpoint {ref} already has an active rollout ({rollout_id}, {phase}): wait until it ends, or {what}."


def _superseded(connection: Connection, doc: str, rollout_id: str, by: Rollout) -> Rollout | None:
    """End a rollout that is not in the way: whoever ticks it just now loses its lease, and so decides nothing.

    Returns the one that follows; None where the other one is in its way.
    """
    active = codec.load_rollout(doc, name=rollout_id)
    found = superseded(active, by)
    if found is None:
        return None
    ended, events = found
    values = {
        "doc": codec.dump_rollout(ended),
        "phase": str(ended.phase),
        "active": False,
        "fence": _T.fence + 1,
        **_FREE,
    }
    connection.execute(update(tables.rollouts).where(_T.id == rollout_id).values(**values))
    _write_events(connection, rollout_id, events)
    answer_the_rest(connection, rollout_id, phase=ended.phase)
    learn(connection, ended)
    return taking_over(by, active)


def _start_of(rollout: Rollout, key: str) -> Start:
    """The start that nobody had noted before."""
    return Start(
        key=key,
        ref=rollout.ref,
        policy=rollout.policy.name,
        kind="asked",
        what=f"asked for by {rollout.created_by}",
        at=rollout.created_at,
        rollout_id=rollout.id,
    )


def _is_active(rollout: Rollout) -> bool:
    """It is ticked, and its endpoint is taken: until it has ended and has put everything back."""
    return not rollout.ended or rollout.owes


def _write_events(connection: Connection, rollout_id: str, events: Sequence[Event]) -> None:
    if events:
        rows = [{"rollout_id": rollout_id, "doc": codec.dump_event(event)} for event in events]
        connection.execute(insert(tables.history), rows)


def _change(connection: Connection, lease: Lease, values: dict[str, Any]) -> None:
    changed = connection.execute(update(tables.rollouts).where(_held(lease)).values(**values)).rowcount
    if not changed:
        raise ConflictError(
            f"Rollout {lease.rollout_id} is no longer held by {lease.owner}: somebody else ticks it now."
        )


def _earlier(moment: datetime) -> Case[datetime]:
    return case((_T.due_at < moment, _T.due_at), else_=literal(moment, tables.Moment))


def _of(ref: EndpointRef) -> ColumnElement[bool]:
    """To Azure the case of an endpoint's name means nothing: two rollouts of it would move one split."""
    return and_(_T.workspace == ref.workspace, func.lower(_T.endpoint) == ref.name.lower())


def _held(lease: Lease) -> ColumnElement[bool]:
    return and_(_T.id == lease.rollout_id, _T.lease_owner == lease.owner, _T.fence == lease.fence)


def _due(now: datetime) -> ColumnElement[bool]:
    free = or_(_T.lease_owner.is_(None), _T.lease_until <= now)
    return and_(_T.active, _T.due_at <= now, free)
