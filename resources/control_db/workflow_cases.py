"""Reading the case that a change of a workflow is decided by, and writing what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, func, select, update

from penstock.errors import NotFound
from penstock.identity.ids import SourceId
from penstock.workflow.change import Case, Change
from penstock.workflow.records import Turn, Workflow
from penstock.workflow.status import TaskStatus
from resources.control_db.workflow_rows import (
    task_columns,
    task_of,
    turn_columns,
    turn_of,
    workflow_columns,
    workflow_of,
)
from resources.control_db.workflow_tables import workflow, workflow_task, workflow_turn


def read_case(
    connection: Connection,
    workflow_id: str,
    source: SourceId | None,
    triggers: Sequence[str],
    *,
    lock: bool = False,
) -> Case:
    """Return a workflow as a change has to know it, with the tasks of one source or all; or raise ``NotFound``."""
    query = select(workflow).where(workflow.c.workflow_id == workflow_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise no_workflow(workflow_id)
    found = workflow_of(row)
    turn = last_turn(connection, found)
    begun = begun_of(connection, workflow_id, triggers)
    case = Case(workflow=found, turn=turn, begun=begun)
    if turn is None:
        return case
    mine = select(workflow_task).where(workflow_task.c.turn_id == turn.turn_id)
    others: Mapping[TaskStatus, int] = {}
    if source is not None:
        mine = mine.where(workflow_task.c.source_id == source)
        others = counts_of_others(connection, turn, [source])
    mine = mine.order_by(workflow_task.c.source_id, workflow_task.c.position)
    rows = connection.execute(mine.with_for_update() if lock else mine).mappings()
    return replace(case, tasks=[task_of(row) for row in rows], others=others)


def no_workflow(workflow_id: str) -> NotFound:
    """Return the error of an id that names no workflow."""
    return NotFound(
        f"workflow {workflow_id!r} is not there: `penstock workflows list` lists what is"
    )


def last_turn(connection: Connection, of: Workflow) -> Turn | None:
    """Return a workflow's last turn, whether it has ended or not."""
    if not of.turns:
        return None
    query = select(workflow_turn).where(
        workflow_turn.c.workflow_id == of.workflow_id, workflow_turn.c.number == of.turns
    )
    return turn_of(connection.execute(query).mappings().one())


def begun_of(connection: Connection, workflow_id: str, triggers: Sequence[str]) -> frozenset[str]:
    """Return those of these triggers that have begun a turn."""
    if not triggers:
        return frozenset()
    query = select(workflow_turn.c.trigger_id).where(
        workflow_turn.c.workflow_id == workflow_id, workflow_turn.c.trigger_id.in_(triggers)
    )
    return frozenset(connection.execute(query).scalars())


def counts_of_others(
    connection: Connection, turn: Turn, sources: Collection[SourceId]
) -> dict[TaskStatus, int]:
    """Return how many tasks of a turn stand where, without those of some sources."""
    task = workflow_task.c
    query = (
        select(task.status, func.count())
        .where(task.turn_id == turn.turn_id, task.source_id.not_in(sorted(sources)))
        .group_by(task.status)
    )
    return {TaskStatus(status): count for status, count in connection.execute(query)}


def begins_turn(before: Turn | None, change: Change) -> bool:
    """Say whether a change begins another turn."""
    return change.turn is not None and (before is None or change.turn.turn_id != before.turn_id)


def write_change(connection: Connection, before: Case, change: Change) -> None:
    """Store what a case has become, without events."""
    if change.workflow != before.workflow:
        old, new = workflow_columns(before.workflow), workflow_columns(change.workflow)
        update_row(connection, workflow, old, new)
    known = {task.task_id: task for task in before.tasks}
    if begins_turn(before.turn, change):
        write_new(connection, change)
        return
    if change.turn is not None and before.turn is not None:
        update_row(connection, workflow_turn, turn_columns(before.turn), turn_columns(change.turn))
    for task in change.tasks:
        update_row(connection, workflow_task, task_columns(known[task.task_id]), task_columns(task))


def write_new(connection: Connection, change: Change) -> None:
    """Store a turn that has just begun, and its tasks."""
    if change.turn is not None:
        connection.execute(workflow_turn.insert(), turn_columns(change.turn))
    if change.tasks:
        connection.execute(workflow_task.insert(), [task_columns(task) for task in change.tasks])


def update_row(
    connection: Connection, table: Table, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Store what differs between two versions of a row."""
    changed = {name: value for name, value in after.items() if before[name] != value}
    key = next(iter(table.primary_key))
    if changed:
        connection.execute(update(table).where(key == after[key.name]).values(**changed))
