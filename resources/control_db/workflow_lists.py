"""Looking through the workflows: for people, page by page, and for what is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select, text, tuple_

from penstock.errors import NotFound
from penstock.identity.ids import BatchId, split_batch_id
from penstock.ports.workflows import Followed, Place, WorkflowFilter
from penstock.publish.state import SETTLED, PublishState
from penstock.workflow.records import Task, Turn, Workflow
from penstock.workflow.status import (
    ENDED,
    Step,
    TaskStatus,
    TurnStatus,
    WorkflowKind,
    WorkflowStatus,
)
from resources.control_db.engine import Database
from resources.control_db.rows import STATE_COLUMNS, state_of
from resources.control_db.tables import batch, dead_letter, publish_state
from resources.control_db.workflow_rows import task_of, turn_of, workflow_of
from resources.control_db.workflow_tables import (
    HELD,
    READY,
    UNDER_WAY,
    workflow,
    workflow_task,
    workflow_turn,
)

# Conditions of the partial indexes, in their words: with bound values no database would use them.
_HELD = text(f"workflow_task.{HELD}")
_READY = text(f"workflow_task.{READY}")
_UNDER_WAY = text(f"workflow_turn.{UNDER_WAY}")
_NOT_ENDED = [str(status) for status in WorkflowStatus if status not in ENDED]
_WAITING_FOR_EVENTS = [s for s in _NOT_ENDED if s != WorkflowStatus.CANCELLING]
_SETTLED = [str(status) for status in SETTLED]
_BATCHES_AT_ONCE = 500


class SqlWorkflowLists(Database):
    """The queries of :class:`penstock.ports.workflows.Workflows`."""

    def get_workflow(self, workflow_id: str) -> Workflow:
        """Return one workflow, or raise ``NotFound``."""
        found = self._workflows(select(workflow).where(workflow.c.workflow_id == workflow_id))
        if not found:
            raise NotFound(
                f"workflow {workflow_id!r} is not there: `penstock workflows list` lists what is"
            )
        return found[0]

    def list_workflows(
        self, wanted: WorkflowFilter, *, limit: int = 100, after: Place | None = None
    ) -> list[Workflow]:
        """Return workflows, newest first."""
        made, own_id = workflow.c.created_at, workflow.c.workflow_id
        query = select(workflow).order_by(made.desc(), own_id.desc()).limit(limit)
        if wanted.tenant_id is not None:
            query = query.where(workflow.c.tenant_id == wanted.tenant_id)
        if wanted.statuses:
            query = query.where(workflow.c.status.in_([str(s) for s in wanted.statuses]))
        if wanted.kinds:
            query = query.where(workflow.c.kind.in_([str(k) for k in wanted.kinds]))
        if wanted.source_id is not None:
            task = workflow_task.c
            mine = and_(task.source_id == wanted.source_id, task.workflow_id == own_id)
            query = query.where(exists().where(mine))
        if after is not None:
            query = query.where(or_(made < after.at, and_(made == after.at, own_id < after.id)))
        return self._workflows(query)

    def get_task(self, task_id: str) -> Task:
        """Return one task, or raise ``NotFound``."""
        found = self._tasks(select(workflow_task).where(workflow_task.c.task_id == task_id))
        if not found:
            raise NotFound(
                f"task {task_id!r} is not there: `penstock workflows show <id>` lists a workflow's"
            )
        return found[0]

    def list_turns(self, workflow_id: str, *, limit: int = 100) -> list[Turn]:
        """Return a workflow's turns, newest first."""
        query = (
            select(workflow_turn)
            .where(workflow_turn.c.workflow_id == workflow_id)
            .order_by(workflow_turn.c.number.desc())
            .limit(limit)
        )
        with self._reading() as connection:
            return [turn_of(row) for row in connection.execute(query).mappings()]

    def get_turn(self, workflow_id: str, number: int) -> Turn:
        """Return one turn of a workflow, or raise ``NotFound``."""
        turn = workflow_turn.c
        query = select(workflow_turn).where(turn.workflow_id == workflow_id, turn.number == number)
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(
                f"workflow {workflow_id!r} has no turn {number}: `penstock workflows show` lists them"
            )
        return turn_of(row)

    def list_tasks(
        self,
        workflow_id: str,
        *,
        turn_id: str | None = None,
        statuses: Sequence[TaskStatus] = (),
        limit: int = 1000,
        after: tuple[str, int] | None = None,
    ) -> list[Task]:
        """Return tasks of a turn, by source and position. Without a turn, of the last one."""
        task = workflow_task.c
        last = (
            select(workflow_turn.c.turn_id)
            .where(workflow_turn.c.workflow_id == workflow_id)
            .order_by(workflow_turn.c.number.desc())
            .limit(1)
            .scalar_subquery()
        )
        query = (
            select(workflow_task)
            .where(task.workflow_id == workflow_id)
            .where(task.turn_id == (last if turn_id is None else turn_id))
            .order_by(task.source_id, task.position)
            .limit(limit)
        )
        if statuses:
            query = query.where(task.status.in_([str(status) for status in statuses]))
        if after is not None:
            query = query.where(tuple_(task.source_id, task.position) > tuple_(*after))
        return self._tasks(query)

    def count_tasks(self, workflow_ids: Sequence[str]) -> dict[str, dict[TaskStatus, int]]:
        """Return how many tasks of each workflow's last turn stand where."""
        task, turn = workflow_task.c, workflow_turn.c
        query = (
            select(task.workflow_id, task.status, func.count())
            .join(workflow_turn, turn.turn_id == task.turn_id)
            .join(workflow, workflow.c.workflow_id == turn.workflow_id)
            .where(task.workflow_id.in_(workflow_ids), turn.number == workflow.c.turns)
            .group_by(task.workflow_id, task.status)
        )
        counts: dict[str, dict[TaskStatus, int]] = {each: {} for each in workflow_ids}
        with self._reading() as connection:
            for workflow_id, status, count in connection.execute(query):
                counts[workflow_id][TaskStatus(status)] = count
        return counts

    def scheduled_due(self, now: datetime, *, limit: int) -> list[Workflow]:
        """Return workflows whose schedule is due, the longest overdue first."""
        query = (
            select(workflow)
            .where(workflow.c.status.in_(_NOT_ENDED), workflow.c.next_due_at <= now)
            .order_by(workflow.c.next_due_at, workflow.c.workflow_id)
            .limit(limit)
        )
        return self._workflows(query)

    def waiting_for_event(self, *event_types: str) -> list[Workflow]:
        """Return the event-driven workflows that have not ended and wait for one of some types of events."""
        query = (
            select(workflow)
            .where(workflow.c.kind == str(WorkflowKind.EVENT_DRIVEN))
            .where(workflow.c.status.in_(_WAITING_FOR_EVENTS))
            .where(workflow.c.spec["event"]["type"].as_string().in_(event_types))
            .order_by(workflow.c.workflow_id)
        )
        return self._workflows(query)

    def behind_batch(self, batch: BatchId) -> list[Workflow]:
        """Return the event-driven workflows that have, or had, a task that a batch is of, ended or not."""
        source, moment = split_batch_id(batch)
        task = workflow_task.c
        driven = task.kind == str(WorkflowKind.EVENT_DRIVEN)
        says_so = select(task.workflow_id).where(driven, task.batch_id == batch)
        of_moment = select(task.workflow_id).where(
            driven, task.source_id == source, task.moment == moment
        )
        query = select(workflow).where(workflow.c.workflow_id.in_(says_so.union(of_moment)))
        return self._workflows(query.order_by(workflow.c.workflow_id))

    def with_queued_triggers(self, *, limit: int) -> list[Workflow]:
        """Return workflows that are WAITING though something has fired meanwhile."""
        query = (
            select(workflow)
            .where(workflow.c.status == str(WorkflowStatus.WAITING))
            .where(workflow.c.queued_count > 0)
            .order_by(workflow.c.updated_at, workflow.c.workflow_id)
            .limit(limit)
        )
        return self._workflows(query)

    def expired_tasks(self, now: datetime, *, limit: int) -> list[Task]:
        """Return tasks in hand whose lease has expired, the longest first."""
        task = workflow_task.c
        query = (
            select(workflow_task)
            .where(_HELD, task.lease_expires_at <= now)
            .order_by(task.lease_expires_at, task.task_id)
            .limit(limit)
        )
        return self._tasks(query)

    def overdue(self, now: datetime, *, limit: int) -> list[str]:
        """Return the ids of RUNNING workflows whose turn's deadline has passed and that still go on."""
        turn = workflow_turn.c
        query = (
            select(turn.workflow_id)
            .join(workflow, workflow.c.workflow_id == turn.workflow_id)
            .where(workflow.c.status == str(WorkflowStatus.RUNNING))
            .where(_UNDER_WAY, turn.status == str(TurnStatus.RUNNING))
            .where(turn.deadline_at <= now, turn.error_code.is_(None))
            .order_by(turn.deadline_at, turn.turn_id)
            .limit(limit)
        )
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def followed(self, *, limit: int) -> list[Followed]:
        """Return the publish tasks of which something is to be done, with the states of their batches."""
        task, state = workflow_task.c, publish_state.c
        to_publish = select(workflow_task).where(task.step == str(Step.PUBLISH)).limit(limit)
        on_its_way = and_(state.batch_id == task.batch_id, state.status.not_in(_SETTLED))
        ended = or_(task.status == str(TaskStatus.STOPPING), ~exists().where(on_its_way))
        held = to_publish.where(_HELD, ended).order_by(task.ready_at, task.task_id)
        is_known = or_(
            task.batch_id.is_(None),
            exists().where(batch.c.batch_id == task.batch_id),
            exists().where(dead_letter.c.subject == task.batch_id),
        )
        ready = (
            to_publish.join(workflow, workflow.c.workflow_id == task.workflow_id)
            .where(_READY, workflow.c.status == str(WorkflowStatus.RUNNING), is_known)
            .order_by(task.ready_at, task.task_id)
        )
        tasks = [*self._tasks(held), *self._tasks(ready)]
        states = self._states({task.batch_id for task in tasks if task.batch_id})
        return [
            Followed(task=task, states=tuple(states.get(task.batch_id or "", ()))) for task in tasks
        ]

    def _states(self, batches: set[Any]) -> dict[str, list[PublishState]]:
        listed = sorted(batches)
        found: dict[str, list[PublishState]] = {}
        with self._reading() as connection:
            for start in range(0, len(listed), _BATCHES_AT_ONCE):
                some = listed[start : start + _BATCHES_AT_ONCE]
                query = (
                    select(*STATE_COLUMNS)
                    .where(publish_state.c.batch_id.in_(some))
                    .order_by(publish_state.c.batch_id, publish_state.c.target_id)
                )
                for row in connection.execute(query):
                    state = state_of(row)
                    found.setdefault(state.batch_id, []).append(state)
        return found

    def compensating(self, *, limit: int) -> list[str]:
        """Return the ids of workflows, RUNNING or CANCELLING, whose turn is being undone."""
        turn = workflow_turn.c
        going = [str(WorkflowStatus.RUNNING), str(WorkflowStatus.CANCELLING)]
        query = (
            select(turn.workflow_id)
            .join(workflow, workflow.c.workflow_id == turn.workflow_id)
            .where(_UNDER_WAY, turn.status == str(TurnStatus.COMPENSATING))
            .where(workflow.c.status.in_(going))
            .order_by(turn.begun_at, turn.turn_id)
            .limit(limit)
        )
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def tasks_of(self, worker_id: str) -> list[Task]:
        """Return the tasks that a worker has in hand, by id."""
        task = workflow_task.c
        query = select(workflow_task).where(_HELD, task.worker_id == worker_id)
        return self._tasks(query.order_by(task.task_id))

    def get_tasks(self, task_ids: Sequence[str]) -> list[Task]:
        """Return those of these tasks that are there, by id."""
        query = select(workflow_task).where(workflow_task.c.task_id.in_(task_ids))
        return self._tasks(query.order_by(workflow_task.c.task_id))

    def _workflows(self, query: Select[Any]) -> list[Workflow]:
        with self._reading() as connection:
            return [workflow_of(row) for row in connection.execute(query).mappings()]

    def _tasks(self, query: Select[Any]) -> list[Task]:
        with self._reading() as connection:
            return [task_of(row) for row in connection.execute(query).mappings()]
