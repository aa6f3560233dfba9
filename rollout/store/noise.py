"""What rollouts taught of their endpoint's noise, for those to come.

The rule: a lesson is written in the transaction that ends its rollout, and never changed; an endpoint keeps those of its
last rollouts.
"""

from sqlalchemy import Connection, delete, insert, select

from rollout.analysis.noise import Lesson, Lessons
from rollout.lifecycle.lessons import lessons_of
from rollout.lifecycle.rollout import Rollout
from rollout.store import tables
from rollout.store.database import Database
from rollout.world import EndpointRef

#: So many rollouts of each endpoint are remembered.
KEPT_ROLLOUTS = 10

_T = tables.noise.c


class Noise:
    """The part of the store that holds lessons; see `ports.Store` for what the method promises."""

    _database: Database

    def noise(self, ref: EndpointRef) -> Lessons:
        """By source and check, oldest first."""
        query = (
            select(_T.source, _T.check, _T.blocks, _T.square)
            .where(_T.workspace == ref.workspace, _T.endpoint == ref.name)
            .order_by(_T.number)
        )
        found: dict[str, dict[str, list[Lesson]]] = {}
        with self._database.reading() as connection:
            for source, check, blocks, square in connection.execute(query):
                found.setdefault(source, {}).setdefault(check, []).append(Lesson(blocks, square))
        return found


def learn(connection: Connection, rollout: Rollout) -> None:
    """Write down what this rollout teaches, if it does, and forget what older ones taught."""
    rows = [
        {
            "rollout_id": rollout.id,
            "workspace": rollout.ref.workspace,
            "endpoint": rollout.ref.name,
            "source": source,
            "check": check,
            "blocks": lesson.blocks,
            "square": lesson.square,
        }
        for source, checks in lessons_of(rollout).items()
        for check, lesson in checks.items()
    ]
    known = connection.scalar(select(_T.number).where(_T.rollout_id == rollout.id).limit(1))
    if not rows or known is not None:
        return
    connection.execute(insert(tables.noise), rows)
    same = (_T.workspace == rollout.ref.workspace) & (_T.endpoint == rollout.ref.name)
    taught = connection.scalars(select(_T.rollout_id).where(same).order_by(_T.number.desc()))
    kept = list(dict.fromkeys(taught))[:KEPT_ROLLOUTS]
    connection.execute(delete(tables.noise).where(same, _T.rollout_id.not_in(kept)))
