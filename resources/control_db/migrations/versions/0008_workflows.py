"""Workflows, their turns and tasks, and the workers that run them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    _create_workflow()
    _create_workflow_turn()
    _create_workflow_task()
    _index_workflow_task()
    _create_worker()
    _create_work_breaker()


def _create_workflow() -> None:
    op.create_table(
        "workflow",
        sa.Column("workflow_id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("spec", _JSON, nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("body_digest", sa.String(length=32), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.Column("cancelled_by", sa.String(length=255), nullable=True),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("next_due_at", _MOMENT, nullable=True),
        sa.Column("queued_triggers", _JSON, nullable=False),
        sa.Column("queued_count", sa.Integer(), nullable=False),
        sa.Column("dropped_triggers", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('event_driven', 'on_demand', 'recovery', 'scheduled')",
            name=op.f("ck_workflow_kind"),
        ),
        sa.CheckConstraint(
            "status IN ('cancelled', 'cancelling', 'completed', 'failed', 'paused', 'running', 'waiting')",
            name=op.f("ck_workflow_status"),
        ),
        sa.PrimaryKeyConstraint("workflow_id", name=op.f("pk_workflow")),
    )
    op.create_index("ix_workflow_created_at", "workflow", ["created_at", "workflow_id"])
    op.create_index("ix_workflow_status", "workflow", ["status", "next_due_at"])
    op.create_index(
        "ux_workflow_idempotency_key", "workflow", ["tenant_id", "idempotency_key"], unique=True
    )


def _create_workflow_turn() -> None:
    op.create_table(
        "workflow_turn",
        sa.Column("turn_id", sa.String(length=32), nullable=False),
        sa.Column("workflow_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("trigger_id", sa.String(length=255), nullable=False),
        sa.Column("trigger", _JSON, nullable=False),
        sa.Column("begun_at", _MOMENT, nullable=False),
        sa.Column("deadline_at", _MOMENT, nullable=True),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('cancelled', 'compensating', 'completed', 'failed', 'running')",
            name=op.f("ck_workflow_turn_status"),
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"], ["workflow.workflow_id"], name=op.f("fk_workflow_turn_workflow_id")
        ),
        sa.PrimaryKeyConstraint("turn_id", name=op.f("pk_workflow_turn")),
    )
    op.create_index(
        "ux_workflow_turn_number", "workflow_turn", ["workflow_id", "number"], unique=True
    )
    op.create_index(
        "ux_workflow_turn_trigger_id", "workflow_turn", ["workflow_id", "trigger_id"], unique=True
    )
    op.create_index(
        "ux_workflow_turn_under_way",
        "workflow_turn",
        ["workflow_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('compensating', 'running')"),
        sqlite_where=sa.text("status IN ('compensating', 'running')"),
    )


def _create_workflow_task() -> None:
    op.create_table(
        "workflow_task",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("turn_id", sa.String(length=32), nullable=False),
        sa.Column("workflow_id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("capability", sa.String(length=63), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("importance", sa.Float(), nullable=False),
        sa.Column("compensation", sa.String(length=16), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=255), nullable=True),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", _MOMENT, nullable=True),
        sa.Column("due_at", _MOMENT, nullable=False),
        sa.Column("deadline_at", _MOMENT, nullable=True),
        sa.Column("moment", _MOMENT, nullable=True),
        sa.Column("run_id", sa.String(length=255), nullable=True),
        sa.Column("batch_id", sa.String(length=127), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("result", _JSON, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("ready_at", _MOMENT, nullable=True),
        sa.Column("assigned_at", _MOMENT, nullable=True),
        sa.Column("started_at", _MOMENT, nullable=True),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "kind IN ('event_driven', 'on_demand', 'recovery', 'scheduled')",
            name=op.f("ck_workflow_task_kind"),
        ),
        sa.CheckConstraint(
            "status IN ('assigned', 'cancelled', 'compensated', 'compensating', 'completed',"
            " 'failed', 'not_compensated', 'pending', 'ready', 'running', 'skipped', 'stopping')",
            name=op.f("ck_workflow_task_status"),
        ),
        sa.CheckConstraint(
            "step IN ('collect', 'publish', 'transform')",
            name=op.f("ck_workflow_task_step"),
        ),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["workflow_turn.turn_id"], name=op.f("fk_workflow_task_turn_id")
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_workflow_task")),
    )


def _index_workflow_task() -> None:
    op.create_index("ix_workflow_task_batch_id", "workflow_task", ["batch_id"])
    op.create_index(
        "ix_workflow_task_held",
        "workflow_task",
        ["worker_id", "lease_expires_at"],
        postgresql_where=sa.text("status IN ('assigned', 'running', 'stopping')"),
        sqlite_where=sa.text("status IN ('assigned', 'running', 'stopping')"),
    )
    op.create_index(
        "ix_workflow_task_ready",
        "workflow_task",
        ["capability", "due_at"],
        postgresql_where=sa.text("status = 'ready'"),
        sqlite_where=sa.text("status = 'ready'"),
    )
    op.create_index("ix_workflow_task_source_id", "workflow_task", ["source_id", "workflow_id"])
    op.create_index("ix_workflow_task_workflow_id", "workflow_task", ["workflow_id", "status"])
    op.create_index(
        "ux_workflow_task_step", "workflow_task", ["turn_id", "source_id", "step"], unique=True
    )


def _create_worker() -> None:
    op.create_table(
        "worker",
        sa.Column("worker_id", sa.String(length=255), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("capabilities", _JSON, nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("registered_at", _MOMENT, nullable=False),
        sa.Column("heartbeat_at", _MOMENT, nullable=False),
        sa.Column("gone_at", _MOMENT, nullable=True),
        sa.CheckConstraint("kind IN ('dagster', 'outside')", name=op.f("ck_worker_kind")),
        sa.CheckConstraint(
            "status IN ('active', 'draining', 'gone')", name=op.f("ck_worker_status")
        ),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_worker")),
    )
    op.create_index("ix_worker_status", "worker", ["status", "heartbeat_at"])


def _create_work_breaker() -> None:
    op.create_table(
        "work_breaker",
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("scope_id", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("window_started_at", _MOMENT, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", _MOMENT, nullable=True),
        sa.Column("open_until", _MOMENT, nullable=True),
        sa.Column("times_opened", sa.Integer(), nullable=False),
        sa.Column("doubted_until", _MOMENT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.CheckConstraint("scope IN ('source', 'worker')", name=op.f("ck_work_breaker_scope")),
        sa.CheckConstraint(
            "status IN ('closed', 'half_open', 'open')",
            name=op.f("ck_work_breaker_status"),
        ),
        sa.PrimaryKeyConstraint("scope", "scope_id", name=op.f("pk_work_breaker")),
    )
