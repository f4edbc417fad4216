"""What publishing that can be trusted keeps: attempts, executions, approvals, audit, pauses, breakers, drift."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_FAILED_DELTA = "status = 'FAILED' AND mode = 'delta' AND error_code <> 'cancelled'"


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column(
            "entry_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("act", sa.String(length=63), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "details",
            _JSON,
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_audit_entry")),
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"], unique=False)
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject"], unique=False)
    op.create_table(
        "drift",
        sa.Column("drift_id", sa.String(length=32), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("type_name", sa.String(length=127), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("to_key", sa.Text(), nullable=True),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("expected_digest", sa.String(length=32), nullable=True),
        sa.Column("found_digest", sa.String(length=32), nullable=True),
        sa.Column(
            "fields",
            _JSON,
            nullable=False,
        ),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("plan_digest", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("drift_id", name=op.f("pk_drift")),
    )
    op.create_index("ix_drift_lane", "drift", ["source_id", "target_id", "status"], unique=False)
    op.create_table(
        "drift_cursor",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("type_name", sa.String(length=127), nullable=False),
        sa.Column("position", sa.String(length=32), nullable=False),
        sa.Column("checked", sa.BigInteger(), nullable=False),
        sa.Column("turn_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("turn_finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "source_id", "target_id", "kind", "type_name", name=op.f("pk_drift_cursor")
        ),
    )
    op.create_table(
        "pause",
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("scope_id", sa.String(length=63), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_by", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("scope IN ('source', 'target')", name=op.f("ck_pause_scope")),
        sa.PrimaryKeyConstraint("scope", "scope_id", name=op.f("pk_pause")),
    )
    op.create_table(
        "target_breaker",
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("window_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("open_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("times_opened", sa.Integer(), nullable=False),
        sa.Column("doubted_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('closed', 'half_open', 'open')", name=op.f("ck_target_breaker_status")
        ),
        sa.PrimaryKeyConstraint("target_id", name=op.f("pk_target_breaker")),
    )
    op.create_table(
        "dead_letter_event",
        sa.Column("dead_letter_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.String(length=127), nullable=True),
        sa.ForeignKeyConstraint(
            ["dead_letter_id"],
            ["dead_letter.dead_letter_id"],
            name=op.f("fk_dead_letter_event_dead_letter_id"),
        ),
        sa.PrimaryKeyConstraint("dead_letter_id", "number", name=op.f("pk_dead_letter_event")),
    )
    op.create_table(
        "approval",
        sa.Column("approval_id", sa.String(length=32), nullable=False),
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("plan_digest", sa.String(length=32), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("approver", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_why", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id", "target_id"],
            ["publish_state.batch_id", "publish_state.target_id"],
            name=op.f("fk_approval_batch_id_target_id"),
        ),
        sa.PrimaryKeyConstraint("approval_id", name=op.f("pk_approval")),
    )
    op.create_index("ix_approval_batch_id", "approval", ["batch_id", "target_id"], unique=False)
    op.create_table(
        "plan_execution",
        sa.Column("plan_digest", sa.String(length=32), nullable=False),
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("intent", sa.String(length=16), nullable=False),
        sa.Column("plan_path", sa.Text(), nullable=False),
        sa.Column("snapshot_before", sa.BigInteger(), nullable=False),
        sa.Column("snapshot_after", sa.BigInteger(), nullable=True),
        sa.Column("operations", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("already_applied", sa.BigInteger(), nullable=False),
        sa.Column("exceptions", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id", "target_id"],
            ["publish_state.batch_id", "publish_state.target_id"],
            name=op.f("fk_plan_execution_batch_id_target_id"),
        ),
        sa.PrimaryKeyConstraint(
            "plan_digest", "batch_id", "target_id", name=op.f("pk_plan_execution")
        ),
    )
    op.create_index(
        "ix_plan_execution_lane",
        "plan_execution",
        ["source_id", "target_id", "finished_at"],
        unique=False,
    )
    op.create_table(
        "publish_attempt",
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=255), nullable=False),
        sa.Column("enqueued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("step", sa.String(length=32), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_tier", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id", "target_id"],
            ["publish_state.batch_id", "publish_state.target_id"],
            name=op.f("fk_publish_attempt_batch_id_target_id"),
        ),
        sa.PrimaryKeyConstraint(
            "batch_id", "target_id", "attempt", name=op.f("pk_publish_attempt")
        ),
    )
    op.add_column(
        "dead_letter",
        sa.Column("status", sa.String(length=16), server_default="open", nullable=False),
    )
    op.add_column(
        "dead_letter",
        sa.Column("fingerprint", sa.String(length=32), server_default="unknown", nullable=False),
    )
    op.add_column("dead_letter", sa.Column("batch_id", sa.String(length=127), nullable=True))
    op.add_column("dead_letter", sa.Column("target_id", sa.String(length=63), nullable=True))
    op.add_column("dead_letter", sa.Column("plan_digest", sa.String(length=32), nullable=True))
    op.add_column("dead_letter", sa.Column("operation_id", sa.String(length=32), nullable=True))
    op.add_column("dead_letter", sa.Column("kind", sa.String(length=16), nullable=True))
    op.add_column("dead_letter", sa.Column("type_name", sa.String(length=127), nullable=True))
    op.add_column("dead_letter", sa.Column("key", sa.Text(), nullable=True))
    op.add_column("dead_letter", sa.Column("to_key", sa.Text(), nullable=True))
    op.add_column("dead_letter", sa.Column("action", sa.String(length=16), nullable=True))
    op.add_column("dead_letter", sa.Column("data", sa.Text(), nullable=True))
    op.add_column("dead_letter", sa.Column("data_path", sa.Text(), nullable=True))
    op.add_column(
        "dead_letter", sa.Column("correction_batch_id", sa.String(length=127), nullable=True)
    )
    op.add_column("dead_letter", sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("dead_letter", sa.Column("alerted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_dead_letter_batch_id", "dead_letter", ["batch_id", "target_id"], unique=False
    )
    op.create_index(
        "ix_dead_letter_correction_batch_id", "dead_letter", ["correction_batch_id"], unique=False
    )
    op.create_index(
        "ix_dead_letter_fingerprint", "dead_letter", ["fingerprint", "status"], unique=False
    )
    op.create_index(
        "ix_dead_letter_lane", "dead_letter", ["source_id", "target_id", "status"], unique=False
    )
    op.add_column("lane", sa.Column("started_batch_id", sa.String(length=127), nullable=True))
    op.drop_index("ix_publish_state_failed_delta", table_name="publish_state")
    op.create_index(
        "ix_publish_state_failed_delta",
        "publish_state",
        ["source_id", "target_id", "source_timestamp"],
        unique=False,
        postgresql_where=sa.text(_FAILED_DELTA),
        sqlite_where=sa.text(_FAILED_DELTA),
    )
    op.add_column("operation_exception", sa.Column("guard", sa.String(length=63), nullable=True))
    op.add_column(
        "operation_exception", sa.Column("blocked_by", sa.String(length=32), nullable=True)
    )
    op.add_column(
        "operation_exception", sa.Column("settled_by", sa.String(length=127), nullable=True)
    )
    op.add_column(
        "publish_ledger", sa.Column("lost", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "publish_state", sa.Column("base_plan_digest", sa.String(length=32), nullable=True)
    )
    op.add_column(
        "publish_state", sa.Column("held", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "publish_state", sa.Column("blocked", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "publish_state", sa.Column("rejected", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "publish_state",
        sa.Column("intent", sa.String(length=16), server_default="publish", nullable=False),
    )
    op.execute("UPDATE publish_state SET intent = 'republish' WHERE republish")
    op.drop_column("publish_state", "republish")
    op.add_column(
        "source",
        sa.Column(
            "guard_policy",
            _JSON,
            nullable=True,
        ),
    )
    op.add_column(
        "source",
        sa.Column(
            "ownership",
            _JSON,
            nullable=True,
        ),
    )
