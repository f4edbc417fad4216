"""The coordinator's look: what is due of all workflows, done once. Any number of servers may look at once.

Nothing here is remembered between two looks, and each change is decided under a lock on its workflow: whoever dies in
the middle of a look leaves nothing that the next does not find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.errors import NotFound, PenstockError
from penstock.ports.workflows import Followed
from penstock.publish.state import SETTLED, WAITING, PublishState, PublishStatus
from penstock.use_cases import operate
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.undo_workflows import undo_turn
from penstock.use_cases.workflow_triggers import begin_queued, begin_scheduled
from penstock.workflow import tasks
from penstock.workflow.records import Task, Trouble
from penstock.workflow.status import TaskStatus
from penstock.workflow.turns import deadline_passed

MOST_AT_ONCE = 500
"""Of each thing that is due, how much one look does."""
MOST_FOLLOWED = 5000
COORDINATOR = "penstock"
"""Who signs what follows from what somebody else asked for."""


@dataclass
class Looked:
    """What one look did."""

    scheduled: int = 0
    queued: int = 0
    expired: int = 0
    overdue: int = 0
    published: int = 0
    undone: int = 0
    troubles: list[str] = field(default_factory=list)
    """What went wrong with single workflows; the others were looked after all the same."""

    @property
    def did_something(self) -> bool:
        """Whether it is worth looking again at once."""
        return bool(
            self.scheduled
            + self.queued
            + self.expired
            + self.overdue
            + self.published
            + self.undone
        )


def progress_workflows(co: Coordination) -> Looked:
    """Begin what is due, take back what was lost, follow what is published, and undo what was cancelled or failed."""
    looked = Looked()
    looked.expired = _take_back(co, looked)
    looked.overdue = _stop_overdue(co, looked)
    looked.published = _follow(co, looked)
    looked.undone = _undo(co, looked)
    looked.scheduled = begin_scheduled(co, limit=MOST_AT_ONCE)
    looked.queued = begin_queued(co, limit=MOST_AT_ONCE)
    return looked


def _each(looked: Looked, name: str, do: Callable[[], bool]) -> int:
    """Do one thing; what goes wrong with it is noted, and keeps nothing else from being done."""
    try:
        return int(do())
    except PenstockError as error:
        looked.troubles.append(f"{name}: {error}")
        return 0


def _take_back(co: Coordination, looked: Looked) -> int:
    now = co.now()
    return sum(
        _each(looked, task.task_id, lambda task=task: _expire(co, task))  # type: ignore[misc]
        for task in co.workflows.expired_tasks(now, limit=MOST_AT_ONCE)
    )


def _expire(co: Coordination, task: Task) -> bool:
    now, jitter = co.now(), co.jitter()
    change = co.workflows.change_task(
        task.task_id,
        lambda case: tasks.lease_expired(case, task.task_id, now=now, jitter=jitter),
    )
    return change is not None


def _stop_overdue(co: Coordination, looked: Looked) -> int:
    now = co.now()
    overdue = co.workflows.overdue(now, limit=MOST_AT_ONCE)
    return sum(
        _each(
            looked,
            workflow_id,
            lambda workflow_id=workflow_id: (  # type: ignore[misc]
                co.workflows.change(workflow_id, lambda case: deadline_passed(case, now=now))
                is not None
            ),
        )
        for workflow_id in overdue
    )


def _follow(co: Coordination, looked: Looked) -> int:
    return sum(
        _each(looked, each.task.task_id, lambda each=each: follow(co, each))  # type: ignore[misc]
        for each in co.workflows.followed(limit=MOST_FOLLOWED)
    )


def follow(co: Coordination, followed: Followed) -> bool:
    """Take a publish task on as far as the states of its batch have come; say whether it moved."""
    task, states = followed.task, followed.states
    if not states:
        return _without_states(co, task)
    match task.status:
        case TaskStatus.READY:
            return _begin(co, task, states)
        case TaskStatus.STOPPING:
            return _let_go(co, task, states)
        case _:
            return _settle(co, task, states)


def _without_states(co: Coordination, task: Task) -> bool:
    """Wait until the batch is admitted; one that never will be, or that goes to no target, ends the task."""
    batch = task.batch_id
    if batch is None:
        return _fail(
            co, task, Trouble(code="no_batch", message="the step before it landed no batch")
        )
    if not co.platform.control.known_batches([batch]):
        return False
    try:
        co.platform.control.get_batch(batch)
    except NotFound:
        said = f"batch {batch!r} was not admitted: `penstock dead-letters list` says why"
        return _fail(co, task, Trouble(code="not_admitted", message=said))
    now = co.now()
    co.workflows.change_task(
        task.task_id, lambda case: tasks.publish_begun(case, task.task_id, now=now)
    )
    return _complete(co, task, {"targets": {}})


def _begin(co: Coordination, task: Task, states: Sequence[PublishState]) -> bool:
    again = task.result.get("again")
    by = By(actor=COORDINATOR, reason=f"workflow {task.workflow_id} does it again")
    for state in states:
        if again is None or state.status not in SETTLED:
            continue
        try:
            if again == "republish":
                operate.republish(co.platform, state.batch_id, state.target_id, by=by)
            elif state.status is PublishStatus.FAILED:
                operate.requeue(co.platform, state.batch_id, state.target_id, by=by)
        except PenstockError as error:
            return _fail(co, task, Trouble(code=error.code, message=str(error)))
    now = co.now()
    change = co.workflows.change_task(
        task.task_id, lambda case: tasks.publish_begun(case, task.task_id, now=now)
    )
    return change is not None


def _settle(co: Coordination, task: Task, states: Sequence[PublishState]) -> bool:
    if any(state.status not in SETTLED for state in states):
        return False
    failures = [state for state in states if state.status is PublishStatus.FAILED]
    if not failures:
        return _complete(co, task, {"targets": {s.target_id: _of(s) for s in states}})
    first = failures[0]
    details = first.failure_details
    said = f"at target {first.target_id}: {details.error_message if details else 'it failed'}"
    code = details.error_code if details else "failed"
    return _fail(co, task, Trouble(code=code, message=said))


def _of(state: PublishState) -> dict[str, int]:
    return {**state.metrics.model_dump(), "exceptions": state.exceptions, "held": state.held}


def _let_go(co: Coordination, task: Task, states: Sequence[PublishState]) -> bool:
    """Take what waits out of the queue, and wait for what is in hand; what is COMPLETE somewhere has been done."""
    by = By(actor=COORDINATOR, reason=f"workflow {task.workflow_id} is stopped")
    waiting = [state for state in states if state.status in WAITING]
    for state in waiting:
        operate.cancel(co.platform, state.batch_id, state.target_id, by=by)
    if waiting or any(state.status not in SETTLED for state in states):
        return bool(waiting)
    done = {s.target_id: _of(s) for s in states if s.status is PublishStatus.COMPLETE}
    if done:
        return _complete(co, task, {"targets": done})
    return _fail(co, task, Trouble(code="cancelled", message="it was taken out of the queue"))


def _complete(co: Coordination, task: Task, result: dict[str, object]) -> bool:
    now = co.now()
    change = co.workflows.change_task(
        task.task_id,
        lambda case: (
            tasks.completed(case, case.task(task.task_id), now=now, result=result)
            if case.task(task.task_id).is_in_hand
            else None
        ),
    )
    return change is not None


def _fail(co: Coordination, task: Task, trouble: Trouble) -> bool:
    now = co.now()
    change = co.workflows.change_task(
        task.task_id,
        lambda case: (
            tasks.failed(case, case.task(task.task_id), trouble, passes=False, now=now, jitter=0.0)
            if case.task(task.task_id).is_open
            else None
        ),
    )
    return change is not None


def _undo(co: Coordination, looked: Looked) -> int:
    return sum(
        _each(looked, workflow_id, lambda workflow_id=workflow_id: undo_turn(co, workflow_id))  # type: ignore[misc]
        for workflow_id in co.workflows.compensating(limit=MOST_AT_ONCE)
    )
