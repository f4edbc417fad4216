"""Workers and tasks that are ready, as rows of the control database, and reading what is told of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, Integer, Table, select

from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.work import Grant, Granted
from penstock.workflow.priority import WorkflowPolicy
from penstock.workflow.workers import Worker, WorkerPolicy
from resources.control_db.outbox_tables import outbox_event
from resources.control_db.work import SqlWork
from resources.control_db.workflow_tables import workflow, workflow_task, workflow_turn
from tests.contracts.control_values import NOW

POLICY = WorkerPolicy(lease_s=30, silent_s=60)
ACME = TenantId("acme")


def entry(act: str = "worker.register", subject: str = "w1") -> AuditEntry:
    """Who did it."""
    return AuditEntry(at=NOW, actor="kim", act=act, subject=subject)


def add_worker(store: SqlWork, worker_id: str = "w1", **fields: Any) -> Worker:
    """Register a worker that collects."""
    values: dict[str, Any] = {
        "worker_id": worker_id,
        "tenant_id": ACME,
        "capabilities": ("collect",),
        "capacity": 100,
        "registered_at": NOW,
        "heartbeat_at": NOW,
    }
    return store.register(Worker(**{**values, **fields}), act=entry())


def add_workflow(engine: Engine, name: str, status: str = "running", **fields: Any) -> str:
    """Add a workflow with one turn, and return its id."""
    whose = f"{name:0>32}"
    values = {
        "workflow_id": whose,
        "tenant_id": ACME,
        "name": name,
        "kind": "on_demand",
        "status": status,
        "priority": 0.0,
        "spec": {},
        "body_digest": "0" * 32,
        "created_at": NOW,
        "created_by": "kim",
        "updated_at": NOW,
        "turns": 1,
        "queued_triggers": [],
        "dropped_triggers": 0,
    }
    turn = {
        "turn_id": whose,
        "workflow_id": whose,
        "number": 1,
        "status": "running",
        "trigger_id": "t",
        "trigger": {},
        "begun_at": NOW,
    }
    with engine.begin() as connection:
        connection.execute(workflow.insert(), _whole(workflow, {**values, **fields}))
        connection.execute(workflow_turn.insert(), _whole(workflow_turn, turn))
    return whose


def add_task(engine: Engine, whose: str, source: str = "crm", **fields: Any) -> str:
    """Add a task that is ready, of a workflow's turn, and return its id."""
    step = fields.get("step", "collect")
    task_id = f"{whose[-8:]}{source}{step}".rjust(32, "0")
    values = {
        "task_id": task_id,
        "turn_id": whose,
        "workflow_id": whose,
        "tenant_id": ACME,
        "source_id": source,
        "step": "collect",
        "position": 0,
        "kind": "on_demand",
        "capability": "collect",
        "priority": 0.0,
        "importance": 0.5,
        "status": "ready",
        "attempt": 0,
        "failures": 0,
        "fencing_token": 0,
        "due_at": NOW,
        "result": {},
        "created_at": NOW,
        "ready_at": NOW,
    }
    with engine.begin() as connection:
        connection.execute(workflow_task.insert(), _whole(workflow_task, {**values, **fields}))
    return task_id


def _whole(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a 0 in every count that does not matter here."""
    counts = {c.name: 0 for c in table.columns if isinstance(c.type, Integer) and not c.nullable}
    return {**counts, **values}


def claim(store: SqlWork, worker_id: str = "w1", most: int = 10, **fields: Any) -> Granted:
    """Ask for tasks."""
    values: dict[str, Any] = {"now": NOW, "policy": POLICY, "priorities": WorkflowPolicy()}
    return store.claim_tasks({worker_id: most}, **{**values, **fields})


def must_claim(store: SqlWork, worker_id: str = "w1", **fields: Any) -> Grant:
    """Ask for one task that is there to be had."""
    (grant,) = claim(store, worker_id, 1, **fields).grants
    return grant


def told(engine: Engine, event_type: str) -> list[dict[str, Any]]:
    """Return the data of all events of a type, in order."""
    query = select(outbox_event.c.data).where(outbox_event.c.type == event_type)
    with engine.connect().execution_options(penstock_reading=True) as connection:
        return list(connection.execute(query.order_by(outbox_event.c.position)).scalars())
