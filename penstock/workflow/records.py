"""A workflow, its turns and its tasks, as the control database holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from penstock.events.envelope import OutboxCursor
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.workflow.spec import Compensation, WorkflowSpec
from penstock.workflow.status import (
    IN_HAND,
    OPEN,
    Step,
    TaskStatus,
    TurnStatus,
    WorkflowKind,
    WorkflowStatus,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """What went wrong."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """What begins a turn."""

    trigger_id: str
    """Unique within its workflow: a turn is begun once by each."""
    at: datetime
    event_type: str | None = None
    """None where it is not an event: a schedule, or a person."""
    subject: str | None = None
    source_id: str | None = None
    """The source that the turn is for alone, if it is."""
    trace_parent: str | None = None
    """W3C trace context that the turn and all that follows from it belong to, if that is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workflow:
    """What was asked for, and how it stands."""

    workflow_id: str
    """32 hex digits."""
    tenant_id: TenantId
    spec: WorkflowSpec
    status: WorkflowStatus
    idempotency_key: str | None = None
    body_digest: str
    """32 hex digits, of the spec."""
    created_at: datetime
    created_by: str
    updated_at: datetime
    ended_at: datetime | None = None
    cancelled_by: str | None = None
    turns: int = 0
    """How many were begun."""
    next_due_at: datetime | None = None
    """Of a scheduled one: when its next turn begins."""
    queued_triggers: tuple[Trigger, ...] = ()
    """What fired while it could not begin a turn, oldest first."""
    dropped_triggers: int = 0
    heard_to: OutboxCursor | None = None
    """Of one that waits for what Penstock tells: what is told up to there begins nothing of it (any more)."""
    trouble: Trouble | None = None
    """Why it is failed, or its last turn failed."""

    @property
    def kind(self) -> WorkflowKind:
        """What begins its turns."""
        return self.spec.kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One time through a workflow."""

    turn_id: str
    """32 hex digits."""
    workflow_id: str
    number: int
    """1 is the first."""
    status: TurnStatus
    trigger: Trigger
    begun_at: datetime
    deadline_at: datetime | None = None
    ended_at: datetime | None = None
    trouble: Trouble | None = None

    @property
    def trace_parent(self) -> str | None:
        """The trace that it belongs to, if that is known."""
        return self.trigger.trace_parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One step of one turn for one source."""

    task_id: str
    """32 hex digits."""
    turn_id: str
    workflow_id: str
    tenant_id: TenantId
    source_id: SourceId
    step: Step
    position: int
    """Among its source's; 0 is the first."""
    kind: WorkflowKind
    capability: str
    priority: float
    """The workflow's."""
    importance: float
    """The source's."""
    compensation: Compensation | None = None
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 0
    """How often it was claimed, or begun; it never falls."""
    failures: int = 0
    """Since it was last asked for by a person."""
    worker_id: str | None = None
    fencing_token: int = 0
    """Of the last claim; it never falls."""
    lease_expires_at: datetime | None = None
    due_at: datetime
    """Not claimed before."""
    deadline_at: datetime | None = None
    moment: datetime | None = None
    """Source timestamp of what is collected; the same for all steps of its source."""
    trace_parent: str | None = None
    """The turn's: who does it goes on below it."""
    run_id: str | None = None
    """The Dagster run that has it, or had it last."""
    batch_id: BatchId | None = None
    trouble: Trouble | None = None
    """Why it is failed, or why it was put off."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What its worker reported: counts, never rows."""
    created_at: datetime
    ready_at: datetime | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it keeps its turn going."""
        return self.status in OPEN

    @property
    def is_in_hand(self) -> bool:
        """Whether somebody has it: a worker, or, to publish, the queue."""
        return self.status in IN_HAND
