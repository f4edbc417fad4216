"""Events: the outbox of what is told to others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "outbox_event",
        sa.Column("position", _COUNT, autoincrement=True, nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=127), nullable=False),
        sa.Column("type", sa.String(length=63), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("time", _MOMENT, nullable=False),
        sa.Column("data", _JSON, nullable=False),
        sa.Column("trace_parent", sa.String(length=55)),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_outbox_event")),
    )
    op.create_index("ux_outbox_event_event_id", "outbox_event", ["event_id"], unique=True)
    op.create_index("ix_outbox_event_commit_order", "outbox_event", ["transaction_id", "position"])
    op.create_index("ix_outbox_event_time", "outbox_event", ["time"])
