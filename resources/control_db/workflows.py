"""Workflows in the control database: each change is decided by a pure function, under a lock on the workflow's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, func, select, update

from penstock.errors import NotFound
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.work import Outcome
from penstock.ports.workflows import Decide
from penstock.workflow.change import Case, Change
from penstock.workflow.records import Turn, Workflow
from penstock.workflow.status import TaskStatus
from resources.control_db.audit_log import add_act
from resources.control_db.engine import insert_into
from resources.control_db.outbox import add_events
from resources.control_db.outbox_log import readable_end
from resources.control_db.outcomes import count_outcome
from resources.control_db.workflow_lists import SqlWorkflowLists
from resources.control_db.workflow_rows import (
    task_columns,
    task_of,
    turn_columns,
    turn_of,
    workflow_columns,
    workflow_of,
)
from resources.control_db.workflow_tables import workflow, workflow_task, workflow_turn


class SqlWorkflows(SqlWorkflowLists):
    """:class:`penstock.ports.workflows.Workflows` in SQL. Threads may share one; a forked process may not."""

    def create(self, change: Change, *, act: AuditEntry) -> Workflow:
        """Store a new workflow, its first turn, events and act; or return the one that has its idempotency key."""
        with self._writing() as connection:
            new = _listening(connection, change.workflow)
            statement = insert_into(connection, workflow).on_conflict_do_nothing()
            answer = connection.execute(
                statement.returning(workflow.c.workflow_id), workflow_columns(new)
            )
            if answer.one_or_none() is not None:
                _write_new(connection, change)
                add_events(connection, change.events)
                add_act(connection, act)
                return new
        there = self.with_key(new.tenant_id, new.idempotency_key or "")
        assert there is not None, "a workflow is in the way that has another key"
        return there

    def with_key(self, tenant: TenantId, idempotency_key: str) -> Workflow | None:
        """Return the workflow that was made with an idempotency key."""
        query = select(workflow).where(
            workflow.c.tenant_id == tenant, workflow.c.idempotency_key == idempotency_key
        )
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else workflow_of(row)

    def change(
        self,
        workflow_id: str,
        decide: Decide,
        *,
        source: SourceId | None = None,
        triggers: Sequence[str] = (),
        act: AuditEntry | None = None,
        outcome: Outcome | None = None,
    ) -> Change | None:
        """Change a workflow under a lock, with events, ``act`` and ``outcome``, in one transaction; or ``NotFound``."""
        with self._writing() as connection:
            case = _read_case(connection, workflow_id, source, triggers, lock=True)
            change = decide(case)
            if change is not None:
                _write(connection, case, change)
                add_events(connection, change.events)
                if act is not None:
                    add_act(connection, act)
                if outcome is not None:
                    count_outcome(connection, outcome)
        return change

    def change_task(
        self, task_id: str, decide: Decide, *, act: AuditEntry | None = None
    ) -> Change | None:
        """Change the workflow that a task is of, with the tasks of its source in the case; or raise ``NotFound``."""
        task = self.get_task(task_id)
        return self.change(task.workflow_id, decide, source=task.source_id, act=act)

    def get_case(self, workflow_id: str) -> Case:
        """Return a workflow with its last turn and all tasks of that, or raise ``NotFound``."""
        with self._reading() as connection:
            return _read_case(connection, workflow_id, None, ())


def _listening(connection: Connection, new: Workflow) -> Workflow:
    """Return a new workflow as it is stored: one that waits for what is told hears what comes after this."""
    if new.spec.event is None or not new.spec.event.is_told:
        return new
    return replace(new, heard_to=readable_end(connection))


def _read_case(
    connection: Connection,
    workflow_id: str,
    source: SourceId | None,
    triggers: Sequence[str],
    *,
    lock: bool = False,
) -> Case:
    query = select(workflow).where(workflow.c.workflow_id == workflow_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise no_workflow(workflow_id)
    found = workflow_of(row)
    turn = _last_turn(connection, found)
    begun = _begun(connection, workflow_id, triggers)
    case = Case(workflow=found, turn=turn, begun=begun)
    if turn is None:
        return case
    mine = select(workflow_task).where(workflow_task.c.turn_id == turn.turn_id)
    others: Mapping[TaskStatus, int] = {}
    if source is not None:
        mine = mine.where(workflow_task.c.source_id == source)
        others = _others(connection, turn, source)
    mine = mine.order_by(workflow_task.c.source_id, workflow_task.c.position)
    rows = connection.execute(mine.with_for_update() if lock else mine).mappings()
    return replace(case, tasks=[task_of(row) for row in rows], others=others)


def no_workflow(workflow_id: str) -> NotFound:
    """Return the error of an id that names no workflow."""
    return NotFound(
        f"workflow {workflow_id!r} is not there: `penstock workflows list` lists what is"
    )


def _last_turn(connection: Connection, of: Workflow) -> Turn | None:
    if not of.turns:
        return None
    query = select(workflow_turn).where(
        workflow_turn.c.workflow_id == of.workflow_id, workflow_turn.c.number == of.turns
    )
    return turn_of(connection.execute(query).mappings().one())


def _begun(connection: Connection, workflow_id: str, triggers: Sequence[str]) -> frozenset[str]:
    if not triggers:
        return frozenset()
    query = select(workflow_turn.c.trigger_id).where(
        workflow_turn.c.workflow_id == workflow_id, workflow_turn.c.trigger_id.in_(triggers)
    )
    return frozenset(connection.execute(query).scalars())


def _others(connection: Connection, turn: Turn, source: SourceId) -> dict[TaskStatus, int]:
    task = workflow_task.c
    query = (
        select(task.status, func.count())
        .where(task.turn_id == turn.turn_id, task.source_id != source)
        .group_by(task.status)
    )
    return {TaskStatus(status): count for status, count in connection.execute(query)}


def _write(connection: Connection, before: Case, change: Change) -> None:
    if change.workflow != before.workflow:
        old, new = workflow_columns(before.workflow), workflow_columns(change.workflow)
        _update(connection, workflow, old, new)
    known = {task.task_id: task for task in before.tasks}
    if change.turn is not None and (
        before.turn is None or change.turn.turn_id != before.turn.turn_id
    ):
        _write_new(connection, change)
        return
    if change.turn is not None and before.turn is not None:
        _update(connection, workflow_turn, turn_columns(before.turn), turn_columns(change.turn))
    for task in change.tasks:
        _update(connection, workflow_task, task_columns(known[task.task_id]), task_columns(task))


def _write_new(connection: Connection, change: Change) -> None:
    """Store a turn that has just begun, and its tasks."""
    if change.turn is not None:
        connection.execute(workflow_turn.insert(), turn_columns(change.turn))
    if change.tasks:
        connection.execute(workflow_task.insert(), [task_columns(task) for task in change.tasks])


def _update(
    connection: Connection, table: Table, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Store what differs between two versions of a row."""
    changed = {name: value for name, value in after.items() if before[name] != value}
    key = next(iter(table.primary_key))
    if changed:
        connection.execute(update(table).where(key == after[key.name]).values(**changed))
