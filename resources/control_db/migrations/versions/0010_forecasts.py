"""Forecasts as they were made, and incidents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_COUNTS = ("batches", "published", "late", "failed")


def upgrade() -> None:
    op.add_column("batch", sa.Column("rows", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_publish_state_publish_end_timestamp", "publish_state", ["publish_end_timestamp"]
    )
    _forecasts()
    _incidents()


def _forecasts() -> None:
    op.create_table(
        "lane_model",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("model", _JSON, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("source_id", "target_id", name=op.f("pk_lane_model")),
    )
    op.create_table(
        "forecast",
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("made_at", _MOMENT, nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("point_s", sa.Float(), nullable=False),
        sa.Column("p50_at", _MOMENT, nullable=False),
        sa.Column("p90_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT),
        sa.Column("breach_probability", sa.Float()),
        sa.Column("came_at", _MOMENT),
        sa.Column("settled_at", _MOMENT),
        sa.PrimaryKeyConstraint("batch_id", "target_id", "made_at", name=op.f("pk_forecast")),
    )
    not_settled = sa.text("settled_at IS NULL")
    op.create_index(
        "ix_forecast_not_settled",
        "forecast",
        ["batch_id", "target_id"],
        postgresql_where=not_settled,
        sqlite_where=not_settled,
    )
    op.create_index("ix_forecast_made_at", "forecast", ["made_at"])
    op.create_table(
        "source_day",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.Column("latency_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "day", name=op.f("pk_source_day")),
    )


def _incidents() -> None:
    op.create_table(
        "incident",
        sa.Column("incident_id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("source_id", sa.String(length=63)),
        sa.Column("target_id", sa.String(length=63)),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("rule_key", sa.String(length=255)),
        sa.Column("opened_at", _MOMENT, nullable=False),
        sa.Column("opened_by", sa.String(length=255), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("seen_at", _MOMENT, nullable=False),
        sa.Column("resolved_at", _MOMENT),
        sa.Column("resolved_by", sa.String(length=255)),
        sa.CheckConstraint(
            "severity IN ('critical', 'info', 'warning')", name=op.f("ck_incident_severity")
        ),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_incident")),
    )
    is_open = sa.text("resolved_at IS NULL")
    op.create_index(
        "ux_incident_open_rule",
        "incident",
        ["rule_key"],
        unique=True,
        postgresql_where=is_open,
        sqlite_where=is_open,
    )
    op.create_index("ix_incident_tenant_id", "incident", ["tenant_id", "opened_at"])
    op.create_index("ix_incident_opened_at", "incident", ["opened_at"])
    op.create_table(
        "incident_message",
        sa.Column("incident_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incident.incident_id"],
            name=op.f("fk_incident_message_incident_id"),
        ),
        sa.PrimaryKeyConstraint("incident_id", "number", name=op.f("pk_incident_message")),
    )
