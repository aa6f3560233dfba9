"""The cells: what each source has shown of each deployment, minute by minute.

The rule: only what changed is written; `reading.compare` says what that is.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, case, delete, insert, select, update

from rollout.analysis.cells import Cell
from rollout.ports import StoredCells
from rollout.store import tables
from rollout.store.database import Database
from rollout.store.packing import pack, unpack
from rollout.store.reading import Key, StoredCell, compare
from rollout.world import EndpointRef

_CELL = tables.cells.c
_SERIES = tables.series.c


class Cells:
    """The part of the store that holds cells; see `ports.Store` for what each method promises."""

    _database: Database

    def put_cells(
        self,
        source: str,
        ref: EndpointRef,
        cells: Mapping[str, Mapping[int, Cell]],
        *,
        window: tuple[int, int],
        closed_before: int,
        read_at: datetime,
    ) -> bool:
        """Replace the cells of the window's minutes [start, end) by what was read."""
        start, end = window
        read = {
            (deployment, minute): pack(cell)
            for deployment, minutes in cells.items()
            for minute, cell in minutes.items()
            if start <= minute < end
        }
        with self._database.writing() as connection:
            stored = _stored(connection, _window(source, ref, start=start, end=end))
            changes = compare(stored=stored, read=read, closed_before=closed_before)
            if changes.put or changes.remove:
                numbers = _numbers(connection, source, ref, {name for name, _ in changes.put})
                _remove(connection, numbers, stored.keys() & (changes.put.keys() | changes.remove))
                _insert(connection, numbers, changes.put)
            _note(connection, source, ref, read_at=read_at, closed_before=closed_before)
        return changes.news

    def cells(self, source: str, ref: EndpointRef, *, start: int, end: int) -> StoredCells:
        """The cells of the minutes [start, end)."""
        with self._database.reading() as connection:
            stored = _stored(connection, _window(source, ref, start=start, end=end))
            noted = connection.execute(select(tables.readings).where(_at(tables.readings, source, ref))).first()
        cells: dict[str, dict[int, Cell]] = defaultdict(dict)
        unchanged: dict[str, dict[int, int]] = defaultdict(dict)
        for (deployment, minute), row in stored.items():
            if row.cell is not None:
                cells[deployment][minute] = unpack(row.cell)
                unchanged[deployment][minute] = row.unchanged
        late = sum(row.late for row in stored.values())
        return StoredCells(
            cells=dict(cells),
            unchanged=dict(unchanged),
            read_at=noted.read_at if noted else None,
            closed_before=noted.closed_before if noted else 0,
            late=late,
        )


def _window(source: str, ref: EndpointRef, *, start: int, end: int) -> Select[Any]:
    return (
        select(_SERIES.deployment, _CELL.minute, _CELL.cell, _CELL.unchanged, _CELL.closed, _CELL.late)
        .join_from(tables.series, tables.cells, _CELL.series == _SERIES.number)
        .where(_at(tables.series, source, ref), _CELL.minute >= start, _CELL.minute < end)
        .order_by(_SERIES.deployment, _CELL.minute)
    )


def _at(table: Table, source: str, ref: EndpointRef) -> ColumnElement[bool]:
    return and_(table.c.source == source, table.c.workspace == ref.workspace, table.c.endpoint == ref.name)


def _stored(connection: Connection, query: Select[Any]) -> dict[Key, StoredCell]:
    return {
        (row.deployment, row.minute): StoredCell(
            cell=row.cell, unchanged=row.unchanged, closed=row.closed, late=row.late
        )
        for row in connection.execute(query)
    }


def _numbers(connection: Connection, source: str, ref: EndpointRef, deployments: set[str]) -> dict[str, int]:
    """The number of each deployment's series; those in `deployments` get one if they have none."""
    place = {"source": source, "workspace": ref.workspace, "endpoint": ref.name}
    query = select(_SERIES.deployment, _SERIES.number).where(_at(tables.series, source, ref))
    known = {row.deployment: row.number for row in connection.execute(query)}
    for deployment in sorted(deployments - known.keys()):
        added = connection.execute(
            insert(tables.series).values(**place, deployment=deployment).returning(_SERIES.number)
        )
        known[deployment] = added.scalar_one()
    return known


def _remove(connection: Connection, numbers: Mapping[str, int], keys: set[Key]) -> None:
    by_deployment: dict[str, list[int]] = defaultdict(list)
    for deployment, minute in keys:
        by_deployment[deployment].append(minute)
    for deployment, minutes in by_deployment.items():
        connection.execute(delete(tables.cells).where(_CELL.series == numbers[deployment], _CELL.minute.in_(minutes)))


def _insert(connection: Connection, numbers: Mapping[str, int], put: Mapping[Key, StoredCell]) -> None:
    rows = [
        {
            "series": numbers[deployment],
            "minute": minute,
            "cell": row.cell,
            "unchanged": row.unchanged,
            "closed": row.closed,
            "late": row.late,
        }
        for (deployment, minute), row in sorted(put.items(), key=lambda item: item[0])
    ]
    if rows:
        connection.execute(insert(tables.cells), rows)


def _note(connection: Connection, source: str, ref: EndpointRef, *, read_at: datetime, closed_before: int) -> None:
    """Note the reading; the minute before which all is closed never moves back."""
    table = tables.readings
    latest = case((table.c.closed_before > closed_before, table.c.closed_before), else_=closed_before)
    noted = connection.execute(
        update(table).where(_at(table, source, ref)).values(read_at=read_at, closed_before=latest)
    ).rowcount
    if not noted:
        row = {"source": source, "workspace": ref.workspace, "endpoint": ref.name, "read_at": read_at}
        connection.execute(insert(table).values(**row, closed_before=closed_before))
