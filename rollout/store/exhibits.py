"""The exhibits: what was laid before the judge, so that every verdict can be explained and judged again.

The rule: an exhibit is written in the transaction that saves what follows from it, and never changed. Those of an
endpoint's last rollouts are kept whole; of older ones the history tells the verdicts.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from rollout.analysis.exhibits import Exhibit
from rollout.store import codec, tables
from rollout.store.database import Database

_T = tables.exhibits.c


class Exhibits:
    """The part of the store that holds exhibits; see `ports.Store` for what each method promises."""

    _database: Database

    def exhibits(self, rollout_id: str) -> Sequence[Exhibit]:
        """In the order in which the judge saw them."""
        query = select(_T.doc).where(_T.rollout_id == rollout_id).order_by(_T.number)
        with self._database.reading() as connection:
            return [codec.load_exhibit(doc) for doc in connection.scalars(query)]


def keep(connection: Connection, rollout_id: str, exhibit: Exhibit | None) -> None:
    """Write an exhibit down, if there is one."""
    if exhibit is not None:
        connection.execute(insert(tables.exhibits), {"rollout_id": rollout_id, "doc": codec.dump_exhibit(exhibit)})
