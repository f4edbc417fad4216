"""Events: the outbox of what is told to others, where it is sent to, and the inbox of what others tell."""

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
    op.create_index(
        "ix_outbox_event_tenant_id", "outbox_event", ["tenant_id", "transaction_id", "position"]
    )
    _destinations()
    _inbox()


def _destinations() -> None:
    op.create_table(
        "destination",
        sa.Column("destination_id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("types", _JSON, nullable=False),
        sa.Column("subjects", _JSON, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("cursor_transaction", sa.BigInteger(), nullable=False),
        sa.Column("cursor_position", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", _MOMENT),
        sa.Column("retry_at", _MOMENT),
        sa.Column("last_error", sa.Text()),
        sa.Column("delivered_at", _MOMENT),
        sa.Column("disabled_at", _MOMENT),
        sa.Column("disabled_why", sa.Text()),
        sa.Column("lease_owner", sa.String(length=255)),
        sa.Column("lease_until", _MOMENT),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination_id", name=op.f("pk_destination")),
    )
    op.create_table(
        "destination_secret",
        sa.Column("destination_id", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT),
        sa.PrimaryKeyConstraint("destination_id", "number", name=op.f("pk_destination_secret")),
    )
    op.create_table(
        "delivery",
        sa.Column("delivery_number", _COUNT, autoincrement=True, nullable=False),
        sa.Column("destination_id", sa.String(length=63), nullable=False),
        sa.Column("event_id", sa.String(length=127), nullable=False),
        sa.Column("event_type", sa.String(length=63), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_number", name=op.f("pk_delivery")),
    )
    op.create_index("ix_delivery_destination_id", "delivery", ["destination_id", "delivery_number"])


def _inbox() -> None:
    op.create_table(
        "inbox_event",
        sa.Column("position", _COUNT, autoincrement=True, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=63), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("time", _MOMENT, nullable=False),
        sa.Column("data", _JSON, nullable=False),
        sa.Column("trace_parent", sa.String(length=55)),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("received_from", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", _MOMENT),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("settled_at", _MOMENT),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_inbox_event")),
    )
    waiting = sa.text("status = 'waiting'")
    op.create_index(
        "ux_inbox_event_source", "inbox_event", ["tenant_id", "source", "event_id"], unique=True
    )
    op.create_index(
        "ix_inbox_event_waiting",
        "inbox_event",
        ["position"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )
    retrying = sa.text("status = 'waiting' AND retry_at IS NOT NULL")
    op.create_index(
        "ix_inbox_event_retrying",
        "inbox_event",
        ["tenant_id", "subject"],
        postgresql_where=retrying,
        sqlite_where=retrying,
    )
    op.create_index("ix_inbox_event_status", "inbox_event", ["status", "settled_at"])
    op.create_table(
        "loop_lease",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("until", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_loop_lease")),
    )
