"""Workers and the tasks that they have, as kept: registrations, claims under leases, and breakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.workflow.allotment import Standing
from penstock.workflow.priority import WorkflowPolicy
from penstock.workflow.status import Step, TaskStatus, WorkflowKind
from penstock.workflow.workers import (
    BreakerScope,
    WorkBreaker,
    Worker,
    WorkerMove,
    WorkerPolicy,
    WorkerStatus,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A task that was given to a worker: all that it has to know, under a lease."""

    task_id: str
    workflow_id: str
    turn: int
    tenant_id: TenantId
    source_id: SourceId
    step: Step
    kind: WorkflowKind
    capability: str
    worker_id: str
    attempt: int
    fencing_token: int
    """Every later claim of the task has a higher one; reports with a lower one are refused."""
    lease_expires_at: datetime
    moment: datetime | None = None
    """Source timestamp of what is to be collected."""
    deadline_at: datetime | None = None
    batch_id: BatchId | None = None
    trace_parent: str | None = None
    """W3C trace context that the work is to go on below; None where it belongs to no trace."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """What the step before it reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Granted:
    """What came of asking for tasks."""

    grants: Sequence[Grant] = ()
    look_again: bool = False
    """Something was being changed by others just then, and may be had in a moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """A lease that was renewed."""

    lease_expires_at: datetime
    stop: bool
    """Its workflow was cancelled: the worker is to end at once, and to report that it did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldTask:
    """A task that a worker has."""

    task_id: str
    workflow_id: str
    tenant_id: TenantId
    source_id: SourceId
    step: Step
    status: TaskStatus
    worker_id: str
    fencing_token: int
    lease_expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a task ended, as the breakers of its worker and of its source count it."""

    worker_id: str
    source: SourceId
    error: str | None
    """None if it ended well."""
    at: datetime
    policy: WorkerPolicy


class WorkStore(Protocol):
    """Who works, and who has what. Reports on tasks move workflows, and are theirs."""

    def register(self, worker: Worker, *, act: AuditEntry) -> Worker:
        """Add a worker. Raises ``ChangedMeanwhile`` where its id is taken by one that is not gone."""
        ...

    def heartbeat(
        self, worker_id: str, *, now: datetime, details: Mapping[str, Any] | None = None
    ) -> Worker:
        """Note that a worker is there; raises ``IllegalMove`` for one that is gone, ``NotFound``."""
        ...

    def move_worker(
        self, worker_id: str, move: WorkerMove, *, now: datetime, act: AuditEntry | None, why: str
    ) -> Worker:
        """Move a worker; what one that is gone had is free to be taken back. Raises ``IllegalMove``, ``NotFound``."""
        ...

    def lose_silent(self, *, now: datetime, policy: WorkerPolicy) -> list[Worker]:
        """Give up workers of which nothing was heard for too long, and return them."""
        ...

    def forget_gone(self, *, before: datetime) -> int:
        """Remove workers that were gone before a moment, with their breakers; return how many.

        Tasks keep their names.
        """
        ...

    def get_worker(self, worker_id: str) -> Worker:
        """Return one worker, or raise ``NotFound``."""
        ...

    def get_workers(self, worker_ids: Sequence[str]) -> dict[str, Worker]:
        """Return those of these workers that are there, by id."""
        ...

    def list_workers(
        self,
        *,
        tenant: TenantId | None = None,
        status: WorkerStatus | None = None,
        limit: int = 1000,
    ) -> list[Worker]:
        """Return workers by id: of one tenant, and those that work for every tenant; None for all."""
        ...

    def claim_tasks(
        self,
        asking: Mapping[str, int],
        *,
        now: datetime,
        policy: WorkerPolicy,
        priorities: WorkflowPolicy,
        lease_s: float | None = None,
        ahead: Mapping[str, int] | None = None,
    ) -> Granted:
        """Give tasks that are ready to those who ask, by worker id, at most so many each; in one transaction.

        A worker that is gone, or drains, is given nothing. ``lease_s`` takes the place of the policy's.
        ``ahead`` is how many more than its capacity a worker may have, at most as many again.
        """
        ...

    def renew_task(
        self, task_id: str, worker_id: str, fencing_token: int, *, now: datetime, lease_s: float
    ) -> Renewal:
        """Extend a lease to ``lease_s`` from now, or raise ``LeaseLost``. The first time, the task is running."""
        ...

    def held_tasks(self, *, worker_id: str | None = None) -> list[HeldTask]:
        """Return what workers have at the moment, or what one has."""
        ...

    def standing(self, *, tenant: TenantId | None = None) -> Standing:
        """Return what an allotment is decided by; of one tenant only its tasks are ready."""
        ...

    def list_work_breakers(self) -> list[WorkBreaker]:
        """Return every breaker of workers and sources that has counted anything."""
        ...

    def reset_work_breaker(
        self, scope: BreakerScope, scope_id: str, *, now: datetime, act: AuditEntry
    ) -> WorkBreaker:
        """Close a breaker on an operator's word; raises ``NothingToDo`` for one that has counted nothing."""
        ...
