"""Releases: one row for each, with all that happened to it.

The rule: a decision about a release is one transaction: its state, the rollouts that begin, the commands to those that
run, and the alerts. It is written only over the version that it was made from, so that of two replicas one decides.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from rollout.errors import ConflictError, RefusedError
from rollout.lifecycle.releases import Decision
from rollout.ports import KeptRelease
from rollout.store import codec, tables
from rollout.store.commands import write_down
from rollout.store.database import Database
from rollout.store.outbox import post
from rollout.store.rollouts import insert_rollout
from rollout.world import Alert

_T = tables.releases.c


class Releases:
    """The part of the store that holds releases; see `ports.Releases` for what each method promises."""

    _database: Database

    def create_release(self, decision: Decision, alerts: Sequence[Alert], *, key: str | None = None) -> None:
        """A new release with its first rollouts."""
        release = decision.release
        with self._database.writing() as connection:
            found = connection.execute(select(_T.id, _T.phase).where(_T.active, _T.name == release.name)).one_or_none()
            if found:
                raise ConflictError(
                    f"There is an active release {release.name} ({found.id}, {found.phase}): wait until it ends, or end it "
                    f"with `rollout release abort {release.name} --reason …`."
                )
            row = {"id": release.id, "name": release.name, "key": key, "created_at": release.created_at, "version": 0}
            connection.execute(insert(tables.releases), {**row, **_values(decision)})
            _act(connection, decision, alerts)

    def begun_by(self, key: str) -> KeptRelease | None:
        """The release that this key has begun."""
        return self._one(_all().where(_T.key == key))

    def save_release(self, decision: Decision, alerts: Sequence[Alert], *, version: int) -> None:
        """What was decided about the release of this version."""
        release = decision.release
        with self._database.writing() as connection:
            changed = connection.execute(
                update(tables.releases)
                .where(_T.id == release.id, _T.version == version)
                .values(version=version + 1, **_values(decision))
            )
            if not changed.rowcount:
                raise ConflictError(f"Release {release.name} has changed meanwhile: look again.")
            _act(connection, decision, alerts)

    def load_release(self, release_id: str) -> KeptRelease:
        """The release of this id."""
        found = self._one(_all().where(_T.id == release_id))
        if found is None:
            raise RefusedError(f"There is no release {release_id}: `rollout release list` shows those that there are.")
        return found

    def latest_release(self, name: str) -> KeptRelease | None:
        """The active release of this name, else its newest."""
        return self._one(_all().where(_T.name == name).order_by(_T.active.desc(), _T.number.desc()).limit(1))

    def _one(self, query: Select[tuple[str, str, int]]) -> KeptRelease | None:
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return _kept(row) if row else None

    def releases(self, *, active_only: bool = False, limit: int = 100) -> Sequence[KeptRelease]:
        """Newest first."""
        query = _all().order_by(_T.number.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_kept(row) for row in connection.execute(query.where(_T.active) if active_only else query)]


def _act(connection: Connection, decision: Decision, alerts: Sequence[Alert]) -> None:
    for start in decision.starts:
        insert_rollout(connection, start.rollout, start.events)
    for command in decision.commands:
        write_down(connection, command)
    post(connection, alerts)


def _values(decision: Decision) -> dict[str, Any]:
    release = decision.release
    return {"phase": str(release.phase), "active": not release.ended, "doc": codec.dump_release(release)}


def _all() -> Select[tuple[str, str, int]]:
    return select(_T.id, _T.doc, _T.version)


def _kept(row: Row[tuple[str, str, int]]) -> KeptRelease:
    return KeptRelease(release=codec.load_release(row.doc, name=row.id), version=row.version)
