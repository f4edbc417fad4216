"""What workers report of the tasks that they have: begun, done, failed. Each checks the fencing token of the claim."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from penstock.identity.ids import BatchId
from penstock.ports.work import Outcome
from penstock.ports.workflows import Decide
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


def completing(
    co: Coordination,
    report: Report,
    *,
    batch_id: BatchId | None = None,
    result: Mapping[str, Any] | None = None,
) -> Decide:
    """Return what makes of a case that a task of it is done; it raises ``LeaseLost``."""
    now = co.now()
    return partial(tasks.task_completed, report=report, now=now, batch_id=batch_id, result=result)


def failing(co: Coordination, report: Report, trouble: Trouble, *, passes: bool) -> Decide:
    """Return what makes of a case that a task of it failed; it raises ``LeaseLost``."""
    return partial(
        tasks.task_failed,
        report=report,
        trouble=trouble,
        passes=passes,
        now=co.now(),
        jitter=co.jitter(),
    )


def complete_task(
    co: Coordination,
    report: Report,
    *,
    batch_id: BatchId | None = None,
    result: Mapping[str, Any] | None = None,
    outcome: Outcome | None = None,
) -> Task:
    """Say that a task is done; what comes next of its source is ready with that. Saying it twice changes nothing.

    ``outcome`` is counted with the end, once. Raises ``LeaseLost`` if it is not in the hands of whoever says so.
    """
    decide = completing(co, report, batch_id=batch_id, result=result)
    change = co.workflows.change_task(report.task_id, decide, outcome=outcome)
    return _after(co, report, change)


def fail_task(
    co: Coordination,
    report: Report,
    trouble: Trouble,
    *,
    passes: bool,
    outcome: Outcome | None = None,
) -> Task:
    """Say that a task failed: it is tried again if that ``passes`` and tries are left. Twice changes nothing.

    ``outcome`` is as above. Raises ``LeaseLost`` if it is not in the hands of whoever says so.
    """
    decide = failing(co, report, trouble, passes=passes)
    change = co.workflows.change_task(report.task_id, decide, outcome=outcome)
    return _after(co, report, change)


def _after(co: Coordination, report: Report, change: Change | None) -> Task:
    """Return the task as the report left it."""
    changed = change.tasks if change else ()
    for task in changed:
        if task.task_id == report.task_id:
            return task
    return co.workflows.get_task(report.task_id)
