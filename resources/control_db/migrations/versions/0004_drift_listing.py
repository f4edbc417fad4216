"""How far the drift audit has listed what targets hold, to find what nobody published."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from resources.control_db.tables import UtcTimestamp

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drift_listing",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("after_type", sa.String(length=127), nullable=True),
        sa.Column("after_key", sa.Text(), nullable=True),
        sa.Column("after_to_key", sa.Text(), nullable=True),
        sa.Column("listed", sa.BigInteger(), nullable=False),
        sa.Column("listed_last_turn", sa.BigInteger(), nullable=False),
        sa.Column("turn_started_at", UtcTimestamp(), nullable=False),
        sa.Column("turn_finished_at", UtcTimestamp(), nullable=True),
        sa.Column("updated_at", UtcTimestamp(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "target_id", "kind", name=op.f("pk_drift_listing")),
    )
