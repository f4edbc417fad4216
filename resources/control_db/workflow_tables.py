"""The tables of workflows: what was asked for, each turn of it, its tasks, and the workers that take them.

Whoever changes a task, or lets a worker have one, locks its workflow's row first (FOR SHARE is enough to claim) and
the task's after it, so that no two wait for each other and nothing is claimed of a workflow that is being paused.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
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

from penstock.workflow.status import (
    IN_HAND,
    Step,
    TaskStatus,
    TurnStatus,
    WorkflowKind,
    WorkflowStatus,
)
from resources.control_db.breaker_tables import breaker_columns
from resources.control_db.tables import UtcTimestamp, json_type, metadata


def _in(column: str, values: list[str]) -> str:
    listed = ", ".join(f"'{value}'" for value in sorted(values))
    return f"{column} IN ({listed})"


READY = f"status = '{TaskStatus.READY}'"
"""SQL of the tasks that a claim looks at; literal, so that both databases match it with the partial index."""
HELD = _in("status", [str(status) for status in IN_HAND])
"""SQL of the tasks that somebody has."""
UNDER_WAY = _in("status", [str(TurnStatus.RUNNING), str(TurnStatus.COMPENSATING)])
"""SQL of the turns that have not ended: a workflow has one at most."""

workflow = Table(
    "workflow",
    metadata,
    Column("workflow_id", String(32), primary_key=True),
    Column("tenant_id", String(63), nullable=False),
    Column("name", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("priority", Float, nullable=False),
    Column("spec", json_type(), nullable=False),  # a penstock.workflow.spec.WorkflowSpec
    Column("idempotency_key", String(255)),
    Column(
        "body_digest", String(32), nullable=False
    ),  # of the spec: the same key asks for the same
    Column("created_at", UtcTimestamp, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    Column("ended_at", UtcTimestamp),
    Column("cancelled_by", String(255)),
    Column("turns", Integer, nullable=False),  # how many were begun
    Column("next_due_at", UtcTimestamp),  # of a scheduled one: when its next turn begins
    Column("queued_triggers", json_type(), nullable=False),  # what fired meanwhile, oldest first
    Column("queued_count", Integer, nullable=False),
    Column("dropped_triggers", BigInteger, nullable=False),
    Column("heard_transaction", BigInteger),  # of one that waits for what is told: its place in the
    Column("heard_position", BigInteger),  # outbox, up to which that begins nothing (any more)
    Column("error_code", Text),
    Column("error_message", Text),
    CheckConstraint(_in("kind", [str(kind) for kind in WorkflowKind]), name="kind"),
    CheckConstraint(_in("status", [str(status) for status in WorkflowStatus]), name="status"),
    Index("ux_workflow_idempotency_key", "tenant_id", "idempotency_key", unique=True),
    Index("ix_workflow_created_at", "created_at", "workflow_id"),
    Index("ix_workflow_status", "status", "next_due_at"),
)

workflow_turn = Table(
    "workflow_turn",
    metadata,
    Column("turn_id", String(32), primary_key=True),
    Column("workflow_id", String(32), ForeignKey("workflow.workflow_id"), nullable=False),
    Column("number", Integer, nullable=False),  # 1 is the first
    Column("status", String(16), nullable=False),
    Column("trigger_id", String(255), nullable=False),  # what fired it: once each
    Column("trigger", json_type(), nullable=False),
    Column("begun_at", UtcTimestamp, nullable=False),
    Column("deadline_at", UtcTimestamp),
    Column("ended_at", UtcTimestamp),
    Column("error_code", Text),
    Column("error_message", Text),
    CheckConstraint(_in("status", [str(status) for status in TurnStatus]), name="status"),
    Index("ux_workflow_turn_number", "workflow_id", "number", unique=True),
    Index("ux_workflow_turn_trigger_id", "workflow_id", "trigger_id", unique=True),
    Index(
        "ux_workflow_turn_under_way",
        "workflow_id",
        unique=True,
        postgresql_where=text(UNDER_WAY),
        sqlite_where=text(UNDER_WAY),
    ),
)

workflow_task = Table(
    "workflow_task",
    metadata,
    Column("task_id", String(32), primary_key=True),
    Column("turn_id", String(32), ForeignKey("workflow_turn.turn_id"), nullable=False),
    Column("workflow_id", String(32), nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("source_id", String(63), nullable=False),
    Column("step", String(16), nullable=False),
    Column("position", Integer, nullable=False),  # of the step among its source's; 0 is the first
    Column("kind", String(16), nullable=False),  # of the workflow
    Column("capability", String(63), nullable=False),  # what a worker has to be able to do
    Column("priority", Float, nullable=False),  # of the workflow
    Column("importance", Float, nullable=False),  # of the source
    Column("compensation", String(16)),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),  # how often it was claimed or begun; it never falls
    Column("failures", Integer, nullable=False),  # since it was last asked for by a person
    Column("worker_id", String(255)),
    Column("fencing_token", BigInteger, nullable=False),  # of the last claim; it never falls
    Column("lease_expires_at", UtcTimestamp),
    Column("due_at", UtcTimestamp, nullable=False),  # not claimed before
    Column("deadline_at", UtcTimestamp),  # of the turn
    Column("moment", UtcTimestamp),  # source timestamp of what is collected
    Column("trace_parent", String(55)),  # of the turn: W3C trace context
    Column("run_id", String(255)),  # the Dagster run that has it, or had it last
    Column("batch_id", String(127)),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("result", json_type(), nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("ready_at", UtcTimestamp),
    Column("assigned_at", UtcTimestamp),
    Column("started_at", UtcTimestamp),
    Column("ended_at", UtcTimestamp),
    CheckConstraint(_in("step", [str(step) for step in Step]), name="step"),
    CheckConstraint(_in("kind", [str(kind) for kind in WorkflowKind]), name="kind"),
    CheckConstraint(_in("status", [str(status) for status in TaskStatus]), name="status"),
    Index("ux_workflow_task_step", "turn_id", "source_id", "step", unique=True),
    Index("ix_workflow_task_workflow_id", "workflow_id", "status"),
    Index("ix_workflow_task_source_id", "source_id", "workflow_id"),
    Index("ix_workflow_task_batch_id", "batch_id"),
    Index("ix_workflow_task_moment", "source_id", "moment"),
    Index(
        "ix_workflow_task_ready",
        "capability",
        "due_at",
        postgresql_where=text(READY),
        sqlite_where=text(READY),
    ),
    Index(
        "ix_workflow_task_held",
        "worker_id",
        "lease_expires_at",
        postgresql_where=text(HELD),
        sqlite_where=text(HELD),
    ),
)
"""Only tasks of a workflow that is ``running`` are claimed; ``publish`` has no worker and is never claimed."""

worker = Table(
    "worker",
    metadata,
    Column("worker_id", String(255), primary_key=True),
    Column("tenant_id", String(63), nullable=False),  # "*" works for every tenant
    Column("kind", String(16), nullable=False),
    Column("capabilities", json_type(), nullable=False),  # a list of texts
    Column("capacity", Integer, nullable=False),  # tasks at once
    Column("status", String(16), nullable=False),
    Column("details", json_type(), nullable=False),  # what it says of itself: host, version, ...
    Column("registered_at", UtcTimestamp, nullable=False),
    Column("heartbeat_at", UtcTimestamp, nullable=False),
    Column("gone_at", UtcTimestamp),
    CheckConstraint(_in("kind", ["dagster", "outside"]), name="kind"),
    CheckConstraint(_in("status", ["active", "draining", "gone"]), name="status"),
    Index("ix_worker_status", "status", "heartbeat_at"),
)

work_breaker = Table(
    "work_breaker",
    metadata,
    Column("scope", String(16), primary_key=True),  # worker, source
    Column("scope_id", String(255), primary_key=True),
    *breaker_columns(),
    CheckConstraint(_in("scope", ["worker", "source"]), name="scope"),
)
"""Circuit breakers of workers and of sources: a row for each whose task ever failed."""
