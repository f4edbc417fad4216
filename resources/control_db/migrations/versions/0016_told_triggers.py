"""Workflows that wait for what Penstock tells: up to where each has heard, and up to where the outbox was looked at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workflow", sa.Column("heard_transaction", sa.BigInteger(), nullable=True))
    op.add_column("workflow", sa.Column("heard_position", sa.BigInteger(), nullable=True))
    op.create_index("ix_workflow_task_moment", "workflow_task", ["source_id", "moment"])
    op.create_table(
        "loop_place",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
