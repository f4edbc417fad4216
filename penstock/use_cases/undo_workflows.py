"""Undoing what a turn did: what waits in the queue is taken out, and each step that declares how is compensated.

Any of it may be done twice: what is undone already is found to be so.
"""

from __future__ import annotations

from datetime import timedelta

from penstock.errors import (
    ChangedMeanwhile,
    IllegalMove,
    LaneBusy,
    LanePaused,
    NothingToDo,
    PenstockError,
    TargetUnreachable,
)
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.publish.state import SETTLED, WAITING, PublishState, PublishStatus
from penstock.use_cases import operate
from penstock.use_cases.acts import By
from penstock.use_cases.batch_writer import find_manifest
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.rollback import rollback
from penstock.workflow import turns
from penstock.workflow.change import Case
from penstock.workflow.records import Task, Trouble
from penstock.workflow.spec import Compensation
from penstock.workflow.status import Step, TaskStatus, WorkflowStatus

ADMITTED_WITHIN = timedelta(minutes=5)
"""How long a batch that has landed is waited for before it is given up that anybody admits it."""
_LATER = (LaneBusy, LanePaused, TargetUnreachable)
"""What keeps a compensation waiting."""


def undo_turn(co: Coordination, workflow_id: str) -> bool:
    """Undo the next thing of a turn that is COMPENSATING, or end it; say whether anything was done."""
    case = co.workflows.get_case(workflow_id)
    if case.workflow.status is WorkflowStatus.CANCELLING:
        swept = _sweep(co, case)
        if swept is not None:
            return swept
    task = turns.next_to_compensate(case)
    if task is None:
        now = co.now()
        change = co.workflows.change(workflow_id, lambda found: turns.compensated(found, now=now))
        return change is not None
    now = co.now()
    co.workflows.change(
        workflow_id, lambda found: turns.compensation_begun(found, task.task_id, now=now)
    )
    return _compensate(co, task)


def _sweep(co: Coordination, case: Case) -> bool | None:
    """Take what a cancelled workflow still has in the queue out of it; None where nothing (more) is to be expected."""
    did, waits = False, False
    begun = {task.source_id for task in case.tasks if task.attempt}
    for task in case.tasks:
        if task.step is not Step.TRANSFORM or task.source_id not in begun or task.moment is None:
            continue
        batch = task.batch_id or ids.batch_id(task.source_id, task.moment)
        states = co.platform.control.list_states(batch=batch)
        did = _taken_out(co, task, states) or did
        waits = waits or (not states and _may_be_admitted(co, task, batch))
        waits = waits or (_is_its_last(case, task) and _in_hand(states))
    return did if did or waits else None


def _taken_out(co: Coordination, task: Task, states: list[PublishState]) -> bool:
    by = By(actor="penstock", reason=f"workflow {task.workflow_id} is cancelled")
    waiting = [state for state in states if state.status in WAITING]
    for state in waiting:
        try:
            operate.cancel(co.platform, state.batch_id, state.target_id, by=by)
        except IllegalMove:
            continue  # a publish run has just taken it
    return bool(waiting)


def _in_hand(states: list[PublishState]) -> bool:
    return any(state.status not in SETTLED for state in states)


def _is_its_last(case: Case, task: Task) -> bool:
    """Whether nobody else waits for its batch to be published."""
    return not any(
        other.source_id == task.source_id and other.step is Step.PUBLISH and other.attempt
        for other in case.tasks
    )


def _may_be_admitted(co: Coordination, task: Task, batch: BatchId) -> bool:
    if co.platform.control.known_batches([batch]):
        return False
    landed = find_manifest(co.platform, batch) is not None
    return landed and co.now() - (task.ended_at or task.created_at) < ADMITTED_WITHIN


def _compensate(co: Coordination, task: Task) -> bool:
    try:
        result, trouble = _undone(co, task), None
    except _LATER:
        return False
    except PenstockError as error:
        result, trouble = {}, Trouble(code=error.code, message=str(error))
    now = co.now()
    co.workflows.change(
        task.workflow_id,
        lambda case: (
            turns.compensation_ended(case, task.task_id, result, trouble, now=now)
            if case.task(task.task_id).status is TaskStatus.COMPENSATING
            else None
        ),
    )
    return True


def _undone(co: Coordination, task: Task) -> dict[str, object]:
    if task.batch_id is None:
        return {}
    states = co.platform.control.list_states(batch=task.batch_id)
    match task.compensation:
        case Compensation.CANCEL:
            _taken_out(co, task, states)
            return {}
        case Compensation.ROLLBACK:
            _taken_out(co, task, states)
            return {"rolled_back": _rolled_back(co, task, states)}
        case None:
            return {}


def _rolled_back(co: Coordination, task: Task, states: list[PublishState]) -> dict[str, object]:
    landed: dict[str, object] = {}
    for state in states:
        if state.status is not PublishStatus.COMPLETE:
            continue
        try:
            done = rollback(
                co.platform,
                state.batch_id,
                state.target_id,
                by="penstock",
                reason=f"workflow {task.workflow_id} was cancelled or failed",
            )
        except (NothingToDo, ChangedMeanwhile) as error:
            landed[state.target_id] = str(error)  # it is rolled back, or asked for, already
        else:
            landed[state.target_id] = done.correction.batch_id if done.correction else None
    return landed
