"""The outbox: alerts on their way, one row for each alert and channel.

The rule: an alert enters with the change that it tells, in the same transaction, and once: the same id for the same
channel is the same alert. It leaves as delivered, or as a dead letter that stays visible.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from rollout.ports import Delivery
from rollout.store import codec, tables
from rollout.store.database import Database
from rollout.world import Alert

WAITING, DELIVERED, DEAD = "waiting", "delivered", "dead"
#: The longest error kept of a failed delivery, in characters.
ERROR_LENGTH = 500

_T = tables.outbox.c


class Outbox:
    """The part of the store that holds outgoing alerts; see `ports.Store` for what each method promises."""

    _database: Database

    def due_deliveries(self, *, now: datetime, limit: int = 20) -> Sequence[Delivery]:
        """Alerts to send now, oldest first, at most `limit` for each channel: a dead channel fills no other's place."""
        place = func.row_number().over(partition_by=_T.channel, order_by=_T.number).label("place")
        due = select(tables.outbox, place).where(_T.state == WAITING, _T.next_at <= now).subquery()
        with self._database.reading() as connection:
            rows = connection.execute(select(due).where(due.c.place <= limit).order_by(due.c.number)).all()
        return [_delivery(row) for row in rows]

    def delivered(self, delivery: Delivery, *, now: datetime) -> None:
        """The channel took it."""
        self._tried(delivery, {"state": DELIVERED, "error": None, "next_at": None, "delivered_at": now})

    def delivery_failed(self, delivery: Delivery, *, error: str, next_at: datetime | None) -> None:
        """It did not; None gives up (a dead letter)."""
        state = DEAD if next_at is None else WAITING
        self._tried(delivery, {"state": state, "error": error[:ERROR_LENGTH], "next_at": next_at})

    def _tried(self, delivery: Delivery, values: dict[str, Any]) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(tables.outbox)
                .where(_T.number == delivery.id, _T.state == WAITING)
                .values(attempts=_T.attempts + 1, **values)
            )

    def deliveries(
        self, rollout_id: str | None = None, *, state: str | None = None, limit: int = 100
    ) -> Sequence[Delivery]:
        """What became of the alerts, newest first."""
        query = select(tables.outbox).order_by(_T.number.desc()).limit(limit)
        if rollout_id is not None:
            query = query.where(_T.rollout_id == rollout_id)
        if state is not None:
            query = query.where(_T.state == state)
        with self._database.reading() as connection:
            return [_delivery(row) for row in connection.execute(query)]


def post(connection: Connection, alerts: Sequence[Alert]) -> None:
    """Put alerts in the outbox, due at once; what is there already stays as it is."""
    ids = [alert.id for alert in alerts]
    rows = connection.execute(select(_T.alert_id, _T.channel).where(_T.alert_id.in_(ids))) if ids else ()
    known = {(row.alert_id, row.channel) for row in rows}
    for alert in alerts:
        channels = [name for name in dict.fromkeys(alert.channels) if (alert.id, name) not in known]
        if channels:
            connection.execute(insert(tables.outbox), [_new_row(alert, channel) for channel in channels])


def _new_row(alert: Alert, channel: str) -> dict[str, Any]:
    return {
        "alert_id": alert.id,
        "channel": channel,
        "rollout_id": alert.rollout_id,
        "doc": codec.dump_alert(alert),
        "state": WAITING,
        "attempts": 0,
        "next_at": alert.event.at,
    }


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.number,
        alert=codec.load_alert(row.doc),
        channel=row.channel,
        attempts=row.attempts,
        state=row.state,
        error=row.error,
        next_at=row.next_at,
    )
