"""How a workflow is changed: a pure function takes a :class:`Case` and returns the :class:`Change` to make of it.

The store reads the case under a lock, calls the function, and writes the change with its events in one transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from penstock.errors import NotFound
from penstock.events.envelope import NewEvent
from penstock.workflow.records import Task, Turn, Workflow
from penstock.workflow.status import (
    IN_HAND,
    TaskMove,
    TaskStatus,
    WorkflowMove,
    next_task_status,
    next_workflow_status,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One workflow as it stands, as far as a change has to know."""

    workflow: Workflow
    turn: Turn | None = None
    """The last one, whether it has ended or not."""
    tasks: Sequence[Task] = ()
    """Of the turn: all of them, or those of one source; by source and position."""
    others: Mapping[TaskStatus, int] = field(default_factory=dict)
    """How many of the turn's other tasks stand where."""
    begun: frozenset[str] = frozenset()
    """Of the triggers asked about, those that have begun a turn already."""

    def task(self, task_id: str) -> Task:
        """Return one of its tasks; raises ``NotFound`` for one that is of an earlier turn."""
        for task in self.tasks:
            if task.task_id == task_id:
                return task
        raise NotFound(
            f"task {task_id!r} is not of the last turn of workflow {self.workflow.workflow_id!r}: "
            f"`penstock workflows show {self.workflow.workflow_id}` lists what is"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a workflow becomes."""

    workflow: Workflow
    turn: Turn | None = None
    """The turn that is new or changed, or None."""
    tasks: tuple[Task, ...] = ()
    """Those that are new or changed."""
    events: tuple[NewEvent, ...] = ()


def with_tasks(case: Case, tasks: Sequence[Task]) -> Case:
    """Return a case in which these tasks stand as given."""
    changed = {task.task_id: task for task in tasks}
    return replace(case, tasks=[changed.get(task.task_id, task) for task in case.tasks])


def changed_tasks(before: Case, after: Case) -> tuple[Task, ...]:
    """Return the tasks of ``after`` that are not as they were."""
    old = {task.task_id: task for task in before.tasks}
    return tuple(task for task in after.tasks if old.get(task.task_id) != task)


def counted(case: Case) -> Counter[TaskStatus]:
    """Return how many of the turn's tasks stand where."""
    return Counter(case.others) + Counter(task.status for task in case.tasks)


def moved_task(task: Task, move: TaskMove, *, now: datetime, **changes: Any) -> Task:
    """Return a task after ``move``, with its moments set; raises ``IllegalMove``."""
    status = next_task_status(task.status, move)
    effects: dict[str, Any] = {}
    match move:
        case TaskMove.RELEASE | TaskMove.REDO:
            effects = {"ready_at": now, "due_at": now, "ended_at": None}
        case TaskMove.POSTPONE:
            effects = {"ready_at": now}
        case TaskMove.CLAIM:
            effects = {"assigned_at": now, "started_at": None, "attempt": task.attempt + 1}
        case TaskMove.START:
            effects = {"started_at": now}
        case TaskMove.RESET:
            effects = {"ready_at": None, "ended_at": None}
        case TaskMove.COMPLETE | TaskMove.FAIL | TaskMove.SKIP | TaskMove.CANCEL:
            effects = {"ended_at": now}
        case _:
            pass
    if status not in IN_HAND:
        effects["lease_expires_at"] = None
    if status in {TaskStatus.PENDING, TaskStatus.READY}:
        effects["worker_id"] = None
    return replace(task, status=status, **{**effects, **changes})


def moved_workflow(
    workflow: Workflow, move: WorkflowMove, *, now: datetime, **changes: Any
) -> Workflow:
    """Return a workflow after ``move``; raises ``IllegalMove``."""
    status = next_workflow_status(workflow.status, move)
    ends = move in {WorkflowMove.COMPLETE, WorkflowMove.FAIL, WorkflowMove.STOPPED}
    moments = {"updated_at": now, "ended_at": now if ends else None}
    return replace(workflow, status=status, **{**moments, **changes})
