"""The tables of forecasts and incidents."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from resources.control_db.tables import UtcTimestamp, json_type, metadata

lane_model = Table(
    "lane_model",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("model", json_type(), nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
)

NOT_SETTLED = "settled_at IS NULL"
"""SQL of the forecasts that have not been held against what came."""

forecast = Table(
    "forecast",
    metadata,
    Column("batch_id", String(127), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("made_at", UtcTimestamp, primary_key=True),
    Column("source_id", String(63), nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("point_s", Float, nullable=False),
    Column("p50_at", UtcTimestamp, nullable=False),
    Column("p90_at", UtcTimestamp, nullable=False),
    Column("due_at", UtcTimestamp),
    Column("breach_probability", Float),
    Column("came_at", UtcTimestamp),
    Column("settled_at", UtcTimestamp),
    Index(
        "ix_forecast_not_settled",
        "batch_id",
        "target_id",
        postgresql_where=text(NOT_SETTLED),
        sqlite_where=text(NOT_SETTLED),
    ),
    Index("ix_forecast_made_at", "made_at"),
)
"""Forecasts outlive their batches: how well they held is counted over longer than batches are kept."""

source_day = Table(
    "source_day",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("day", String(10), primary_key=True),  # of source timestamps, in UTC
    Column("batches", BigInteger, nullable=False),
    Column("published", BigInteger, nullable=False),
    Column("late", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("latency_s", Float, nullable=False),
)

OPEN = "resolved_at IS NULL"
"""SQL of the incidents that are not over."""

incident = Table(
    "incident",
    metadata,
    Column("incident_id", String(32), primary_key=True),
    Column("tenant_id", String(63), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("public", Boolean, nullable=False),
    Column("source_id", String(63)),
    Column("target_id", String(63)),
    Column("title", Text, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("rule_key", String(255)),
    Column("opened_at", UtcTimestamp, nullable=False),
    Column("opened_by", String(255), nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    Column("seen_at", UtcTimestamp, nullable=False),
    Column("resolved_at", UtcTimestamp),
    Column("resolved_by", String(255)),
    CheckConstraint("severity IN ('critical', 'info', 'warning')", name="severity"),
    Index(
        "ux_incident_open_rule",
        "rule_key",
        unique=True,
        postgresql_where=text(OPEN),
        sqlite_where=text(OPEN),
    ),
    Index("ix_incident_tenant_id", "tenant_id", "opened_at"),
    Index("ix_incident_opened_at", "opened_at"),
)

incident_message = Table(
    "incident_message",
    metadata,
    Column("incident_id", String(32), ForeignKey("incident.incident_id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # 1 is the first
    Column("at", UtcTimestamp, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("text", Text, nullable=False),
)
