"""What is told of workflows: an event for every fact, about the workflow, so that they are told in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from penstock.events.envelope import NewEvent
from penstock.identity.ids import SourceId
from penstock.workflow.records import Task, Trouble, Turn, Workflow
from penstock.workflow.status import TaskStatus

LONGEST_MESSAGE = 500
"""Characters of an error that an event carries."""


def _event(
    workflow: Workflow, event_type: str, now: datetime, *, of: Turn | None = None, **data: Any
) -> NewEvent:
    return _told(workflow, event_type, now, of=of, kind=str(workflow.kind), **data)


def _told(
    workflow: Workflow, event_type: str, now: datetime, *, of: Turn | None, **data: Any
) -> NewEvent:
    """Return an event, within the trace of the turn that it is of."""
    return NewEvent(
        type=event_type,
        subject=workflow.workflow_id,
        tenant_id=workflow.tenant_id,
        time=now,
        data={"workflow_id": workflow.workflow_id, **data},
        trace_parent=None if of is None else of.trace_parent,
    )


def created(workflow: Workflow, sources: Sequence[SourceId], now: datetime) -> NewEvent:
    """Somebody asked for a workflow."""
    return _event(
        workflow,
        "workflow_created",
        now,
        source_ids=list(sources),
        priority=workflow.spec.priority,
        created_by=workflow.created_by,
    )


def started(workflow: Workflow, turn: Turn, sources: Sequence[SourceId], now: datetime) -> NewEvent:
    """A turn began."""
    return _event(
        workflow, "workflow_started", now, of=turn, turn=turn.number, source_ids=list(sources)
    )


def paused(workflow: Workflow, now: datetime, *, by: str, reason: str | None) -> NewEvent:
    """Somebody paused it."""
    return _event(workflow, "workflow_paused", now, by=by, reason=_short(reason))


def resumed(workflow: Workflow, now: datetime, *, by: str, reason: str | None) -> NewEvent:
    """Somebody resumed it."""
    return _event(workflow, "workflow_resumed", now, by=by, reason=_short(reason))


def completed(
    workflow: Workflow, turn: Turn, counts: Mapping[TaskStatus, int], now: datetime
) -> NewEvent:
    """A turn ended well."""
    return _event(
        workflow,
        "workflow_completed",
        now,
        of=turn,
        turn=turn.number,
        tasks=sum(counts.values()),
    )


def failed(
    workflow: Workflow,
    turn: Turn,
    counts: Mapping[TaskStatus, int],
    trouble: Trouble,
    now: datetime,
) -> NewEvent:
    """A turn ended with tasks that failed, or after its deadline."""
    return _event(
        workflow,
        "workflow_failed",
        now,
        of=turn,
        turn=turn.number,
        tasks=sum(counts.values()),
        failed_tasks=counts.get(TaskStatus.FAILED, 0),
        error_code=trouble.code,
        message=_short(trouble.message),
    )


def cancelled(workflow: Workflow, now: datetime) -> NewEvent:
    """It is cancelled: nothing of it runs any more, and compensations have run."""
    reason = workflow.trouble.message if workflow.trouble else None
    return _event(
        workflow, "workflow_cancelled", now, by=workflow.cancelled_by, reason=_short(reason)
    )


def task_completed(workflow: Workflow, turn: Turn, task: Task, now: datetime) -> NewEvent:
    """A task ended well."""
    return _of_task(workflow, turn, task, "task_completed", now, batch_id=task.batch_id)


def task_failed(
    workflow: Workflow,
    turn: Turn,
    task: Task,
    trouble: Trouble,
    retry_at: datetime | None,
    now: datetime,
) -> NewEvent:
    """A task failed: for now, if it is tried again, and otherwise for good."""
    return _of_task(
        workflow,
        turn,
        task,
        "task_failed",
        now,
        error_code=trouble.code,
        message=_short(trouble.message),
        retry_at=None if retry_at is None else retry_at.isoformat(),
    )


def _of_task(
    workflow: Workflow, turn: Turn, task: Task, event_type: str, now: datetime, **data: Any
) -> NewEvent:
    return _told(
        workflow,
        event_type,
        now,
        of=turn,
        turn=turn.number,
        task_id=task.task_id,
        step=str(task.step),
        source_id=task.source_id,
        attempt=task.attempt,
        worker_id=task.worker_id,
        **data,
    )


def _short(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST_MESSAGE]
