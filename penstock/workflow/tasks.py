"""What becomes of a task: its worker begins it, brings its result, fails, or is not heard of any more.

Whoever reports names the fencing token of its claim. A token that is not the last one, or a task that was taken back,
is ``LeaseLost``: stop, and write nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from penstock.errors import IllegalMove, LeaseLost
from penstock.identity.ids import BatchId
from penstock.workflow import telling
from penstock.workflow.change import Case, Change, moved_task, with_tasks
from penstock.workflow.records import Task, Trouble
from penstock.workflow.spec import TaskRetry
from penstock.workflow.status import IN_HAND, Step, TaskMove, TaskStatus, WorkflowStatus
from penstock.workflow.turns import change_of

LEASE_EXPIRED = "lease_expired"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a worker says of the task that it has, or had."""

    task_id: str
    fencing_token: int
    run_id: str | None = None
    """The Dagster run that did it."""


def held(task: Task, fencing_token: int) -> Task:
    """Return a task that its claim still holds, or raise ``LeaseLost``.

    A lease that has expired still holds as long as nobody has taken the task back.
    """
    if task.status in IN_HAND and task.fencing_token == fencing_token:
        return task
    raise LeaseLost(
        f"task {task.task_id!r} ({task.step} of {task.source_id}) is {task.status} and not in the hands of whoever "
        f"claimed it with token {fencing_token}: stop, and write nothing more for it"
    )


def claimed(case: Case, task_id: str, *, worker_id: str, now: datetime, lease_s: float) -> Change:
    """Return a task as a worker's, under a lease. Raises ``IllegalMove`` unless it is ready and its workflow runs."""
    task = case.task(task_id)
    if case.workflow.status is not WorkflowStatus.RUNNING:
        raise IllegalMove(
            f"task {task_id!r} is of workflow {task.workflow_id!r}, which is {case.workflow.status}: nothing of it is "
            "given out"
        )
    moved = moved_task(
        task,
        TaskMove.CLAIM,
        now=now,
        worker_id=worker_id,
        fencing_token=task.fencing_token + 1,
        lease_expires_at=now + timedelta(seconds=lease_s),
    )
    return change_of(case, with_tasks(case, [moved]), now=now)


def task_started(case: Case, report: Report, *, now: datetime) -> Change | None:
    """Return a task as begun by its worker; None if that was said before, or it is to let go."""
    task = held(case.task(report.task_id), report.fencing_token)
    if task.status is not TaskStatus.ASSIGNED:
        return None
    run_id = report.run_id or task.run_id
    moved = moved_task(task, TaskMove.START, now=now, run_id=run_id)
    return change_of(case, with_tasks(case, [moved]), now=now)


def task_completed(
    case: Case,
    report: Report,
    *,
    now: datetime,
    batch_id: BatchId | None = None,
    result: Mapping[str, Any] | None = None,
) -> Change | None:
    """Return a task as done, and the next of its source as ready; None if that was said before."""
    task = case.task(report.task_id)
    if task.status is TaskStatus.COMPLETED and task.fencing_token == report.fencing_token:
        return None
    return completed(
        case,
        held(task, report.fencing_token),
        now=now,
        batch_id=batch_id,
        result=result,
        run_id=report.run_id,
    )


def completed(
    case: Case,
    task: Task,
    *,
    now: datetime,
    batch_id: BatchId | None = None,
    result: Mapping[str, Any] | None = None,
    run_id: str | None = None,
) -> Change:
    """Return a task as done, whoever says so, and the next of its source as ready."""
    assert case.turn is not None
    done = moved_task(
        task,
        TaskMove.COMPLETE,
        now=now,
        run_id=run_id or task.run_id,
        batch_id=batch_id or task.batch_id,
        result=dict(result or task.result),
        trouble=None,
    )
    told = telling.task_completed(
        case.workflow, case.turn, replace(done, worker_id=task.worker_id), now
    )
    after = [done, *_released(case, done, now)]
    return change_of(case, with_tasks(case, after), (told,), now=now)


def _released(case: Case, done: Task, now: datetime) -> list[Task]:
    """Return the next step as ready; a batch that whoever collected has landed already is not landed again."""
    for later in case.tasks:
        is_next = later.source_id == done.source_id and later.position == done.position + 1
        if not is_next or later.status is not TaskStatus.PENDING:
            continue
        if later.step is Step.TRANSFORM and done.batch_id is not None:
            landed = moved_task(later, TaskMove.COMPLETE, now=now, batch_id=done.batch_id)
            return [landed, *_released(case, landed, now)]
        return [moved_task(later, TaskMove.RELEASE, now=now, batch_id=done.batch_id)]
    return []


def task_failed(
    case: Case,
    report: Report,
    trouble: Trouble,
    *,
    passes: bool,
    now: datetime,
    jitter: float,
) -> Change | None:
    """Return a task as failed: due again later if the failure ``passes`` and tries are left; None if said before.

    ``jitter`` is a random number from 0 up to 1, drawn by the caller.
    """
    task = case.task(report.task_id)
    again = task.status is TaskStatus.FAILED and task.fencing_token == report.fencing_token
    if again:
        return None
    return failed(
        case,
        held(task, report.fencing_token),
        trouble,
        passes=passes,
        now=now,
        jitter=jitter,
        run_id=report.run_id,
    )


def failed(
    case: Case,
    task: Task,
    trouble: Trouble,
    *,
    passes: bool,
    now: datetime,
    jitter: float,
    run_id: str | None = None,
) -> Change:
    """Return a task as failed, whoever says so; what comes after it is skipped where it failed for good."""
    assert case.turn is not None
    run_id = run_id or task.run_id
    if task.status is TaskStatus.STOPPING:
        let_go = moved_task(task, TaskMove.CANCEL, now=now, run_id=run_id)
        return change_of(case, with_tasks(case, [let_go]), now=now)
    retry_at = (
        retry_at_of(case.workflow.spec.retry, task, now=now, jitter=jitter) if passes else None
    )
    changes: dict[str, Any] = {"trouble": trouble, "failures": task.failures + 1, "run_id": run_id}
    if retry_at is None:
        after = [moved_task(task, TaskMove.FAIL, now=now, **changes), *_skipped(case, task, now)]
    else:
        after = [moved_task(task, TaskMove.POSTPONE, now=now, due_at=retry_at, **changes)]
    told = telling.task_failed(case.workflow, case.turn, task, trouble, retry_at, now)
    return change_of(case, with_tasks(case, after), (told,), now=now)


def _skipped(case: Case, failed_task: Task, now: datetime) -> list[Task]:
    return [
        moved_task(task, TaskMove.SKIP, now=now)
        for task in case.tasks
        if task.source_id == failed_task.source_id
        and task.position > failed_task.position
        and task.status is TaskStatus.PENDING
    ]


def retry_at_of(policy: TaskRetry, task: Task, *, now: datetime, jitter: float) -> datetime | None:
    """Return when a task that fails now is due again, or None if its tries are used up.

    The delay after the n-th failure is ``min(max_delay, delay * factor ** (n - 1)) * (1 - jitter_share * jitter)``.
    """
    if task.failures >= policy.tries:
        return None
    longer = policy.factor ** min(task.failures, 64)
    delay_s = min(policy.max_delay_s, policy.delay_s * longer)
    return now + timedelta(seconds=delay_s * (1 - policy.jitter_share * jitter))


def lease_expired(case: Case, task_id: str, *, now: datetime, jitter: float) -> Change | None:
    """Return a task whose worker was not heard of in time as taken back; None if it was, or it has ended."""
    task = case.task(task_id)
    expires_at = task.lease_expires_at
    if task.status not in IN_HAND or expires_at is None or now < expires_at:
        return None
    trouble = Trouble(
        code=LEASE_EXPIRED,
        message=f"worker {task.worker_id} was not heard of until {expires_at:%Y-%m-%d %H:%M:%S} UTC",
    )
    return failed(case, task, trouble, passes=True, now=now, jitter=jitter)


def lease_extended(case: Case, report: Report, *, now: datetime, lease_s: float) -> Change:
    """Return a task with its lease extended on behalf of whoever is to begin it; raises ``LeaseLost``."""
    task = held(case.task(report.task_id), report.fencing_token)
    until = now + timedelta(seconds=lease_s)
    return Change(workflow=case.workflow, tasks=(replace(task, lease_expires_at=until),))


def publish_begun(case: Case, task_id: str, *, now: datetime) -> Change | None:
    """Return the task of a batch that the queue has as running; None if it is not ready (any more)."""
    task = case.task(task_id)
    if task.step is not Step.PUBLISH:
        raise IllegalMove(f"task {task_id!r} does {task.step}: a worker claims it")
    if task.status is not TaskStatus.READY:
        return None
    result = {name: value for name, value in task.result.items() if name != "again"}
    moved = moved_task(
        task,
        TaskMove.START,
        now=now,
        attempt=task.attempt + 1,
        fencing_token=task.fencing_token + 1,
        result=result,
    )
    return change_of(case, with_tasks(case, [moved]), now=now)
