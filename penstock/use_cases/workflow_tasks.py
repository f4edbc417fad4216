"""What workers report of the tasks that they have: begun, done, failed. Each checks the fencing token of the claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.identity.ids import BatchId
from penstock.ports.work import Outcome
from penstock.use_cases.coordination import Coordination
from penstock.workflow import tasks
from penstock.workflow.change import Change
from penstock.workflow.records import Task, Trouble
from penstock.workflow.tasks import Report


def start_task(co: Coordination, report: Report) -> Task:
    """Say that a worker has begun what it was given. Raises ``LeaseLost`` if it is not in its hands (any more)."""
    now = co.now()
    change = co.workflows.change_task(
        report.task_id, lambda case: tasks.task_started(case, report, now=now)
    )
    return _after(co, report, change)


def extend_lease(co: Coordination, report: Report, *, lease_s: float) -> None:
    """Extend the lease of a task that is on its way to whoever begins it; raises ``LeaseLost``."""
    now = co.now()
    co.workflows.change_task(
        report.task_id,
        lambda case: tasks.lease_extended(case, report, now=now, lease_s=lease_s),
    )


def complete_task(
    co: Coordination,
    report: Report,
    *,
    batch_id: BatchId | None = None,
    result: Mapping[str, Any] | None = None,
    known: Task | None = None,
    outcome: Outcome | None = None,
) -> Task:
    """Say that a task is done; what comes next of its source is ready with that. Saying it twice changes nothing.

    ``known`` is the task as it was a moment ago, where it has been read. ``outcome`` is counted with the end, once.
    Raises ``LeaseLost`` if it is not in the hands of whoever says so (any more).
    """
    now, task = co.now(), known or co.workflows.get_task(report.task_id)
    change = co.workflows.change(
        task.workflow_id,
        lambda case: tasks.task_completed(case, report, now=now, batch_id=batch_id, result=result),
        source=task.source_id,
        outcome=outcome,
    )
    return _after(co, report, change)


def fail_task(
    co: Coordination,
    report: Report,
    trouble: Trouble,
    *,
    passes: bool,
    known: Task | None = None,
    outcome: Outcome | None = None,
) -> Task:
    """Say that a task failed: it is tried again if that ``passes`` and tries are left. Twice changes nothing.

    ``known`` and ``outcome`` are as above. Raises ``LeaseLost`` if it is not in the hands of whoever says so.
    """
    now, jitter = co.now(), co.jitter()
    task = known or co.workflows.get_task(report.task_id)
    change = co.workflows.change(
        task.workflow_id,
        lambda case: tasks.task_failed(
            case, report, trouble, passes=passes, now=now, jitter=jitter
        ),
        source=task.source_id,
        outcome=outcome,
    )
    return _after(co, report, change)


def _after(co: Coordination, report: Report, change: Change | None) -> Task:
    """Return the task as the report left it."""
    changed = change.tasks if change else ()
    for task in changed:
        if task.task_id == report.task_id:
            return task
    return co.workflows.get_task(report.task_id)
