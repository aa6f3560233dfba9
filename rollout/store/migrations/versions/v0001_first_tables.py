"""The first tables: rollouts with their leases, history, commands, outbox and cells."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "rollouts",
        sa.Column("number", Number, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("woken", sa.Boolean, nullable=False),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "one_active_rollout_per_endpoint",
        "rollouts",
        ["workspace", "endpoint"],
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    )
    op.create_index("rollouts_due", "rollouts", ["active", "due_at"])
    op.create_table(
        "history",
        sa.Column("number", Number, primary_key=True),
        sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), nullable=False, index=True),
        sa.Column("doc", sa.Text, nullable=False),
    )
    op.create_table(
        "commands",
        sa.Column("number", Number, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), nullable=False, index=True),
        sa.Column("doc", sa.Text, nullable=False),
        sa.Column("accepted", sa.Boolean),
        sa.Column("sentence", sa.Text),
    )
    _create_outbox()
    _create_cells()


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("number", Number, primary_key=True),
        sa.Column("alert_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), nullable=False, index=True),
        sa.Column("doc", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("next_at", sa.BigInteger),
        sa.Column("delivered_at", sa.BigInteger),
        sa.UniqueConstraint("alert_id", "channel"),
    )
    op.create_index("outbox_due", "outbox", ["state", "next_at"])


def _create_cells() -> None:
    op.create_table(
        "readings",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("read_at", sa.BigInteger, nullable=False),
        sa.Column("closed_before", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "series",
        sa.Column("number", Number, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.UniqueConstraint("source", "workspace", "endpoint", "deployment"),
    )
    op.create_table(
        "cells",
        sa.Column("series", Number, sa.ForeignKey("series.number"), primary_key=True),
        sa.Column("minute", sa.Integer, primary_key=True),
        sa.Column("cell", sa.LargeBinary),
        sa.Column("unchanged", sa.Integer, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("late", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("cells_minute", "cells", ["minute"])
