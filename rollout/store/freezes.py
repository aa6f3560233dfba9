"""Freezes: what people said may not get more traffic for now.

The rule: a freeze is written down once; lifting it is written beside it, so that who froze and who lifted stays known.
"""

from collections.abc import Sequence
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from rollout.store import tables
from rollout.store.database import Database
from rollout.world import EndpointRef, Freeze

_T = tables.freezes.c
_FREEZE = TypeAdapter(Freeze)


class Freezes:
    """The part of the store that holds freezes; see `ports.Store` for what each method promises."""

    _database: Database

    def freeze(self, freeze: Freeze) -> None:
        """Write a freeze down. The same one again changes nothing."""
        row = {
            "id": freeze.id,
            "workspace": freeze.endpoint.workspace if freeze.endpoint else None,
            "endpoint": freeze.endpoint.name if freeze.endpoint else None,
            "until": freeze.until,
            "doc": _FREEZE.dump_json(freeze).decode(),
        }
        with self._database.writing() as connection:
            if connection.scalar(select(_T.number).where(_T.id == freeze.id)) is None:
                connection.execute(insert(tables.freezes), row)

    def unfreeze(self, endpoint: EndpointRef | None, *, by: str, now: datetime) -> Sequence[Freeze]:
        """Lift those of this endpoint, or (None) those of everything; what was lifted, oldest first."""
        ours: ColumnElement[bool] = _T.endpoint.is_(None)
        if endpoint is not None:
            ours = (_T.workspace == endpoint.workspace) & (func.lower(_T.endpoint) == endpoint.name.lower())
        with self._database.writing() as connection:
            found = _in_force(connection, ours, now)
            lifted = update(tables.freezes).where(_T.id.in_([freeze.id for freeze in found]))
            connection.execute(lifted.values(lifted_at=now, lifted_by=by))
        return found

    def freezes(self, *, now: datetime, ref: EndpointRef | None = None) -> Sequence[Freeze]:
        """Those in force, oldest first; with `ref`, those that are about this endpoint."""
        with self._database.reading() as connection:
            found = _in_force(connection, _T.number.is_not(None), now)
        return [freeze for freeze in found if ref is None or freeze.covers(ref)]


def forget(connection: Connection, *, before: datetime) -> None:
    """Those that are over for long."""
    connection.execute(delete(tables.freezes).where((_T.lifted_at < before) | (_T.until < before)))


def _in_force(connection: Connection, ours: ColumnElement[bool], now: datetime) -> list[Freeze]:
    query = (
        select(_T.doc).where(ours, _T.lifted_at.is_(None), _T.until.is_(None) | (_T.until > now)).order_by(_T.number)
    )
    return [_FREEZE.validate_json(doc) for doc in connection.scalars(query)]
