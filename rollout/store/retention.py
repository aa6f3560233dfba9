"""How long the store remembers, in one place.

The rule: what nobody asks for any more is forgotten once an hour, never while its rollout runs. An endpoint's last rollouts
are kept however old they are, and those of the last months however many: both limits must be passed.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, delete, func, not_, select

from rollout.store import freezes, tables
from rollout.store.database import Database

#: Cells that no exhibit holds: the judge wants an hour before the rollout, `plan` a day or two.
KEEP_CELLS = timedelta(hours=48)
#: So many rollouts of each endpoint keep what the judge was shown.
KEEP_EXHIBITS_OF = 10
#: Rollouts with their history, commands and alerts: so many of each endpoint, and all that were started since.
KEEP_ROLLOUTS, KEEP_ROLLOUTS_FOR = 50, timedelta(days=90)

_R = tables.rollouts.c
#: All that hangs on a rollout and goes with it.
_PARTS = [table for table in tables.metadata.sorted_tables if "rollout_id" in table.c]


class Retention:
    """The part of the store that forgets; see `ports.Store.prune`."""

    _database: Database

    def prune(self, *, now: datetime) -> None:
        """Forget what is past its limits."""
        before = int((now - KEEP_CELLS).timestamp() // 60)
        with self._database.writing() as connection:
            connection.execute(delete(tables.cells).where(tables.cells.c.minute < before))
            exhibits = tables.exhibits
            connection.execute(delete(exhibits).where(exhibits.c.rollout_id.in_(_beyond(KEEP_EXHIBITS_OF))))
            _forget_rollouts(connection, started_before=now - KEEP_ROLLOUTS_FOR)
            _forget_releases(connection, started_before=now - KEEP_ROLLOUTS_FOR)
            _forget_runs(connection, seen_before=now - KEEP_ROLLOUTS_FOR)
            freezes.forget(connection, before=now - KEEP_ROLLOUTS_FOR)


def _forget_rollouts(connection: Connection, *, started_before: datetime) -> None:
    old = select(_R.id).where(_R.id.in_(_beyond(KEEP_ROLLOUTS)), _R.created_at < started_before, not_(_R.active))
    ids = list(connection.scalars(old))
    if ids:
        for table in _PARTS:
            connection.execute(delete(table).where(table.c.rollout_id.in_(ids)))
        connection.execute(delete(tables.rollouts).where(_R.id.in_(ids)))


def _forget_releases(connection: Connection, *, started_before: datetime) -> None:
    releases = tables.releases
    old = (releases.c.created_at < started_before) & not_(releases.c.active)
    connection.execute(delete(releases).where(old))


def _forget_runs(connection: Connection, *, seen_before: datetime) -> None:
    """A moment of a schedule does not come again; deployments and models are remembered for good."""
    starts = tables.starts.c
    old = (starts.kind == "schedule") & (starts.at < seen_before) & (starts.state != "waiting")
    connection.execute(delete(tables.starts).where(old))


def _beyond(kept: int) -> Select[tuple[str]]:
    """The rollouts that are not among the last so many of their endpoint; an active one always is."""
    place = func.row_number().over(partition_by=(_R.workspace, _R.endpoint), order_by=_R.number.desc())
    ranked = select(_R.id, place.label("place")).subquery()
    return select(ranked.c.id).where(ranked.c.place > kept)
