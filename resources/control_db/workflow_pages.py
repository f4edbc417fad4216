"""Changing one workflow by many reports in one transaction: read once, decided one after another, written once.

Workers that end at the same moment would otherwise wait for each other at the workflow's row, each for a dozen
statements of those before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from penstock.errors import PenstockError
from penstock.events.envelope import NewEvent
from penstock.identity.ids import SourceId
from penstock.ports.work import Outcome
from penstock.ports.workflows import Asked
from penstock.workflow.change import Case, Change
from penstock.workflow.records import Task, Turn, Workflow
from penstock.workflow.status import TaskStatus
from resources.control_db.outbox import add_events
from resources.control_db.outcomes import count_outcomes
from resources.control_db.workflow_cases import (
    begins_turn,
    counts_of_others,
    last_turn,
    no_workflow,
    update_row,
    write_change,
)
from resources.control_db.workflow_rows import (
    task_columns,
    task_of,
    turn_columns,
    workflow_columns,
    workflow_of,
)
from resources.control_db.workflow_tables import workflow, workflow_task, workflow_turn


def changed_by_each(
    connection: Connection, workflow_id: str, asked: Sequence[Asked]
) -> list[Change | PenstockError | None]:
    """Change a workflow by one after another; return what came of each, or its error.

    Where one begins another turn, those after it are left: what they are decided by has to be read anew.
    """
    query = select(workflow).where(workflow.c.workflow_id == workflow_id).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return [no_workflow(workflow_id) for _ in asked]
    found = workflow_of(row)
    page = _Page(connection, found, last_turn(connection, found), {each.source for each in asked})
    for each in asked:
        if page.is_over:
            break
        page.change(each)
    page.write()
    return page.answers


class _Page:
    """A workflow as it stands after some of the changes of a page."""

    def __init__(
        self, connection: Connection, found: Workflow, turn: Turn | None, sources: set[SourceId]
    ) -> None:
        self._connection = connection
        self._workflow, self._turn = found, turn
        self._before = (found, turn)
        self._tasks: dict[SourceId, list[Task]] = defaultdict(list)
        self._elsewhere: Counter[TaskStatus] = Counter()
        if turn is not None:
            self._read_tasks(turn, sources)
        self._tasks_before = {task.task_id: task for task in self._all_tasks()}
        self._events: list[NewEvent] = []
        self._outcomes: list[Outcome] = []
        self._last: tuple[Case, Change] | None = None
        """The change that begins another turn, which is the last one here, with its case."""
        self.answers: list[Change | PenstockError | None] = []

    @property
    def is_over(self) -> bool:
        """Whether another turn has begun."""
        return self._last is not None

    def change(self, asked: Asked) -> None:
        """Decide what becomes of the workflow, as it stands by now."""
        case = self._case(asked.source)
        try:
            change = asked.decide(case)
        except PenstockError as error:
            self.answers.append(error)
            return
        self.answers.append(change)
        if change is None:
            return
        self._events += change.events
        if asked.outcome is not None:
            self._outcomes.append(asked.outcome)
        if begins_turn(self._turn, change):
            self._last = (case, change)
            return
        self._workflow, self._turn = change.workflow, change.turn or self._turn
        changed = {task.task_id: task for task in change.tasks}
        mine = self._tasks[asked.source]
        self._tasks[asked.source] = [changed.get(task.task_id, task) for task in mine]

    def write(self) -> None:
        """Store what has come of it, with all events and outcomes."""
        workflow_before, turn_before = self._before
        if self._workflow != workflow_before:
            old, new = workflow_columns(workflow_before), workflow_columns(self._workflow)
            update_row(self._connection, workflow, old, new)
        if self._turn is not None and turn_before is not None and self._turn != turn_before:
            update_row(
                self._connection,
                workflow_turn,
                turn_columns(turn_before),
                turn_columns(self._turn),
            )
        _update_tasks(self._connection, self._tasks_before, self._all_tasks())
        if self._last is not None:
            write_change(self._connection, *self._last)
        add_events(self._connection, self._events)
        count_outcomes(self._connection, self._outcomes)

    def _read_tasks(self, turn: Turn, sources: set[SourceId]) -> None:
        task = workflow_task.c
        query = select(workflow_task).where(
            task.turn_id == turn.turn_id, task.source_id.in_(sorted(sources))
        )
        query = query.order_by(task.source_id, task.position).with_for_update()
        for row in self._connection.execute(query).mappings():
            found = task_of(row)
            self._tasks[found.source_id].append(found)
        self._elsewhere.update(counts_of_others(self._connection, turn, sources))

    def _all_tasks(self) -> Iterable[Task]:
        return [task for tasks in self._tasks.values() for task in tasks]

    def _case(self, source: SourceId) -> Case:
        others = Counter(self._elsewhere)
        for name, tasks in self._tasks.items():
            if name != source:
                others.update(task.status for task in tasks)
        return Case(
            workflow=self._workflow,
            turn=self._turn,
            tasks=list(self._tasks.get(source, ())),
            others=others,
        )


def _update_tasks(
    connection: Connection, before: Mapping[str, Task], after: Iterable[Task]
) -> None:
    """Store what differs of tasks: one statement for all in which the same columns do."""
    pages: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for task in after:
        if task == before[task.task_id]:
            continue
        old, new = task_columns(before[task.task_id]), task_columns(task)
        names = tuple(name for name, value in new.items() if value != old[name])
        values = {f"new_{name}": new[name] for name in names}
        pages[names].append({"of_task": task.task_id, **values})
    for names, rows in pages.items():
        statement = update(workflow_task).where(workflow_task.c.task_id == bindparam("of_task"))
        connection.execute(
            statement.values({name: bindparam(f"new_{name}") for name in names}), rows
        )
