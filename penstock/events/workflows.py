"""Events of workflows: workflows and their tasks, workers, incidents."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime

from penstock.events.facts import Count, Direction, EventData, Message, Name, Slug

WorkflowKind = Literal["scheduled", "event_driven", "on_demand", "recovery"]


class _OfWorkflow(EventData):
    SUBJECT: ClassVar[str] = "workflow_id"
    workflow_id: Name
    kind: WorkflowKind


class WorkflowCreated(_OfWorkflow):
    """Somebody asked for a workflow."""

    TYPE: ClassVar[str] = "workflow_created"
    source_ids: tuple[Slug, ...]
    priority: float
    created_by: Name


class WorkflowStarted(_OfWorkflow):
    """A turn of a workflow began."""

    TYPE: ClassVar[str] = "workflow_started"
    turn: Count
    source_ids: tuple[Slug, ...]


class WorkflowPaused(_OfWorkflow):
    """Somebody paused a workflow: what runs ends, and nothing new begins."""

    TYPE: ClassVar[str] = "workflow_paused"
    by: Name
    reason: Message | None = None


class WorkflowResumed(_OfWorkflow):
    """Somebody resumed a workflow."""

    TYPE: ClassVar[str] = "workflow_resumed"
    by: Name
    reason: Message | None = None


class WorkflowCompleted(_OfWorkflow):
    """A turn of a workflow ended well."""

    TYPE: ClassVar[str] = "workflow_completed"
    turn: Count
    tasks: Count


class WorkflowFailed(_OfWorkflow):
    """A turn of a workflow ended with tasks that failed."""

    TYPE: ClassVar[str] = "workflow_failed"
    turn: Count
    tasks: Count
    failed_tasks: Count
    error_code: Name
    message: Message


class WorkflowCancelled(_OfWorkflow):
    """Somebody cancelled a workflow."""

    TYPE: ClassVar[str] = "workflow_cancelled"
    by: Name
    reason: Message | None = None


class _OfTask(EventData):
    SUBJECT: ClassVar[str] = "workflow_id"
    workflow_id: Name
    turn: Count
    task_id: Name
    step: Name
    """``collect``, ``transform``, ``publish``, or what takes one of them back."""
    source_id: Slug
    attempt: Count


class TaskAssigned(_OfTask):
    """A task was given to a worker, under a lease."""

    TYPE: ClassVar[str] = "task_assigned"
    worker_id: Name
    lease_expires_at: AwareDatetime


class TaskCompleted(_OfTask):
    """A task ended well."""

    TYPE: ClassVar[str] = "task_completed"
    worker_id: Name | None = None
    batch_id: Name | None = None
    """The batch that came of it, where one did."""


class TaskFailed(_OfTask):
    """A task failed: for now, if ``retry_at`` says when it is tried again, and otherwise for good."""

    TYPE: ClassVar[str] = "task_failed"
    worker_id: Name | None = None
    error_code: Name
    message: Message
    retry_at: AwareDatetime | None = None


class WorkerStatusChanged(EventData):
    """A worker registered, drains, is gone, or is back."""

    TYPE: ClassVar[str] = "worker_status_changed"
    DIRECTION: ClassVar[Direction] = Direction.BOTH
    SUBJECT: ClassVar[str] = "worker_id"
    worker_id: Name
    status: Literal["active", "draining", "gone"]
    before: Literal["active", "draining", "gone"] | None = None
    """Its status before; None for one that is new, or where whoever tells does not know."""
    reason: Message | None = None


class DestinationDisabled(EventData):
    """A destination was given up: events are kept for it until it is enabled, but not for ever."""

    TYPE: ClassVar[str] = "destination_disabled"
    SUBJECT: ClassVar[str] = "destination_id"
    destination_id: Slug
    why: Message
    by: Name


class _OfIncident(EventData):
    SUBJECT: ClassVar[str] = "incident_id"
    incident_id: Name
    source_id: Slug | None = None
    severity: Literal["info", "warning", "critical"]
    title: Message


class IncidentOpened(_OfIncident):
    """Something is wrong that those who rely on a source should know of."""

    TYPE: ClassVar[str] = "incident_opened"
    opened_at: AwareDatetime


class IncidentResolved(_OfIncident):
    """An incident is over."""

    TYPE: ClassVar[str] = "incident_resolved"
    opened_at: AwareDatetime
    resolved_at: AwareDatetime
