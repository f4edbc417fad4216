"""What workers report of the tasks that they have: the workflow goes on, and the breakers count it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.errors import LeaseLost, NotFound, PenstockError
from penstock.identity.ids import BatchId, TenantId
from penstock.ports.workflows import Asked
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.work import Workshop, outcome_of, seen_by
from penstock.use_cases.workflow_tasks import completing, failing
from penstock.workflow.records import Task, Trouble
from penstock.workflow.status import IN_HAND
from penstock.workflow.tasks import Report
from penstock.workflow.workers import Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who says so of which task."""

    task_id: str
    worker_id: str
    fencing_token: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A worker's word that a task is done, or why it failed."""

    holder: Holder
    tenant: TenantId | None
    """Of the caller; None for one who sees all."""
    batch_id: BatchId | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    trouble: Trouble | None = None
    """None for one that is done."""
    retryable: bool = True
    """Whether trying it again may help."""


def report_each(
    workshop: Workshop, co: Coordination, reports: Sequence[Ended]
) -> list[Task | PenstockError]:
    """Take reports, those of one workflow together; return each task as its report left it, or why it is refused.

    Reporting twice changes nothing. ``LeaseLost`` for what is another's by now.
    """
    workers = workshop.work.get_workers(sorted({each.holder.worker_id for each in reports}))
    tasks = co.workflows.get_tasks(sorted({each.holder.task_id for each in reports}))
    known = {task.task_id: task for task in tasks}
    answers: dict[int, Task | PenstockError] = {}
    of_workflow: dict[str, list[int]] = {}
    for number, each in enumerate(reports):
        try:
            task = _held(each, workers, known)
        except PenstockError as error:
            answers[number] = error
        else:
            of_workflow.setdefault(task.workflow_id, []).append(number)
    for workflow_id, numbers in of_workflow.items():
        asked = [_asked(workshop, co, reports[n], known) for n in numbers]
        for n, answer in zip(numbers, co.workflows.change_each(workflow_id, asked), strict=True):
            if isinstance(answer, PenstockError):
                answers[n] = answer
            else:
                answers[n] = _after(co, reports[n].holder.task_id, answer.tasks if answer else ())
    return [answers[number] for number in range(len(reports))]


def _held(each: Ended, workers: Mapping[str, Worker], tasks: Mapping[str, Task]) -> Task:
    """Return a task of which a worker of the caller's tenant reports; who else has it is refused."""
    holder = each.holder
    seen_by(workers.get(holder.worker_id), holder.worker_id, each.tenant)
    task = tasks.get(holder.task_id)
    if task is None:
        raise NotFound(
            f"task {holder.task_id!r} is not there: `penstock workflows show <id>` lists a workflow's"
        )
    if task.status in IN_HAND and task.worker_id != holder.worker_id:
        raise LeaseLost(
            f"task {holder.task_id!r} is not in the hands of worker {holder.worker_id!r} any more: stop, and write "
            "nothing more for it"
        )
    return task


def _asked(workshop: Workshop, co: Coordination, each: Ended, tasks: Mapping[str, Task]) -> Asked:
    """Return the change that a report asks for."""
    holder, trouble = each.holder, each.trouble
    source = tasks[holder.task_id].source_id
    report = Report(task_id=holder.task_id, fencing_token=holder.fencing_token)
    if trouble is None:
        decide = completing(co, report, batch_id=each.batch_id, result=each.result)
    else:
        decide = failing(co, report, trouble, passes=each.retryable)
    said = None if trouble is None else f"{trouble.code}: {trouble.message}"[:500]
    outcome = outcome_of(workshop, holder.worker_id, source, error=said)
    return Asked(decide, source, outcome)


def _after(co: Coordination, task_id: str, changed: Sequence[Task]) -> Task:
    for task in changed:
        if task.task_id == task_id:
            return task
    return co.workflows.get_task(task_id)
