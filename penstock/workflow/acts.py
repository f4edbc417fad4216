"""What people do to a workflow: pause, resume, cancel, retry, rerun; an illegal act names the legal ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from penstock.errors import IllegalMove, NothingToDo
from penstock.workflow import telling
from penstock.workflow.change import Case, Change, moved_task, moved_workflow, with_tasks
from penstock.workflow.records import Task, Trouble, Turn
from penstock.workflow.status import (
    OPEN,
    UNDONE,
    Step,
    TaskMove,
    TaskStatus,
    TurnMove,
    TurnStatus,
    WorkflowMove,
    next_turn_status,
    next_workflow_status,
)
from penstock.workflow.turns import change_of, stopped_tasks

CANCELLED = "cancelled"


def paused(case: Case, *, by: str, reason: str | None, now: datetime) -> Change:
    """Return a workflow of which nothing more is given out; what was, ends."""
    workflow = moved_workflow(case.workflow, WorkflowMove.PAUSE, now=now)
    return Change(workflow=workflow, events=(telling.paused(workflow, now, by=by, reason=reason),))


def resumed(case: Case, *, by: str, reason: str | None, now: datetime) -> Change:
    """Return a workflow that goes on: with the turn that is under way, or waiting for its next."""
    workflow = moved_workflow(case.workflow, WorkflowMove.RESUME, now=now)
    told = telling.resumed(workflow, now, by=by, reason=reason)
    under_way = {TurnStatus.RUNNING, TurnStatus.COMPENSATING}
    if case.turn is None or case.turn.status not in under_way:
        workflow = moved_workflow(workflow, WorkflowMove.WAIT, now=now)
        return Change(workflow=workflow, events=(told,))
    return change_of(case, replace(case, workflow=workflow), (told,), now=now)


def cancelled(case: Case, *, by: str, reason: str | None, now: datetime) -> Change:
    """Return a workflow of which nothing more is begun: cancelled at once if nothing of it was ever begun.

    Otherwise it is CANCELLING until what is in hand has ended and compensations have run.
    """
    trouble = Trouble(code=CANCELLED, message=reason or f"cancelled by {by}")
    workflow = moved_workflow(
        case.workflow,
        WorkflowMove.CANCEL,
        now=now,
        cancelled_by=by,
        trouble=trouble,
        queued_triggers=(),
        next_due_at=None,
    )
    turn = case.turn
    under_way = turn is not None and turn.status in {TurnStatus.RUNNING, TurnStatus.COMPENSATING}
    stopped = with_tasks(replace(case, workflow=workflow), stopped_tasks(case.tasks, trouble, now))
    if turn is not None and under_way and any(task.attempt for task in case.tasks):
        return change_of(case, replace(stopped, turn=replace(turn, trouble=trouble)), now=now)
    workflow = moved_workflow(workflow, WorkflowMove.STOPPED, now=now)
    if turn is not None and under_way:
        status = next_turn_status(turn.status, TurnMove.CANCEL)
        turn = replace(turn, status=status, ended_at=now, trouble=trouble)
    told = telling.cancelled(workflow, now)
    return change_of(case, replace(stopped, workflow=workflow, turn=turn), (told,), now=now)


def retried(case: Case, *, now: datetime) -> Change:
    """Return a workflow whose tasks that failed, or were not done because of that, are done again."""
    next_workflow_status(case.workflow.status, WorkflowMove.RETRY)
    turn = case.turn
    undone = [task for task in case.tasks if task.status in UNDONE]
    if turn is None or not undone:
        raise NothingToDo(
            f"workflow {case.workflow.workflow_id!r} has no task that failed in its last turn: rerun does again "
            "what is completed"
        )
    return _again(case, turn, undone, WorkflowMove.RETRY, now)


def rerun(case: Case, task_id: str, *, now: datetime) -> Change:
    """Return a workflow in which a task, and those of its source that follow it, are done again.

    From ``collect`` the source is extracted anew, as of now. Raises ``IllegalMove`` while one of them is open.
    """
    next_workflow_status(case.workflow.status, WorkflowMove.RERUN)
    first = case.task(task_id)
    tasks = [
        task
        for task in case.tasks
        if task.source_id == first.source_id and task.position >= first.position
    ]
    before = [
        task
        for task in case.tasks
        if task.source_id == first.source_id
        and task.position < first.position
        and task.status is not TaskStatus.COMPLETED
    ]
    if before:
        raise IllegalMove(
            f"task {before[0].task_id!r} ({before[0].step} of {first.source_id}) goes before it and is "
            f"{before[0].status}: rerun from there, or retry"
        )
    going = [task for task in tasks if task.status in OPEN]
    if going or case.turn is None:
        raise IllegalMove(
            f"task {going[0].task_id!r} ({going[0].step} of {first.source_id}) is {going[0].status}: it is done again "
            "once it has ended"
        )
    return _again(case, case.turn, tasks, WorkflowMove.RERUN, now)


def _again(case: Case, turn: Turn, tasks: list[Task], move: WorkflowMove, now: datetime) -> Change:
    if turn.status is TurnStatus.COMPENSATING:
        raise IllegalMove(
            f"turn {turn.number} of workflow {turn.workflow_id!r} is being undone: it is done again once that has ended"
        )
    if turn.status is not TurnStatus.RUNNING:
        turn = replace(turn, status=next_turn_status(turn.status, TurnMove.REOPEN), ended_at=None)
    deadline_s = case.workflow.spec.deadline_s
    deadline_at = None if deadline_s is None else now + timedelta(seconds=deadline_s)
    turn = replace(turn, trouble=None, deadline_at=deadline_at)
    workflow = moved_workflow(case.workflow, move, now=now, trouble=None)
    chosen = {task.task_id for task in tasks}
    after = [_begun_anew(case, task, chosen, deadline_at, now) for task in tasks]
    return change_of(case, with_tasks(replace(case, workflow=workflow, turn=turn), after), now=now)


def _begun_anew(
    case: Case, task: Task, chosen: set[str], deadline_at: datetime | None, now: datetime
) -> Task:
    """Return a task as it goes again: at once if what it needs is there, otherwise after the one before it."""
    before = [t for t in case.tasks if t.source_id == task.source_id and t.position < task.position]
    first = not any(t.task_id in chosen or t.status is not TaskStatus.COMPLETED for t in before)
    anew = not task.position or any(not t.position and t.task_id in chosen for t in before)
    again = "republish" if task.status in _PUBLISHED else "requeue"
    return moved_task(
        task,
        TaskMove.REDO if first else TaskMove.RESET,
        now=now,
        failures=0,
        trouble=None,
        due_at=now,
        deadline_at=deadline_at,
        moment=now if anew else task.moment,
        batch_id=None if anew else task.batch_id,
        result={"again": again} if first and task.step is Step.PUBLISH else {},
    )


_PUBLISHED = frozenset({TaskStatus.COMPLETED, TaskStatus.COMPENSATED, TaskStatus.NOT_COMPENSATED})
"""To publish a batch again after one of these, it goes back into the queue as republished."""
