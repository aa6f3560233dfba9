"""The tables of the store.

The rule: this module says what the newest schema is, the migrations lead there, and a test holds both together. What is
searched for stands in columns, what is only read back in a document. Types are those that SQLite and PostgreSQL share.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """A time as whole microseconds since the epoch: exact, sortable, and the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:  # noqa: ARG002 - SQLAlchemy's name
        """Times without a zone are refused: nobody could say what they mean."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: times in the store are UTC")
        return (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        """Always UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


#: SQLite counts rows up by itself only for a plain INTEGER key.
Number = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

rollouts = Table(
    "rollouts",
    metadata,
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("workspace", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("doc", Text, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("woken", Boolean, nullable=False),  # something changed since the rollout was last claimed
    Column("lease_owner", Text),
    Column("lease_until", Moment),
    Column("fence", BigInteger, nullable=False),
)
Index(
    "one_active_rollout_per_endpoint",
    rollouts.c.workspace,
    rollouts.c.endpoint,
    unique=True,
    sqlite_where=text("active"),
    postgresql_where=text("active"),
)
Index("rollouts_due", rollouts.c.active, rollouts.c.due_at)

history = Table(
    "history",
    metadata,
    Column("number", Number, primary_key=True),
    Column("rollout_id", Text, ForeignKey("rollouts.id"), nullable=False, index=True),
    Column("doc", Text, nullable=False),
)

#: What was laid before the judge, look by look.
exhibits = Table(
    "exhibits",
    metadata,
    Column("number", Number, primary_key=True),
    Column("rollout_id", Text, ForeignKey("rollouts.id"), nullable=False, index=True),
    Column("doc", LargeBinary, nullable=False),  # JSON, deflated
)

#: How much the minutes of a rollout differed beyond chance: see `analysis.noise.Lesson`.
noise = Table(
    "noise",
    metadata,
    Column("number", Number, primary_key=True),
    Column("rollout_id", Text, ForeignKey("rollouts.id"), nullable=False, index=True),
    Column("workspace", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("check", Text, nullable=False),
    Column("blocks", Double, nullable=False),
    Column("square", Double, nullable=False),
)
Index("noise_of_endpoint", noise.c.workspace, noise.c.endpoint)

#: What starts rollouts, each by a key of its own. It outlives the rollout that it started: see `store.retention`.
starts = Table(
    "starts",
    metadata,
    Column("number", Number, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("workspace", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("subject", Text, nullable=False),  # JSON: what is needed to start it
    Column("at", Moment, nullable=False),
    Column("state", Text, nullable=False),  # waiting | started | passed | refused | known
    Column("why", Text, nullable=False),
    Column("rollout", Text),  # the one that it started, which may be forgotten by now
    Column("settled_at", Moment),
)
Index("starts_of_endpoint", starts.c.workspace, starts.c.endpoint)

#: Releases over several endpoints. `version` counts the writes: a decision is written only over what it was made from.
releases = Table(
    "releases",
    metadata,
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("key", Text, unique=True),
    Column("phase", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("doc", Text, nullable=False),
)
Index(
    "one_active_release_per_name",
    releases.c.name,
    unique=True,
    sqlite_where=text("active"),
    postgresql_where=text("active"),
)

#: What people said may not get more traffic for now; both names null: everything.
freezes = Table(
    "freezes",
    metadata,
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("workspace", Text),
    Column("endpoint", Text),
    Column("until", Moment),
    Column("doc", Text, nullable=False),
    Column("lifted_at", Moment),
    Column("lifted_by", Text),
)

commands = Table(
    "commands",
    metadata,
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("rollout_id", Text, ForeignKey("rollouts.id"), nullable=False, index=True),
    Column("doc", Text, nullable=False),
    Column("accepted", Boolean),  # null until a tick has answered
    Column("sentence", Text),
)

outbox = Table(
    "outbox",
    metadata,
    Column("number", Number, primary_key=True),
    Column("alert_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("rollout_id", Text, ForeignKey("rollouts.id"), nullable=False, index=True),
    Column("doc", Text, nullable=False),
    Column("state", Text, nullable=False),  # waiting | delivered | dead
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Column("next_at", Moment),
    Column("delivered_at", Moment),
    UniqueConstraint("alert_id", "channel"),
)
Index("outbox_due", outbox.c.state, outbox.c.next_at)

readings = Table(
    "readings",
    metadata,
    Column("source", Text, primary_key=True),
    Column("workspace", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("read_at", Moment, nullable=False),
    Column("closed_before", BigInteger, nullable=False),
)

#: Names are written once here, so that a row of `cells` stays small.
series = Table(
    "series",
    metadata,
    Column("number", Number, primary_key=True),
    Column("source", Text, nullable=False),
    Column("workspace", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    UniqueConstraint("source", "workspace", "endpoint", "deployment"),
)

cells = Table(
    "cells",
    metadata,
    Column("series", Number, ForeignKey("series.number"), primary_key=True),
    Column("minute", Integer, primary_key=True),  # since the epoch
    Column("cell", LargeBinary),  # packed; null where the minute closed without one and rows came later
    Column("unchanged", Integer, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("late", Integer, nullable=False),
    sqlite_with_rowid=False,
)
Index("cells_minute", cells.c.minute)
