"""How turns begin and end: what a trigger does, what follows when no task is open, deadlines and compensation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from penstock.batch.source import SourceSpec
from penstock.events.envelope import NewEvent, OutboxCursor
from penstock.workflow import telling
from penstock.workflow.change import (
    Case,
    Change,
    changed_tasks,
    counted,
    moved_task,
    moved_workflow,
    with_tasks,
)
from penstock.workflow.records import Task, Trigger, Trouble, Turn, Workflow
from penstock.workflow.spec import TriggerPolicy
from penstock.workflow.status import (
    ENDED,
    IN_HAND,
    OPEN,
    REPEATING,
    Step,
    TaskMove,
    TaskStatus,
    TurnMove,
    TurnStatus,
    WorkflowKind,
    WorkflowMove,
    WorkflowStatus,
    next_turn_status,
)

MOST_QUEUED = 100
"""Triggers that wait for their turn; what fires beyond them is dropped, and counted."""
NO_SOURCES = "no_sources"
DEADLINE_PASSED = "deadline_passed"
TASKS_FAILED = "tasks_failed"


def triggered(
    case: Case,
    trigger: Trigger,
    chosen: Sequence[SourceSpec],
    *,
    now: datetime,
    new_id: Callable[[], str],
    next_due_at: datetime | None = None,
    heard_to: OutboxCursor | None = None,
) -> Change | None:
    """Return what a trigger does: it begins a turn, waits, or is dropped; None where it has had its effect already.

    ``heard_to`` is where it stands in the outbox, if it is from there.
    """
    workflow = case.workflow
    if heard_to is not None:
        if workflow.heard_to is not None and heard_to <= workflow.heard_to:
            return None
        workflow = replace(workflow, heard_to=heard_to)
    if next_due_at is not None:
        workflow = replace(workflow, next_due_at=next_due_at)
    queued = workflow.queued_triggers
    known = trigger.trigger_id in {waiting.trigger_id for waiting in queued}
    if workflow.status in ENDED or known or trigger.trigger_id in case.begun:
        return None if workflow == case.workflow else Change(workflow=workflow)
    if workflow.status is WorkflowStatus.WAITING and not queued:
        return begun(replace(case, workflow=workflow), trigger, chosen, now=now, new_id=new_id)
    # A schedule that could not be kept is kept up with once, not once for every time that it was due.
    most = 1 if workflow.kind is WorkflowKind.SCHEDULED else MOST_QUEUED
    stopping = workflow.status is WorkflowStatus.CANCELLING
    policy = workflow.spec.trigger_policy
    if stopping or policy is TriggerPolicy.DROP or len(queued) >= most:
        return Change(workflow=replace(workflow, dropped_triggers=workflow.dropped_triggers + 1))
    return Change(workflow=replace(workflow, queued_triggers=(*queued, trigger)))


def begun(
    case: Case,
    trigger: Trigger,
    chosen: Sequence[SourceSpec],
    *,
    now: datetime,
    new_id: Callable[[], str],
) -> Change:
    """Return a workflow that is WAITING with its next turn begun: its first tasks are ready."""
    workflow = moved_workflow(
        case.workflow,
        WorkflowMove.START,
        now=now,
        turns=case.workflow.turns + 1,
        queued_triggers=tuple(
            waiting
            for waiting in case.workflow.queued_triggers
            if waiting.trigger_id != trigger.trigger_id
        ),
    )
    deadline_s = workflow.spec.deadline_s
    turn = Turn(
        turn_id=new_id(),
        workflow_id=workflow.workflow_id,
        number=workflow.turns,
        status=TurnStatus.RUNNING,
        trigger=trigger,
        begun_at=now,
        deadline_at=None if deadline_s is None else now + timedelta(seconds=deadline_s),
    )
    tasks = tuple(
        _new_task(workflow, turn, spec, step, position, new_id(), now)
        for spec in chosen
        for position, step in enumerate(workflow.spec.steps)
    )
    told = telling.started(workflow, turn, [spec.source_id for spec in chosen], now)
    begins = Case(workflow=workflow, turn=turn, tasks=tasks)
    after, events = settled(begins, now=now)
    return Change(workflow=after.workflow, turn=after.turn, tasks=tasks, events=(told, *events))


def next_begun(
    case: Case,
    trigger: Trigger,
    chosen: Sequence[SourceSpec],
    *,
    now: datetime,
    new_id: Callable[[], str],
) -> Change | None:
    """Return a workflow with the turn begun that a trigger has waited for; None if it is not the next (any more)."""
    workflow = case.workflow
    if workflow.status is not WorkflowStatus.WAITING or workflow.queued_triggers[:1] != (trigger,):
        return None
    return begun(case, trigger, chosen, now=now, new_id=new_id)


def _new_task(
    workflow: Workflow,
    turn: Turn,
    source: SourceSpec,
    step: Step,
    position: int,
    task_id: str,
    now: datetime,
) -> Task:
    task = Task(
        task_id=task_id,
        turn_id=turn.turn_id,
        workflow_id=workflow.workflow_id,
        tenant_id=workflow.tenant_id,
        source_id=source.source_id,
        step=step,
        position=position,
        kind=workflow.kind,
        capability=workflow.spec.capability(step),
        priority=workflow.spec.priority,
        importance=source.importance,
        compensation=workflow.spec.compensation.get(step),
        due_at=now,
        deadline_at=turn.deadline_at,
        moment=now,
        trace_parent=turn.trace_parent,
        created_at=now,
    )
    return task if position else moved_task(task, TaskMove.RELEASE, now=now)


def settled(case: Case, *, now: datetime) -> tuple[Case, tuple[NewEvent, ...]]:
    """Return a case with its turn ended if no task of it is open any more, and what is told of that.

    A turn whose workflow is paused stays as it is until that is resumed.
    """
    workflow, turn = case.workflow, case.turn
    counts = counted(case)
    if turn is None or turn.status is not TurnStatus.RUNNING or any(counts[s] for s in OPEN):
        return case, ()
    match workflow.status:
        case WorkflowStatus.CANCELLING:
            return replace(case, turn=_moved_turn(turn, TurnMove.COMPENSATE, now)), ()
        case WorkflowStatus.RUNNING:
            pass
        case _:
            return case, ()
    if counts and set(counts) == {TaskStatus.COMPLETED}:
        turn = _moved_turn(turn, TurnMove.COMPLETE, now)
        workflow = _after_turn(workflow, WorkflowMove.COMPLETE, now)
        told = telling.completed(workflow, turn, counts, now)
        return replace(case, workflow=workflow, turn=turn), (told,)
    turn = replace(turn, trouble=turn.trouble or _trouble_of(case))
    if workflow.spec.compensation and counts[TaskStatus.COMPLETED]:
        return replace(case, turn=_moved_turn(turn, TurnMove.COMPENSATE, now)), ()
    return _failed(replace(case, turn=turn), turn, now)


def _trouble_of(case: Case) -> Trouble:
    counts = counted(case)
    if not counts:
        return Trouble(
            code=NO_SOURCES,
            message=f"no declared source of tenant {case.workflow.tenant_id} is named or selected: "
            "`penstock sources` lists what is declared",
        )
    first = next((t for t in case.tasks if t.status is TaskStatus.FAILED and t.trouble), None)
    said = (
        f", as {first.step} of {first.source_id}: {first.trouble.message}"
        if first and first.trouble
        else ""
    )
    failed, total = counts[TaskStatus.FAILED], sum(counts.values())
    return Trouble(code=TASKS_FAILED, message=f"{failed} of {total} tasks failed{said}")


def _moved_turn(turn: Turn, move: TurnMove, now: datetime) -> Turn:
    status = next_turn_status(turn.status, move)
    ended = None if status in {TurnStatus.RUNNING, TurnStatus.COMPENSATING} else now
    return replace(turn, status=status, ended_at=ended)


def _after_turn(workflow: Workflow, move: WorkflowMove, now: datetime) -> Workflow:
    repeats = workflow.kind in REPEATING
    return moved_workflow(workflow, WorkflowMove.WAIT if repeats else move, now=now, trouble=None)


def _failed(case: Case, turn: Turn, now: datetime) -> tuple[Case, tuple[NewEvent, ...]]:
    trouble = turn.trouble or _trouble_of(case)
    turn = replace(_moved_turn(turn, TurnMove.FAIL, now), trouble=trouble)
    workflow = replace(_after_turn(case.workflow, WorkflowMove.FAIL, now), trouble=trouble)
    told = telling.failed(workflow, turn, counted(case), trouble, now)
    return replace(case, workflow=workflow, turn=turn), (told,)


def change_of(
    before: Case, after: Case, events: Sequence[NewEvent] = (), *, now: datetime
) -> Change:
    """Return the change from one case to another, with its turn ended if that follows."""
    after, more = settled(after, now=now)
    return Change(
        workflow=after.workflow,
        turn=None if after.turn == before.turn else after.turn,
        tasks=changed_tasks(before, after),
        events=(*events, *more),
    )


def stopped_tasks(tasks: Sequence[Task], trouble: Trouble, now: datetime) -> list[Task]:
    """Return tasks of which nothing more is begun: what nobody has is cancelled, the rest is to let go."""
    after = []
    for task in tasks:
        if task.status in {TaskStatus.PENDING, TaskStatus.READY}:
            after.append(moved_task(task, TaskMove.CANCEL, now=now, trouble=trouble))
        elif task.status in IN_HAND - {TaskStatus.STOPPING}:
            after.append(moved_task(task, TaskMove.STOP, now=now, trouble=trouble))
    return after


def deadline_passed(case: Case, *, now: datetime) -> Change | None:
    """Return a turn that nothing more is begun of, its deadline having passed; None if that is not so (any more)."""
    turn = case.turn
    if turn is None or turn.status is not TurnStatus.RUNNING or turn.trouble is not None:
        return None
    if turn.deadline_at is None or now < turn.deadline_at:
        return None
    if case.workflow.status is not WorkflowStatus.RUNNING:
        return None
    trouble = Trouble(
        code=DEADLINE_PASSED,
        message=f"its deadline was {turn.deadline_at:%Y-%m-%d %H:%M:%S} UTC",
    )
    after = with_tasks(case, stopped_tasks(case.tasks, trouble, now))
    return change_of(case, replace(after, turn=replace(turn, trouble=trouble)), now=now)


def next_to_compensate(case: Case) -> Task | None:
    """Return the task that is undone next, of a turn that is COMPENSATING: what ended last goes first."""
    going = [task for task in case.tasks if task.status is TaskStatus.COMPENSATING]
    left = [
        task
        for task in case.tasks
        if task.status is TaskStatus.COMPLETED and task.compensation is not None
    ]
    latest = sorted(left, key=lambda t: (t.ended_at or t.created_at, t.position), reverse=True)
    return next(iter([*going, *latest]), None)


def compensation_begun(case: Case, task_id: str, *, now: datetime) -> Change | None:
    """Return a turn with one of its tasks being undone; None if that was begun before."""
    task = case.task(task_id)
    if task.status is TaskStatus.COMPENSATING:
        return None
    moved = moved_task(task, TaskMove.COMPENSATE, now=now)
    return change_of(case, with_tasks(case, [moved]), now=now)


def compensation_ended(
    case: Case, task_id: str, result: dict[str, object], trouble: Trouble | None, *, now: datetime
) -> Change:
    """Return a turn with one of its tasks undone, or with why it could not be."""
    task = case.task(task_id)
    move = TaskMove.COMPENSATED if trouble is None else TaskMove.GIVE_UP
    moved = moved_task(task, move, now=now, trouble=trouble, result={**task.result, **result})
    return change_of(case, with_tasks(case, [moved]), now=now)


def compensated(case: Case, *, now: datetime) -> Change | None:
    """Return a turn that has nothing left to undo with its end; None while its workflow is paused, or it has."""
    turn, workflow = case.turn, case.workflow
    if turn is None or turn.status is not TurnStatus.COMPENSATING or next_to_compensate(case):
        return None
    match workflow.status:
        case WorkflowStatus.RUNNING:
            after, events = _failed(case, turn, now)
        case WorkflowStatus.CANCELLING:
            workflow = moved_workflow(workflow, WorkflowMove.STOPPED, now=now)
            ended = _moved_turn(turn, TurnMove.CANCEL, now)
            after = replace(case, workflow=workflow, turn=ended)
            events = (telling.cancelled(workflow, now),)
        case _:
            return None
    return Change(workflow=after.workflow, turn=after.turn, events=events)
