"""What starts rollouts, and what became of it: one row for each key.

The rule: a key is written once and never changes its mind: what was started, passed over or refused stays so, and a
rollout is claimed by its key in the transaction that creates it. So no two triggers, replicas or attempts start the same
thing twice, and nothing that happened while the daemon was down is lost.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from rollout.errors import ConflictError
from rollout.ports import Start, StartState
from rollout.store import codec, tables
from rollout.store.database import Database
from rollout.store.outbox import post
from rollout.world import Alert, EndpointRef

_T = tables.starts.c


class Starts:
    """The part of the store that holds starts; see `ports.Store` for what each method promises."""

    _database: Database

    def note_starts(self, starts: Iterable[Start]) -> Sequence[Start]:
        """Write down those whose keys are new."""
        noted: list[Start] = []
        with self._database.writing() as connection:
            for start in starts:
                if connection.scalar(select(_T.number).where(_T.key == start.key)) is None:
                    connection.execute(insert(tables.starts), [_row(start)])
                    noted.append(start)
        return noted

    def settle_start(self, key: str, *, state: StartState, why: str, now: datetime, alert: Alert | None = None) -> bool:
        """What waited does so no longer."""
        waiting = update(tables.starts).where(_T.key == key, _T.state == "waiting")
        with self._database.writing() as connection:
            settled = connection.execute(waiting.values(state=state, why=why, settled_at=now)).rowcount
            if settled and alert is not None:
                line = {"rollout_id": alert.rollout_id, "doc": codec.dump_event(alert.event)}
                connection.execute(insert(tables.history), [line])
                post(connection, [alert])
        return bool(settled)

    def find_start(self, key: str) -> Start | None:
        """None where the key is new."""
        with self._database.reading() as connection:
            row = connection.execute(select(tables.starts).where(_T.key == key)).one_or_none()
        return _start(row) if row else None

    def starts(
        self, ref: EndpointRef | None = None, *, state: StartState | None = None, limit: int = 100
    ) -> Sequence[Start]:
        """Newest first."""
        query = select(tables.starts).order_by(_T.number.desc()).limit(limit)
        if ref is not None:
            query = query.where(_T.workspace == ref.workspace, _T.endpoint == ref.name)
        if state is not None:
            query = query.where(_T.state == state)
        with self._database.reading() as connection:
            return [_start(row) for row in connection.execute(query)]


def started_by(connection: Connection, key: str) -> str | None:
    """The rollout that this key has started already; None where it may start one now. Raises ConflictError."""
    found = connection.execute(select(_T.state, _T.why, _T.rollout).where(_T.key == key)).one_or_none()
    if found is None or found.state == "waiting":
        return None
    if found.rollout is None:
        raise ConflictError(f"{key} is not started: {found.why or found.state}.")
    return str(found.rollout)


def claim(connection: Connection, start: Start) -> None:
    """Write down that this key starts a rollout, in the transaction that creates it."""
    values = {"state": "started", "why": start.why, "rollout": start.rollout_id, "settled_at": start.at}
    if not connection.execute(update(tables.starts).where(_T.key == start.key).values(**values)).rowcount:
        connection.execute(insert(tables.starts), [{**_row(start), **values}])


def _row(start: Start) -> Mapping[str, Any]:
    return {
        "key": start.key,
        "workspace": start.ref.workspace,
        "endpoint": start.ref.name,
        "policy": start.policy,
        "kind": start.kind,
        "what": start.what,
        "subject": json.dumps(dict(start.subject), sort_keys=True),
        "at": start.at,
        "state": start.state,
        "why": start.why,
        "rollout": start.rollout_id,
        "settled_at": start.settled_at,
    }


def _start(row: Row[Any]) -> Start:
    found = row._asdict()
    ref = EndpointRef(workspace=found.pop("workspace"), name=found.pop("endpoint"))
    subject, rollout = json.loads(found.pop("subject")), found.pop("rollout")
    del found["number"]
    return Start(**found, ref=ref, subject=subject, rollout_id=rollout)
