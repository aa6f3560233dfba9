"""What was laid before the judge, look by look."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "exhibits",
        sa.Column("number", Number, primary_key=True),
        sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), nullable=False, index=True),
        sa.Column("doc", sa.LargeBinary, nullable=False),
    )
