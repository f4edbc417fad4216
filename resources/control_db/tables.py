"""The control database's tables. Column names are the design's words; every moment is aware UTC.

Other adapters that keep tables in the control database declare them on :data:`metadata` and bring a migration of
their own in ``migrations/versions``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeEngine

from penstock.errors import PenstockError
from penstock.publish.state import IN_HAND, WAITING, PublishStatus

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class NaiveTimestamp(PenstockError, DontWrapMixin):
    """A datetime without a zone was given for a moment."""

    code = "naive_timestamp"


class UtcTimestamp(TypeDecorator[datetime]):
    """A moment: aware in Python, always UTC; ``timestamptz`` on PostgreSQL, sortable text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive datetime: nobody can say which moment it is."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise NaiveTimestamp(f"timestamp {value!r} has no time zone: pass an aware datetime")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return the moment as aware UTC, whatever zone the session is in."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if dialect.name == "sqlite" else moment.astimezone(UTC)


def json_type() -> TypeEngine[Any]:
    """JSON as each database keeps it best."""
    return JSON().with_variant(JSONB(), "postgresql")


def _in(column: str, values: list[str]) -> str:
    listed = ", ".join(f"'{value}'" for value in sorted(values))
    return f"{column} IN ({listed})"


IN_QUEUE = _in("status", [str(s) for s in WAITING | IN_HAND])
"""SQL of the rows that a claim looks at; literal, so that both databases match it with the partial index."""
FAILED_DELTA = "status = 'FAILED' AND mode = 'delta' AND error_code <> 'cancelled'"
"""SQL of the rows that can block a lane."""
HELD = "held > 0"
"""SQL of the rows of which a guard holds something."""

source = Table(
    "source",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("tenant_id", String(63), nullable=False),
    Column("importance", Float, nullable=False),
    Column("complexity", Float, nullable=False),
    Column("cadence_s", BigInteger),
    Column("sla_s", BigInteger),
    Column("targets", json_type(), nullable=False),
    Column("description", Text, nullable=False),
    Column("declared", Boolean, nullable=False),
    Column("guard_policy", json_type()),  # limits of its own; null for the platform's
    Column(
        "ownership", json_type()
    ),  # who owns which field in the target; null for the source, all
)

batch = Table(
    "batch",
    metadata,
    Column("batch_id", String(127), primary_key=True),
    Column("source_id", String(63), nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("source_timestamp", UtcTimestamp, nullable=False),
    Column("mode", String(16), nullable=False),
    Column("s3_path", Text, nullable=False),
    Column("admitted_at", UtcTimestamp, nullable=False),
    Column("manifest", Text, nullable=False),  # as JSON text: read whole, never searched
    Column("rows", BigInteger),  # of both kinds; null of what was admitted before it was counted
    CheckConstraint(_in("mode", ["full", "delta"]), name="mode"),
    Index("ix_batch_source_timestamp", "source_timestamp", "batch_id"),
    Index("ix_batch_source_id_source_timestamp", "source_id", "source_timestamp"),
)

lane = Table(
    "lane",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("fencing_token", BigInteger, nullable=False),
    Column("worker_id", String(255)),
    Column("batch_id", String(127)),  # what the lease is for; null when the lane is free
    Column("started_batch_id", String(127)),  # half executed: it goes before any other
    Column("lease_expires_at", UtcTimestamp),
    Column("called_at", UtcTimestamp),  # claimed, or its target called, and no answer since
    Column("answered_at", UtcTimestamp),  # when its target last answered in this lane
)

_counts = ("created", "updated", "deleted")

publish_state = Table(
    "publish_state",
    metadata,
    Column("batch_id", String(127), ForeignKey("batch.batch_id"), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("source_id", String(63), nullable=False),
    Column("tenant_id", String(63), nullable=False),
    Column("mode", String(16), nullable=False),  # of the batch; kept here for the queue's indexes
    Column("workflow_run_id", String(255)),
    Column("s3_path", Text, nullable=False),
    Column("source_timestamp", UtcTimestamp, nullable=False),
    Column("processing_timestamp", UtcTimestamp, nullable=False),
    Column("publish_start_timestamp", UtcTimestamp),
    Column("publish_end_timestamp", UtcTimestamp),
    Column("status", String(16), nullable=False),
    *(Column(f"entities_{n}", BigInteger, nullable=False, server_default="0") for n in _counts),
    *(
        Column(f"relationships_{n}", BigInteger, nullable=False, server_default="0")
        for n in _counts
    ),
    Column("execution_time_ms", BigInteger, nullable=False, server_default="0"),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("failed_operation", Text),
    Column("stack_trace", Text),
    Column("retry_count", Integer),
    Column("state_snapshot_path", Text),
    Column("execution_plan_path", Text),
    Column("plan_digest", String(32)),
    Column("base_plan_digest", String(32)),
    Column("exceptions", BigInteger, nullable=False, server_default="0"),
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("blocked", BigInteger, nullable=False, server_default="0"),
    Column("rejected", BigInteger, nullable=False, server_default="0"),
    Column("enqueued_at", UtcTimestamp, nullable=False),
    Column("retry_due_at", UtcTimestamp),
    Column("priority_boost", Float, nullable=False, server_default="0"),
    Column("intent", String(16), nullable=False, server_default="publish"),
    Column("trace_parent", String(55)),  # W3C trace context that the batch came with
    CheckConstraint(_in("status", [str(s) for s in PublishStatus]), name="status"),
    CheckConstraint(_in("mode", ["full", "delta"]), name="mode"),
    CheckConstraint("(error_code IS NULL) = (error_message IS NULL)", name="failure_details"),
    Index(
        "ix_publish_state_in_queue",
        "source_id",
        "target_id",
        "source_timestamp",
        postgresql_where=text(IN_QUEUE),
        sqlite_where=text(IN_QUEUE),
    ),
    Index(
        "ix_publish_state_failed_delta",
        "source_id",
        "target_id",
        "source_timestamp",
        postgresql_where=text(FAILED_DELTA),
        sqlite_where=text(FAILED_DELTA),
    ),
    Index("ix_publish_state_source_timestamp", "source_timestamp", "batch_id", "target_id"),
    Index("ix_publish_state_source_id_source_timestamp", "source_id", "source_timestamp"),
    Index("ix_publish_state_status_source_timestamp", "status", "source_timestamp"),
    Index("ix_publish_state_publish_end_timestamp", "publish_end_timestamp"),
    Index(
        "ix_publish_state_held",
        "status",
        "source_timestamp",
        postgresql_where=text(HELD),
        sqlite_where=text(HELD),
    ),
)


def _of_publish_state() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["batch_id", "target_id"], ["publish_state.batch_id", "publish_state.target_id"]
    )


publish_ledger = Table(
    "publish_ledger",
    metadata,
    Column("batch_id", String(127), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("type_name", String(127), primary_key=True),
    Column("extracted", BigInteger, nullable=False),
    Column("filtered", BigInteger, nullable=False),
    Column("inferred_deletes", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("unchanged", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("blocked", BigInteger, nullable=False),
    Column("dead_lettered", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False, server_default="0"),
    Column("superseded", BigInteger, nullable=False, server_default="0"),
    _of_publish_state(),
)

execution_chunk = Table(
    "execution_chunk",
    metadata,
    Column("batch_id", String(127), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("plan_digest", String(32), primary_key=True),
    Column("chunk", Integer, primary_key=True),
    Column("operations", BigInteger, nullable=False),
    Column("applied", BigInteger, nullable=False),
    Column("already_applied", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("started_at", UtcTimestamp, nullable=False),
    Column("finished_at", UtcTimestamp),
    _of_publish_state(),
)

operation_exception = Table(
    "operation_exception",
    metadata,
    Column("batch_id", String(127), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("plan_digest", String(32), primary_key=True),
    Column("operation_id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("type_name", String(127), nullable=False),
    Column("key", Text, nullable=False),
    Column("to_key", Text),
    Column("action", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("guard", String(63)),  # of what is held
    Column("blocked_by", String(32)),  # operation id of the culprit
    # Plan digest or batch id of what made up for it, or "superseded".
    Column("settled_by", String(127)),
    Column("recorded_at", UtcTimestamp, nullable=False),
    _of_publish_state(),
)

plan_execution = Table(
    "plan_execution",
    metadata,
    Column("plan_digest", String(32), primary_key=True),
    Column("batch_id", String(127), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("source_id", String(63), nullable=False),
    Column("intent", String(16), nullable=False),
    Column("plan_path", Text, nullable=False),
    Column("snapshot_before", BigInteger, nullable=False),
    Column("snapshot_after", BigInteger),
    Column("operations", BigInteger, nullable=False),
    Column("applied", BigInteger, nullable=False),
    Column("already_applied", BigInteger, nullable=False),
    Column("exceptions", BigInteger, nullable=False),
    Column("started_at", UtcTimestamp, nullable=False),
    Column("finished_at", UtcTimestamp),  # null while it is under way, or was left half executed
    _of_publish_state(),
    Index("ix_plan_execution_lane", "source_id", "target_id", "finished_at"),
)

publish_attempt = Table(
    "publish_attempt",
    metadata,
    Column("batch_id", String(127), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("attempt", Integer, primary_key=True),  # 1 is the first
    Column("tier", Integer, nullable=False),
    Column("worker_id", String(255), nullable=False),
    Column("enqueued_at", UtcTimestamp, nullable=False),  # a requeue starts the history anew
    Column("started_at", UtcTimestamp, nullable=False),
    Column("failed_at", UtcTimestamp, nullable=False),
    Column("step", String(32), nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("retry_at", UtcTimestamp),  # null where it was given up
    Column("retry_tier", Integer),
    _of_publish_state(),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("dead_letter_id", String(32), primary_key=True),
    Column("subject", Text, nullable=False),
    Column("where", Text, nullable=False),
    Column("source_id", Text),  # what a broken object's key claims to be, so not always a slug
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("details", json_type(), nullable=False),
    Column("recorded_at", UtcTimestamp, nullable=False),
    Column("status", String(16), nullable=False, server_default="open"),
    Column("fingerprint", String(32), nullable=False, server_default="unknown"),
    Column("batch_id", String(127)),
    Column("target_id", String(63)),
    Column("plan_digest", String(32)),
    Column("operation_id", String(32)),  # null for a batch
    Column("kind", String(16)),
    Column("type_name", String(127)),
    Column("key", Text),
    Column("to_key", Text),
    Column("action", String(16)),
    Column("data", Text),  # the attributes as planned; null for deletes and where data_path says
    Column("data_path", Text),  # object key of the original
    Column("correction_batch_id", String(127)),  # the batch that it was requeued in
    Column("updated_at", UtcTimestamp),
    Column("alerted_at", UtcTimestamp),
    Index("ix_dead_letter_subject", "subject"),
    Index("ix_dead_letter_recorded_at", "recorded_at"),
    Index("ix_dead_letter_status_recorded_at", "status", "recorded_at"),
    Index("ix_dead_letter_source_id_recorded_at", "source_id", "recorded_at"),
    Index("ix_dead_letter_fingerprint", "fingerprint", "status"),
    Index("ix_dead_letter_lane", "source_id", "target_id", "status"),
    Index("ix_dead_letter_batch_id", "batch_id", "target_id"),
    Index("ix_dead_letter_correction_batch_id", "correction_batch_id"),
)

dead_letter_event = Table(
    "dead_letter_event",
    metadata,
    Column(
        "dead_letter_id", String(32), ForeignKey("dead_letter.dead_letter_id"), primary_key=True
    ),
    Column("number", Integer, primary_key=True),  # 1 is the first
    Column("at", UtcTimestamp, nullable=False),
    Column("event", String(32), nullable=False),  # recorded, failed_again, requeued, resolved, ...
    Column("actor", String(255)),
    Column("code", Text),
    Column("message", Text),
    Column("batch_id", String(127)),
)

approval = Table(
    "approval",
    metadata,
    Column("approval_id", String(32), primary_key=True),
    Column("batch_id", String(127), nullable=False),
    Column("target_id", String(63), nullable=False),
    Column("source_id", String(63), nullable=False),
    Column("plan_digest", String(32), nullable=False),
    Column("decision", String(16), nullable=False),  # approve, reject
    Column("approver", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", UtcTimestamp, nullable=False),
    Column("expires_at", UtcTimestamp),
    Column("status", String(16), nullable=False),  # active, used, void, expired, rejected
    Column("settled_at", UtcTimestamp),
    Column("settled_why", Text),
    _of_publish_state(),
    Index("ix_approval_batch_id", "batch_id", "target_id"),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column(
        "entry_id",
        BigInteger().with_variant(Integer(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("at", UtcTimestamp, nullable=False),
    Column("actor", String(255), nullable=False),
    Column(
        "act", String(63), nullable=False
    ),  # hold.approve, dead_letter.discard, source.pause, ...
    Column(
        "subject", Text, nullable=False
    ),  # what it was done to: a batch id, a dead letter's id, ...
    Column("source_id", String(63)),
    Column("reason", Text),
    Column("details", json_type(), nullable=False),
    Index("ix_audit_entry_subject", "subject"),
    Index("ix_audit_entry_at", "at"),
)

pause = Table(
    "pause",
    metadata,
    Column("scope", String(16), primary_key=True),  # source, target
    Column("scope_id", String(63), primary_key=True),
    Column("paused_at", UtcTimestamp, nullable=False),
    Column("paused_by", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint(_in("scope", ["source", "target"]), name="scope"),
)

drift_cursor = Table(
    "drift_cursor",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("type_name", String(127), primary_key=True),
    Column("position", String(32), nullable=False),  # index key, as hex: where the next look begins
    Column("checked", BigInteger, nullable=False),  # in this turn
    Column("turn_started_at", UtcTimestamp, nullable=False),
    Column("turn_finished_at", UtcTimestamp),  # of the last whole turn
    Column("updated_at", UtcTimestamp, nullable=False),
)

drift = Table(
    "drift",
    metadata,
    Column("drift_id", String(32), primary_key=True),
    Column("source_id", String(63), nullable=False),
    Column("target_id", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("type_name", String(127), nullable=False),
    Column("key", Text, nullable=False),
    Column("to_key", Text),
    Column("finding", String(16), nullable=False),  # missing, differs, extra
    Column("expected_digest", String(32)),
    Column("found_digest", String(32)),
    Column(
        "fields", json_type(), nullable=False
    ),  # per field: owner, expected, found, what follows
    Column("status", String(16), nullable=False),  # open, repaired, left, gone
    Column("found_at", UtcTimestamp, nullable=False),
    Column("settled_at", UtcTimestamp),
    Column("plan_digest", String(32)),  # of the repair
    Index("ix_drift_lane", "source_id", "target_id", "status"),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("source_id", String(63), primary_key=True),
    Column("target_id", String(63), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("batch_id", String(127), nullable=False),
    Column("source_timestamp", UtcTimestamp, nullable=False),
)
