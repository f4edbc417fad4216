"""Values that tests of the allotment are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from penstock.identity.ids import SourceId, TenantId
from penstock.publish.breaker import BreakerStatus
from penstock.workflow.allotment import InHand, Place, Standing, allot
from penstock.workflow.priority import ReadyTask, WorkflowPolicy
from penstock.workflow.status import WorkflowKind
from penstock.workflow.workers import BreakerScope, WorkBreaker, Worker, WorkerPolicy
from tests.contracts.control_values import NOW

KINDS = tuple(WorkflowKind)


def ready(task_id: str, **fields: Any) -> ReadyTask:
    """A task that is ready now."""
    values: dict[str, Any] = {
        "task_id": task_id,
        "workflow_id": "w",
        "tenant_id": TenantId("acme"),
        "source_id": SourceId(f"s_{task_id}"),
        "kind": WorkflowKind.ON_DEMAND,
        "capability": "collect",
        "ready_at": NOW,
        "due_at": NOW,
    }
    return ReadyTask(**{**values, **fields})


def worker(worker_id: str = "w1", **fields: Any) -> Worker:
    """An active worker of the tenant that collects."""
    values: dict[str, Any] = {
        "worker_id": worker_id,
        "tenant_id": TenantId("acme"),
        "capabilities": ("collect",),
        "capacity": 4,
        "registered_at": NOW,
        "heartbeat_at": NOW,
    }
    return Worker(**{**values, **fields})


def in_hand(task_id: str, worker_id: str = "w1", **fields: Any) -> InHand:
    """A task that a worker has."""
    values: dict[str, Any] = {
        "task_id": task_id,
        "worker_id": worker_id,
        "tenant_id": TenantId("acme"),
        "source_id": SourceId(f"s_{task_id}"),
        "kind": WorkflowKind.ON_DEMAND,
    }
    return InHand(**{**values, **fields})


def breaker(scope: BreakerScope, scope_id: str, **fields: Any) -> WorkBreaker:
    """A breaker that opened for a minute."""
    values = {
        "scope": scope,
        "scope_id": scope_id,
        "status": BreakerStatus.OPEN,
        "window_started_at": NOW,
        "updated_at": NOW,
        "open_until": NOW + timedelta(minutes=1),
        "last_error": "no route",
    }
    return WorkBreaker(**{**values, **fields})


def places(
    tasks: Sequence[ReadyTask],
    workers: Sequence[Worker],
    held: Iterable[InHand] = (),
    *,
    breakers: Iterable[WorkBreaker] = (),
    asking: dict[str, int] | None = None,
    policy: WorkerPolicy | None = None,
    priorities: WorkflowPolicy | None = None,
    now_s: float = 0,
) -> list[Place]:
    """Allot, some seconds after now."""
    return allot(
        Standing(
            ready=tasks,
            workers=workers,
            in_hand=tuple(held),
            breakers={(each.scope, each.scope_id): each for each in breakers},
            asking=asking,
        ),
        policy or WorkerPolicy(silent_s=10**9),
        priorities or WorkflowPolicy(),
        NOW + timedelta(seconds=now_s),
    )


def given(found: Sequence[Place]) -> dict[str, str]:
    """Which worker has which task."""
    return {each.task.task_id: each.worker_id for each in found if each.worker_id}


def waits(found: Sequence[Place]) -> dict[str, str]:
    """What each of the others waits for."""
    return {each.task.task_id: each.waits_for for each in found if each.waits_for}
