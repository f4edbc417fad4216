"""The control database as it began: sources, batches, lanes, publish states, progress and dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("source_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("s3_path", sa.Text(), nullable=False),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.CheckConstraint("mode IN ('delta', 'full')", name=op.f("ck_batch_mode")),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_batch")),
    )
    op.create_index(
        "ix_batch_source_id_source_timestamp",
        "batch",
        ["source_id", "source_timestamp"],
        unique=False,
    )
    op.create_index(
        "ix_batch_source_timestamp", "batch", ["source_timestamp", "batch_id"], unique=False
    )
    op.create_table(
        "dead_letter",
        sa.Column("dead_letter_id", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("where", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("dead_letter_id", name=op.f("pk_dead_letter")),
    )
    op.create_index("ix_dead_letter_recorded_at", "dead_letter", ["recorded_at"], unique=False)
    op.create_index(
        "ix_dead_letter_source_id_recorded_at",
        "dead_letter",
        ["source_id", "recorded_at"],
        unique=False,
    )
    op.create_index("ix_dead_letter_subject", "dead_letter", ["subject"], unique=False)
    op.create_table(
        "lane",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.String(length=255), nullable=True),
        sa.Column("batch_id", sa.String(length=127), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "target_id", name=op.f("pk_lane")),
    )
    op.create_table(
        "snapshot",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("source_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "target_id", name=op.f("pk_snapshot")),
    )
    op.create_table(
        "source",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("importance", sa.Float(), nullable=False),
        sa.Column("complexity", sa.Float(), nullable=False),
        sa.Column("cadence_s", sa.BigInteger(), nullable=True),
        sa.Column("sla_s", sa.BigInteger(), nullable=True),
        sa.Column("targets", _JSON, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("declared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_source")),
    )
    op.create_table(
        "publish_state",
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("workflow_run_id", sa.String(length=255), nullable=True),
        sa.Column("s3_path", sa.Text(), nullable=False),
        sa.Column("source_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("processing_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("publish_start_timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("publish_end_timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("entities_created", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("entities_updated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("entities_deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("relationships_created", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("relationships_updated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("relationships_deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("execution_time_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("failed_operation", sa.Text(), nullable=True),
        sa.Column("stack_trace", sa.Text(), nullable=True),
        sa.Column("retry_count", sa.Integer(), nullable=True),
        sa.Column("state_snapshot_path", sa.Text(), nullable=True),
        sa.Column("execution_plan_path", sa.Text(), nullable=True),
        sa.Column("plan_digest", sa.String(length=32), nullable=True),
        sa.Column("exceptions", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("enqueued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retry_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("priority_boost", sa.Float(), server_default="0", nullable=False),
        sa.Column("republish", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint("mode IN ('delta', 'full')", name=op.f("ck_publish_state_mode")),
        sa.CheckConstraint(
            "status IN ('COMPLETE', 'EXECUTING', 'FAILED', 'PENDING', 'PLANNING', 'PLAN_COMPLETE', 'RETRYING')",
            name=op.f("ck_publish_state_status"),
        ),
        sa.CheckConstraint(
            "(error_code IS NULL) = (error_message IS NULL)",
            name=op.f("ck_publish_state_failure_details"),
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batch.batch_id"], name=op.f("fk_publish_state_batch_id")
        ),
        sa.PrimaryKeyConstraint("batch_id", "target_id", name=op.f("pk_publish_state")),
    )
    op.create_index(
        "ix_publish_state_failed_delta",
        "publish_state",
        ["source_id", "target_id", "source_timestamp"],
        unique=False,
        postgresql_where=sa.text("status = 'FAILED' AND mode = 'delta'"),
        sqlite_where=sa.text("status = 'FAILED' AND mode = 'delta'"),
    )
    op.create_index(
        "ix_publish_state_in_queue",
        "publish_state",
        ["source_id", "target_id", "source_timestamp"],
        unique=False,
        postgresql_where=sa.text(
            "status IN ('EXECUTING', 'PENDING', 'PLANNING', 'PLAN_COMPLETE', 'RETRYING')"
        ),
        sqlite_where=sa.text(
            "status IN ('EXECUTING', 'PENDING', 'PLANNING', 'PLAN_COMPLETE', 'RETRYING')"
        ),
    )
    op.create_index(
        "ix_publish_state_source_id_source_timestamp",
        "publish_state",
        ["source_id", "source_timestamp"],
        unique=False,
    )
    op.create_index(
        "ix_publish_state_source_timestamp",
        "publish_state",
        ["source_timestamp", "batch_id", "target_id"],
        unique=False,
    )
    op.create_index(
        "ix_publish_state_status_source_timestamp",
        "publish_state",
        ["status", "source_timestamp"],
        unique=False,
    )
    op.create_table(
        "execution_chunk",
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("plan_digest", sa.String(length=32), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("operations", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("already_applied", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id", "target_id"],
            ["publish_state.batch_id", "publish_state.target_id"],
            name=op.f("fk_execution_chunk_batch_id_target_id"),
        ),
        sa.PrimaryKeyConstraint(
            "batch_id", "target_id", "plan_digest", "chunk", name=op.f("pk_execution_chunk")
        ),
    )
    op.create_table(
        "operation_exception",
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("plan_digest", sa.String(length=32), nullable=False),
        sa.Column("operation_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("type_name", sa.String(length=127), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("to_key", sa.Text(), nullable=True),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id", "target_id"],
            ["publish_state.batch_id", "publish_state.target_id"],
            name=op.f("fk_operation_exception_batch_id_target_id"),
        ),
        sa.PrimaryKeyConstraint(
            "batch_id",
            "target_id",
            "plan_digest",
            "operation_id",
            name=op.f("pk_operation_exception"),
        ),
    )
    op.create_table(
        "publish_ledger",
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("type_name", sa.String(length=127), nullable=False),
        sa.Column("extracted", sa.BigInteger(), nullable=False),
        sa.Column("filtered", sa.BigInteger(), nullable=False),
        sa.Column("inferred_deletes", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("blocked", sa.BigInteger(), nullable=False),
        sa.Column("dead_lettered", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id", "target_id"],
            ["publish_state.batch_id", "publish_state.target_id"],
            name=op.f("fk_publish_ledger_batch_id_target_id"),
        ),
        sa.PrimaryKeyConstraint(
            "batch_id", "target_id", "kind", "type_name", name=op.f("pk_publish_ledger")
        ),
    )
