"""What workers report of the tasks that they have: the workflow goes on, and the breakers count it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import LeaseLost
from penstock.identity.ids import BatchId, TenantId
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.work import Workshop, outcome_of, own_worker
from penstock.use_cases.workflow_tasks import complete_task, fail_task
from penstock.workflow.records import Task, Trouble
from penstock.workflow.status import IN_HAND
from penstock.workflow.tasks import Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who says so of which task."""

    task_id: str
    worker_id: str
    fencing_token: int


def report_done(
    workshop: Workshop,
    co: Coordination,
    holder: Holder,
    *,
    tenant: TenantId | None,
    batch_id: BatchId | None,
    result: Mapping[str, Any],
) -> Task:
    """Report a task as done; twice changes nothing. Raises ``LeaseLost`` for what is another's by now."""
    before = _held(workshop, co, holder, tenant)
    outcome = outcome_of(workshop, holder.worker_id, before.source_id, error=None)
    return complete_task(
        co, _report(holder), batch_id=batch_id, result=result, known=before, outcome=outcome
    )


def report_failed(
    workshop: Workshop,
    co: Coordination,
    holder: Holder,
    trouble: Trouble,
    *,
    tenant: TenantId | None,
    retryable: bool,
) -> Task:
    """Report a task as failed; it is tried again if that may help and tries are left. ``LeaseLost`` as above."""
    before = _held(workshop, co, holder, tenant)
    said = f"{trouble.code}: {trouble.message}"[:500]
    outcome = outcome_of(workshop, holder.worker_id, before.source_id, error=said)
    return fail_task(co, _report(holder), trouble, passes=retryable, known=before, outcome=outcome)


def _held(workshop: Workshop, co: Coordination, holder: Holder, tenant: TenantId | None) -> Task:
    """Return a task of which a worker of the caller's tenant reports; who else has it is refused."""
    own_worker(workshop, holder.worker_id, tenant)
    task = co.workflows.get_task(holder.task_id)
    if task.status in IN_HAND and task.worker_id != holder.worker_id:
        raise LeaseLost(
            f"task {holder.task_id!r} is not in the hands of worker {holder.worker_id!r} any more: stop, and write "
            "nothing more for it"
        )
    return task


def _report(holder: Holder) -> Report:
    return Report(task_id=holder.task_id, fencing_token=holder.fencing_token)
