"""Rows of the workflow tables as the domain's values, and back."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from penstock.events.envelope import OutboxCursor
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.workflow.records import Task, Trigger, Trouble, Turn, Workflow
from penstock.workflow.spec import Compensation, WorkflowSpec
from penstock.workflow.status import Step, TaskStatus, TurnStatus, WorkflowKind, WorkflowStatus
from resources.control_db.rows import storable_json, storable_text

_TASK = tuple(field.name for field in fields(Task) if field.name != "trouble")
_TURN = tuple(field.name for field in fields(Turn) if field.name not in {"trouble", "trigger"})
_PLAIN = {"trouble", "spec", "queued_triggers", "heard_to"}
_WORKFLOW = tuple(field.name for field in fields(Workflow) if field.name not in _PLAIN)


def workflow_of(row: Mapping[Any, Any]) -> Workflow:
    """Read a workflow from its row."""
    values = {name: row[name] for name in _WORKFLOW}
    values["status"] = WorkflowStatus(row["status"])
    return Workflow(
        **values,
        spec=_spec_of(json.dumps(row["spec"])),
        queued_triggers=tuple(_trigger_of(each) for each in row["queued_triggers"]),
        heard_to=_heard_to(row),
        trouble=_trouble_of(row),
    )


@functools.lru_cache(maxsize=4096)
def _spec_of(text: str) -> WorkflowSpec:
    return WorkflowSpec.model_validate_json(text)


def workflow_columns(workflow: Workflow) -> dict[str, Any]:
    """Return the columns of a workflow."""
    columns = {name: getattr(workflow, name) for name in _WORKFLOW}
    return {
        **columns,
        **_trouble_columns(workflow.trouble),
        "status": str(workflow.status),
        "created_by": storable_text(workflow.created_by),
        "cancelled_by": storable_text(workflow.cancelled_by),
        "idempotency_key": storable_text(workflow.idempotency_key),
        "name": storable_text(workflow.spec.name),
        "kind": str(workflow.kind),
        "priority": workflow.spec.priority,
        "spec": storable_json(workflow.spec.model_dump(mode="json")),
        "queued_triggers": [_trigger_json(each) for each in workflow.queued_triggers],
        "queued_count": len(workflow.queued_triggers),
        "heard_transaction": None if workflow.heard_to is None else workflow.heard_to.transaction,
        "heard_position": None if workflow.heard_to is None else workflow.heard_to.position,
    }


def _heard_to(row: Mapping[Any, Any]) -> OutboxCursor | None:
    if row["heard_position"] is None:
        return None
    return OutboxCursor(transaction=row["heard_transaction"], position=row["heard_position"])


def turn_of(row: Mapping[Any, Any]) -> Turn:
    """Read a turn from its row."""
    values = {name: row[name] for name in _TURN}
    values["status"] = TurnStatus(row["status"])
    return Turn(**values, trigger=_trigger_of(row["trigger"]), trouble=_trouble_of(row))


def turn_columns(turn: Turn) -> dict[str, Any]:
    """Return the columns of a turn."""
    return {
        **{name: getattr(turn, name) for name in _TURN},
        **_trouble_columns(turn.trouble),
        "status": str(turn.status),
        "trigger_id": storable_text(turn.trigger.trigger_id),
        "trigger": _trigger_json(turn.trigger),
    }


def task_of(row: Mapping[Any, Any]) -> Task:
    """Read a task from its row."""
    values = {name: row[name] for name in _TASK}
    compensation, batch = row["compensation"], row["batch_id"]
    values |= {
        "tenant_id": TenantId(row["tenant_id"]),
        "source_id": SourceId(row["source_id"]),
        "step": Step(row["step"]),
        "kind": WorkflowKind(row["kind"]),
        "status": TaskStatus(row["status"]),
        "compensation": None if compensation is None else Compensation(compensation),
        "batch_id": None if batch is None else BatchId(batch),
    }
    return Task(**values, trouble=_trouble_of(row))


def task_columns(task: Task) -> dict[str, Any]:
    """Return the columns of a task."""
    compensation = task.compensation
    return {
        **{name: getattr(task, name) for name in _TASK},
        **_trouble_columns(task.trouble),
        "step": str(task.step),
        "kind": str(task.kind),
        "status": str(task.status),
        "compensation": None if compensation is None else str(compensation),
        "worker_id": storable_text(task.worker_id),
        "run_id": storable_text(task.run_id),
        "result": storable_json(dict(task.result)),
    }


def _trouble_of(row: Mapping[Any, Any]) -> Trouble | None:
    if row["error_code"] is None:
        return None
    return Trouble(code=row["error_code"], message=row["error_message"])


def _trouble_columns(trouble: Trouble | None) -> dict[str, Any]:
    if trouble is None:
        return {"error_code": None, "error_message": None}
    return {
        "error_code": storable_text(trouble.code),
        "error_message": storable_text(trouble.message),
    }


def _trigger_json(trigger: Trigger) -> dict[str, Any]:
    values: dict[str, Any] = storable_json({**asdict(trigger), "at": trigger.at.isoformat()})
    return values


def _trigger_of(values: Mapping[str, Any]) -> Trigger:
    return Trigger(**{**values, "at": datetime.fromisoformat(values["at"])})
