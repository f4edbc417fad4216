"""Rows of workers, tasks and breakers as the allotment's values, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, literal_column, or_, select
from sqlalchemy.sql.elements import ColumnElement

from penstock.events.envelope import NewEvent
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.ports.work import Grant, HeldTask
from penstock.publish.breaker import BreakerStatus
from penstock.workflow.allotment import InHand, Standing
from penstock.workflow.priority import ReadyTask
from penstock.workflow.status import IN_HAND, Step, TaskStatus, WorkflowKind, WorkflowStatus
from penstock.workflow.workers import (
    BreakerScope,
    WorkBreaker,
    Worker,
    WorkerKind,
    WorkerStatus,
)
from resources.control_db.rows import storable_json, storable_text
from resources.control_db.workflow_tables import (
    READY,
    work_breaker,
    worker,
    workflow,
    workflow_task,
    workflow_turn,
)

MOST_READY = 5000
"""Tasks that one allotment looks at: those of the highest priority, the oldest first."""
_HELD = [str(status) for status in IN_HAND]
task, turn = workflow_task.c, workflow_turn.c
BREAKER_COLUMNS = [work_breaker.c[field.name] for field in fields(WorkBreaker)]


def worker_of(row: Mapping[str, Any]) -> Worker:
    """Read a worker from its row."""
    return Worker(
        **{
            **row,
            "kind": WorkerKind(row["kind"]),
            "status": WorkerStatus(row["status"]),
            "capabilities": tuple(row["capabilities"]),
        }
    )


def row_of_worker(each: Worker) -> dict[str, Any]:
    """Return the row of a worker."""
    row = {field.name: getattr(each, field.name) for field in fields(each)}
    return {
        **row,
        "kind": str(each.kind),
        "status": str(each.status),
        "capabilities": list(each.capabilities),
        "details": storable_json(dict(each.details)),
    }


def breaker_of(row: Mapping[str, Any]) -> WorkBreaker:
    """Read a breaker from its row."""
    return WorkBreaker(
        **{**row, "scope": BreakerScope(row["scope"]), "status": BreakerStatus(row["status"])}
    )


def row_of_breaker(each: WorkBreaker) -> dict[str, Any]:
    """Return the row of a breaker."""
    return {
        **asdict(each),
        "scope": str(each.scope),
        "status": str(each.status),
        "last_error": storable_text(each.last_error),
    }


def is_held() -> ColumnElement[bool]:
    """Return the condition that a worker has a task: one that follows the queue has none."""
    return and_(task.status.in_(_HELD), task.worker_id.is_not(None))


def read_standing(
    connection: Connection,
    tenant: TenantId | None = None,
    asking: Mapping[str, int] | None = None,
) -> Standing:
    """Return what an allotment is decided by at this moment; for those who ask, tasks that they can do alone."""
    workers = select(worker).where(worker.c.status != str(WorkerStatus.GONE))
    # One that is closed, and that nobody doubts, keeps nothing back: of many thousand sources hardly any else.
    breakers = select(*BREAKER_COLUMNS).where(
        or_(
            work_breaker.c.status != str(BreakerStatus.CLOSED),
            work_breaker.c.doubted_until.is_not(None),
        )
    )
    counted = [breaker_of(dict(row)) for row in connection.execute(breakers).mappings()]
    working = [worker_of(dict(row)) for row in connection.execute(workers).mappings()]
    can = None if asking is None else _can([w for w in working if w.worker_id in asking])
    return Standing(
        ready=_ready(connection, tenant, can),
        workers=working,
        asking=asking,
        in_hand=_in_hand(connection),
        breakers={(each.scope, each.scope_id): each for each in counted},
    )


def _can(workers: Sequence[Worker]) -> set[str]:
    """Return every capability of a task that one of these may have; ``collect:crm`` is for tasks that ``collect``."""
    names = {name for each in workers for name in each.capabilities}
    return names | {name.rpartition(":")[0] for name in names}


def has_ready(connection: Connection, asking: Collection[str], now: datetime) -> bool:
    """Say whether any task is ready and due that one of those who ask may be able to do."""
    workers = select(worker).where(worker.c.worker_id.in_(sorted(asking)))
    working = [worker_of(dict(row)) for row in connection.execute(workers).mappings()]
    query = select(task.task_id).where(_sql(READY), task.step != str(Step.PUBLISH))
    query = query.where(task.due_at <= now, task.capability.in_(sorted(_can(working)))).limit(1)
    return connection.execute(query).first() is not None


def _ready(
    connection: Connection, tenant: TenantId | None, can: set[str] | None = None
) -> list[ReadyTask]:
    query = (
        select(
            task.task_id,
            task.workflow_id,
            task.tenant_id,
            task.source_id,
            task.kind,
            task.capability,
            task.priority,
            task.importance,
            task.ready_at,
            task.due_at,
            task.deadline_at,
        )
        .join(workflow, workflow.c.workflow_id == task.workflow_id)
        .where(_sql(READY), task.step != str(Step.PUBLISH))
        .where(workflow.c.status == str(WorkflowStatus.RUNNING))
        .order_by(task.priority.desc(), task.due_at, task.task_id)
        .limit(MOST_READY)
    )
    if tenant is not None:
        query = query.where(task.tenant_id == tenant)
    if can is not None:
        query = query.where(task.capability.in_(sorted(can)))
    return [
        ReadyTask(
            **{
                **row,
                "kind": WorkflowKind(row["kind"]),
                "ready_at": row["ready_at"] or row["due_at"],
            }
        )
        for row in connection.execute(query).mappings()
    ]


def _sql(text: str) -> ColumnElement[bool]:
    return literal_column(f"workflow_task.{text}")


def _in_hand(connection: Connection) -> list[InHand]:
    columns = (task.task_id, task.worker_id, task.tenant_id, task.source_id, task.kind)
    rows = connection.execute(select(*columns).where(is_held())).mappings()
    return [InHand(**{**row, "kind": WorkflowKind(row["kind"])}) for row in rows]


def held_of(row: Mapping[str, Any]) -> HeldTask:
    """Read a task that a worker has."""
    return HeldTask(
        task_id=row["task_id"],
        workflow_id=row["workflow_id"],
        tenant_id=TenantId(row["tenant_id"]),
        source_id=SourceId(row["source_id"]),
        step=Step(row["step"]),
        status=TaskStatus(row["status"]),
        worker_id=row["worker_id"],
        fencing_token=row["fencing_token"],
        lease_expires_at=row["lease_expires_at"],
    )


def grant_of(row: Mapping[str, Any], given: Mapping[str, Any]) -> Grant:
    """Read what a worker is told of a task that it was given."""
    return Grant(
        task_id=row["task_id"],
        workflow_id=row["workflow_id"],
        turn=row["number"],
        tenant_id=TenantId(row["tenant_id"]),
        source_id=SourceId(row["source_id"]),
        step=Step(row["step"]),
        kind=WorkflowKind(row["kind"]),
        capability=row["capability"],
        worker_id=row["worker_id"],
        attempt=row["attempt"],
        fencing_token=row["fencing_token"],
        lease_expires_at=row["lease_expires_at"],
        moment=row["moment"],
        deadline_at=row["deadline_at"],
        batch_id=None if row["batch_id"] is None else BatchId(row["batch_id"]),
        trace_parent=row["trace_parent"],
        given=given,
    )


def assigned(grant: Grant, now: datetime) -> NewEvent:
    """Tell that a task was given to a worker."""
    return NewEvent(
        type="task_assigned",
        subject=grant.workflow_id,
        tenant_id=grant.tenant_id,
        time=now,
        data={
            "workflow_id": grant.workflow_id,
            "turn": grant.turn,
            "task_id": grant.task_id,
            "step": str(grant.step),
            "source_id": grant.source_id,
            "attempt": grant.attempt,
            "worker_id": grant.worker_id,
            "lease_expires_at": grant.lease_expires_at.isoformat(),
        },
        trace_parent=grant.trace_parent,
    )


def status_changed(
    before: Worker | None, after: Worker, now: datetime, why: str | None
) -> NewEvent:
    """Tell that a worker registered, drains or is gone."""
    return NewEvent(
        type="worker_status_changed",
        subject=after.worker_id,
        tenant_id=after.tenant_id,
        time=now,
        data={
            "worker_id": after.worker_id,
            "status": str(after.status),
            "before": None if before is None else str(before.status),
            "reason": None if why is None else why[:500],
        },
    )
