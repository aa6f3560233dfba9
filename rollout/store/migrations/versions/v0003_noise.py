"""What rollouts taught of their endpoint's noise."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "noise",
        sa.Column("number", Number, primary_key=True),
        sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), nullable=False, index=True),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("check", sa.Text, nullable=False),
        sa.Column("blocks", sa.Double, nullable=False),
        sa.Column("square", sa.Double, nullable=False),
    )
    op.create_index("noise_of_endpoint", "noise", ["workspace", "endpoint"])
