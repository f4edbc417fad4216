"""Workers as they come, work and go: what they ask for and report, and how people look at them.

A worker belongs to a tenant, and so does its caller: what is of another tenant is not there. ``tenant`` is the caller's
own, None for one who runs the platform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from penstock.errors import NotFound, NothingToDo, PenstockError
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.clock import Clock
from penstock.ports.work import Granted, HeldTask, Outcome, Renewal, WorkStore
from penstock.publish.breaker import BreakerStatus
from penstock.use_cases.acts import By
from penstock.use_cases.platform import Platform
from penstock.workflow.allotment import Place, allot
from penstock.workflow.priority import WorkflowPolicy
from penstock.workflow.workers import (
    EVERY_TENANT,
    BreakerScope,
    WorkBreaker,
    Worker,
    WorkerKind,
    WorkerMove,
    WorkerPolicy,
    WorkerStatus,
)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What the use cases of workers are given."""

    work: WorkStore
    clock: Clock
    policy: WorkerPolicy = field(default_factory=WorkerPolicy)
    priorities: WorkflowPolicy = field(default_factory=WorkflowPolicy)


@dataclass(frozen=True, kw_only=True)
class WorkerOverview:
    """One worker, with what it has and how its breaker stands."""

    worker: Worker
    held: tuple[HeldTask, ...]
    silent_at: datetime
    """From when on it is gone, unless something is heard of it."""
    breaker: WorkBreaker | None
    """None while none of its tasks ever ended."""


def register_worker(
    workshop: Workshop,
    worker_id: str,
    *,
    tenant: TenantId,
    capabilities: Sequence[str],
    capacity: int,
    details: Mapping[str, Any],
    by: By,
    kind: WorkerKind = WorkerKind.OUTSIDE,
) -> Worker:
    """Add a worker; it has to be heard of within ``silent_s``. ``ChangedMeanwhile`` where its id is taken."""
    if not capabilities:
        raise PenstockError("a worker that can do nothing is given nothing: name a capability")
    now = workshop.clock.now()
    worker = Worker(
        worker_id=worker_id,
        tenant_id=tenant,
        kind=kind,
        capabilities=tuple(sorted(set(capabilities))),
        capacity=capacity,
        details=details,
        registered_at=now,
        heartbeat_at=now,
    )
    can = {"capabilities": list(worker.capabilities), "capacity": capacity, "tenant": tenant}
    act = by.entry("worker.register", worker_id, now=now, details=can)
    return workshop.work.register(worker, act=act)


def beat(
    workshop: Workshop,
    worker_id: str,
    *,
    tenant: TenantId | None,
    details: Mapping[str, Any] | None = None,
) -> Worker:
    """Note that a worker is there; raises ``IllegalMove`` for one that is gone: it registers anew."""
    own_worker(workshop, worker_id, tenant)
    return workshop.work.heartbeat(worker_id, now=workshop.clock.now(), details=details)


def drain(workshop: Workshop, worker_id: str, *, tenant: TenantId | None, by: By) -> Worker:
    """Have a worker given nothing more; what it has it ends."""
    return _move(workshop, worker_id, WorkerMove.DRAIN, tenant, by, "somebody asked for it")


def leave(workshop: Workshop, worker_id: str, *, tenant: TenantId | None, by: By) -> Worker:
    """Take a worker out; what it still has is taken back, and goes to others."""
    return _move(workshop, worker_id, WorkerMove.LEAVE, tenant, by, "it left")


def _move(
    workshop: Workshop,
    worker_id: str,
    move: WorkerMove,
    tenant: TenantId | None,
    by: By,
    why: str,
) -> Worker:
    own_worker(workshop, worker_id, tenant)
    now = workshop.clock.now()
    return workshop.work.move_worker(
        worker_id,
        move,
        now=now,
        act=by.entry(f"worker.{move}", worker_id, now=now),
        why=by.reason or why,
    )


def lose_silent_workers(workshop: Workshop) -> list[Worker]:
    """Give up workers of which nothing was heard for too long; what they had is taken back."""
    return workshop.work.lose_silent(now=workshop.clock.now(), policy=workshop.policy)


def forget_gone_workers(workshop: Workshop) -> int:
    """Remove workers that have been gone for ``gone_kept_s``: many run for one task, under a name of their own."""
    kept = timedelta(seconds=workshop.policy.gone_kept_s)
    return workshop.work.forget_gone(before=workshop.clock.now() - kept)


def claim_tasks(
    workshop: Workshop,
    asking: Mapping[str, int],
    *,
    lease_s: float | None = None,
    ahead: Mapping[str, int] | None = None,
) -> Granted:
    """Give tasks to those who ask, by worker id, at most so many each.

    ``ahead`` is how many more than its capacity a worker may have, at most as many again: they wait at the worker.
    """
    return workshop.work.claim_tasks(
        asking,
        now=workshop.clock.now(),
        policy=workshop.policy,
        priorities=workshop.priorities,
        lease_s=lease_s,
        ahead=ahead or {},
    )


def may_ask(workshop: Workshop, worker_id: str, *, tenant: TenantId | None) -> Worker:
    """Return a worker that may be given tasks, or raise: ``NotFound``, ``IllegalMove`` for one that is gone.

    That it asks says that it is there. This is written down no more often than it would say so by itself.
    """
    worker = own_worker(workshop, worker_id, tenant)
    heard = workshop.clock.now() - worker.heartbeat_at
    if worker.status is not WorkerStatus.GONE and heard < timedelta(
        seconds=workshop.policy.silent_s / 8
    ):
        return worker
    return beat(workshop, worker_id, tenant=tenant)


def renew(
    workshop: Workshop,
    task_id: str,
    *,
    worker_id: str,
    fencing_token: int,
    tenant: TenantId | None,
) -> Renewal:
    """Extend a worker's lease on a task, or raise ``LeaseLost``."""
    own_worker(workshop, worker_id, tenant)
    return workshop.work.renew_task(
        task_id,
        worker_id,
        fencing_token,
        now=workshop.clock.now(),
        lease_s=workshop.policy.lease_s,
    )


def outcome_of(
    workshop: Workshop, worker_id: str, source: SourceId, *, error: str | None
) -> Outcome:
    """Return a task's end as the breakers of its worker and its source count it; ``error`` is None if it ended well."""
    return Outcome(
        worker_id=worker_id,
        source=source,
        error=error,
        at=workshop.clock.now(),
        policy=workshop.policy,
    )


def reset_work_breaker(
    workshop: Workshop,
    platform: Platform,
    scope: BreakerScope,
    scope_id: str,
    *,
    tenant: TenantId | None,
    by: By,
) -> WorkBreaker:
    """Close the breaker of a worker or of a source on an operator's word; ``NotFound`` where nothing was counted."""
    now = workshop.clock.now()
    seen = work_breakers(workshop, platform, tenant=tenant)
    known = next((b for b in seen if (b.scope, b.scope_id) == (scope, scope_id)), None)
    if known is None:
        raise NotFound(f"no task of {scope} {scope_id!r} has ended: it has no breaker")
    if known.status is BreakerStatus.CLOSED:
        raise NothingToDo(f"the breaker of {scope} {scope_id!r} is closed")
    details = {"was": known.status, "last_error": known.last_error}
    act = by.entry("work_breaker.reset", f"{scope}/{scope_id}", now=now, details=details)
    return workshop.work.reset_work_breaker(scope, scope_id, now=now, act=act)


# Looking ----------------------------------------------------------------------------------------------------


def worker_overviews(
    workshop: Workshop,
    *,
    tenant: TenantId | None,
    status: WorkerStatus | None = None,
    limit: int = 1000,
) -> list[WorkerOverview]:
    """Return workers by id, each with what it has."""
    held: dict[str, list[HeldTask]] = {}
    for task in workshop.work.held_tasks():
        held.setdefault(task.worker_id, []).append(task)
    breakers = {each.scope_id: each for each in _breakers_of_workers(workshop)}
    silent = timedelta(seconds=workshop.policy.silent_s)
    return [
        WorkerOverview(
            worker=worker,
            held=tuple(held.get(worker.worker_id, ())),
            silent_at=worker.heartbeat_at + silent,
            breaker=breakers.get(worker.worker_id),
        )
        for worker in workshop.work.list_workers(tenant=tenant, status=status, limit=limit)
    ]


def worker_overview(
    workshop: Workshop, worker_id: str, *, tenant: TenantId | None
) -> WorkerOverview:
    """Return one worker, or raise ``NotFound``."""
    worker = own_worker(workshop, worker_id, tenant)
    breakers = {each.scope_id: each for each in _breakers_of_workers(workshop)}
    return WorkerOverview(
        worker=worker,
        held=tuple(workshop.work.held_tasks(worker_id=worker_id)),
        silent_at=worker.heartbeat_at + timedelta(seconds=workshop.policy.silent_s),
        breaker=breakers.get(worker_id),
    )


def task_places(workshop: Workshop, *, tenant: TenantId | None = None) -> list[Place]:
    """Return every task that is ready in the order of the allotment, with its arithmetic and what it waits for."""
    standing = workshop.work.standing(tenant=tenant)
    return allot(standing, workshop.policy, workshop.priorities, workshop.clock.now())


def breaker_status(workshop: Workshop, breaker: WorkBreaker | None) -> BreakerStatus:
    """Return what a breaker lets through now."""
    return breaker.status_at(workshop.clock.now()) if breaker else BreakerStatus.CLOSED


def work_breakers(
    workshop: Workshop, platform: Platform, *, tenant: TenantId | None
) -> list[WorkBreaker]:
    """Return the breakers of workers and sources whose tasks ever ended: of one tenant, or of all."""
    every = workshop.work.list_work_breakers()
    if tenant is None:
        return every
    mine = {(BreakerScope.WORKER, w.worker_id) for w in workshop.work.list_workers(tenant=tenant)}
    mine |= {
        (BreakerScope.SOURCE, str(spec.source_id))
        for spec in platform.control.list_sources()
        if spec.tenant_id == tenant
    }
    return [each for each in every if (each.scope, each.scope_id) in mine]


def _breakers_of_workers(workshop: Workshop) -> list[WorkBreaker]:
    every = workshop.work.list_work_breakers()
    return [each for each in every if each.scope is BreakerScope.WORKER]


def own_worker(workshop: Workshop, worker_id: str, tenant: TenantId | None) -> Worker:
    """Return a worker that is of the caller's tenant, or raise ``NotFound``."""
    return seen_by(workshop.work.get_worker(worker_id), worker_id, tenant)


def seen_by(worker: Worker | None, worker_id: str, tenant: TenantId | None) -> Worker:
    """Return a worker if it is there and of the caller's tenant, or raise ``NotFound``."""
    if worker is None or tenant not in (None, EVERY_TENANT, worker.tenant_id):
        raise NotFound(f"there is no worker {worker_id!r}: register it first")
    return worker
