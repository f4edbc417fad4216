"""Statuses of workflows, their turns and their tasks, and the moves between them: three total functions.

::

    workflow    what a person asks for, pauses, resumes and cancels
    └── turn    one time through it: a scheduled or an event-driven workflow has many, the others have one
        └── task    one step for one source: collect, then transform, then publish

``docs/reference/workflow_states.md`` is generated from this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from penstock.errors import IllegalMove


class WorkflowKind(StrEnum):
    """What begins a workflow's turns."""

    SCHEDULED = "scheduled"
    EVENT_DRIVEN = "event_driven"
    ON_DEMAND = "on_demand"
    RECOVERY = "recovery"


REPEATING = frozenset({WorkflowKind.SCHEDULED, WorkflowKind.EVENT_DRIVEN})
"""Kinds that wait for their next turn until they are cancelled; the others end with their only one."""


class Step(StrEnum):
    """What a task does for its source."""

    COLLECT = "collect"
    """Extract the source at a moment."""
    TRANSFORM = "transform"
    """Land what was extracted as a batch."""
    PUBLISH = "publish"
    """Follow the batch through the queue to every target."""


class WorkflowStatus(StrEnum):
    """How a workflow stands."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WorkflowMove(StrEnum):
    """What happens to a workflow."""

    START = "start"
    WAIT = "wait"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    STOPPED = "stopped"
    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    RERUN = "rerun"


class TurnStatus(StrEnum):
    """How one turn stands."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TurnMove(StrEnum):
    """What happens to a turn."""

    COMPLETE = "complete"
    COMPENSATE = "compensate"
    FAIL = "fail"
    CANCEL = "cancel"
    REOPEN = "reopen"


class TaskStatus(StrEnum):
    """How one task stands."""

    PENDING = "pending"
    READY = "ready"
    ASSIGNED = "assigned"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    NOT_COMPENSATED = "not_compensated"


class TaskMove(StrEnum):
    """What happens to a task."""

    RELEASE = "release"
    CLAIM = "claim"
    START = "start"
    COMPLETE = "complete"
    POSTPONE = "postpone"
    FAIL = "fail"
    SKIP = "skip"
    CANCEL = "cancel"
    STOP = "stop"
    COMPENSATE = "compensate"
    COMPENSATED = "compensated"
    GIVE_UP = "give_up"
    REDO = "redo"
    RESET = "reset"


_W, _WM = WorkflowStatus, WorkflowMove
WORKFLOW_TRANSITIONS: Mapping[WorkflowStatus, Mapping[WorkflowMove, WorkflowStatus]] = {
    _W.WAITING: {
        _WM.START: _W.RUNNING,
        _WM.PAUSE: _W.PAUSED,
        _WM.CANCEL: _W.CANCELLING,
        _WM.RETRY: _W.RUNNING,
        _WM.RERUN: _W.RUNNING,
    },
    _W.RUNNING: {
        _WM.WAIT: _W.WAITING,
        _WM.PAUSE: _W.PAUSED,
        _WM.CANCEL: _W.CANCELLING,
        _WM.COMPLETE: _W.COMPLETED,
        _WM.FAIL: _W.FAILED,
        _WM.RETRY: _W.RUNNING,
        _WM.RERUN: _W.RUNNING,
    },
    _W.PAUSED: {_WM.RESUME: _W.RUNNING, _WM.CANCEL: _W.CANCELLING},
    _W.CANCELLING: {_WM.STOPPED: _W.CANCELLED},
    _W.COMPLETED: {_WM.RERUN: _W.RUNNING},
    _W.FAILED: {_WM.RETRY: _W.RUNNING, _WM.RERUN: _W.RUNNING},
    _W.CANCELLED: {},
}
"""Every legal move of a workflow, by the status that it leaves."""

_U, _UM = TurnStatus, TurnMove
TURN_TRANSITIONS: Mapping[TurnStatus, Mapping[TurnMove, TurnStatus]] = {
    _U.RUNNING: {
        _UM.COMPLETE: _U.COMPLETED,
        _UM.COMPENSATE: _U.COMPENSATING,
        _UM.FAIL: _U.FAILED,
        _UM.CANCEL: _U.CANCELLED,
    },
    _U.COMPENSATING: {_UM.FAIL: _U.FAILED, _UM.CANCEL: _U.CANCELLED},
    _U.COMPLETED: {_UM.REOPEN: _U.RUNNING},
    _U.FAILED: {_UM.REOPEN: _U.RUNNING},
    _U.CANCELLED: {},
}
"""Every legal move of a turn, by the status that it leaves."""

_T, _TM = TaskStatus, TaskMove
_BEGINS_ANEW = {_TM.REDO: _T.READY, _TM.RESET: _T.PENDING}
_WITH_A_WORKER = {
    _TM.COMPLETE: _T.COMPLETED,
    _TM.POSTPONE: _T.READY,
    _TM.FAIL: _T.FAILED,
    _TM.STOP: _T.STOPPING,
}
TASK_TRANSITIONS: Mapping[TaskStatus, Mapping[TaskMove, TaskStatus]] = {
    _T.PENDING: {
        _TM.RELEASE: _T.READY,
        _TM.COMPLETE: _T.COMPLETED,
        _TM.SKIP: _T.SKIPPED,
        _TM.CANCEL: _T.CANCELLED,
    },
    _T.READY: {
        _TM.CLAIM: _T.ASSIGNED,
        _TM.START: _T.RUNNING,
        _TM.FAIL: _T.FAILED,
        _TM.CANCEL: _T.CANCELLED,
    },
    _T.ASSIGNED: {_TM.START: _T.RUNNING, **_WITH_A_WORKER},
    _T.RUNNING: _WITH_A_WORKER,
    _T.STOPPING: {_TM.COMPLETE: _T.COMPLETED, _TM.CANCEL: _T.CANCELLED},
    _T.COMPLETED: {_TM.COMPENSATE: _T.COMPENSATING, **_BEGINS_ANEW},
    _T.FAILED: _BEGINS_ANEW,
    _T.SKIPPED: _BEGINS_ANEW,
    _T.CANCELLED: _BEGINS_ANEW,
    _T.COMPENSATING: {_TM.COMPENSATED: _T.COMPENSATED, _TM.GIVE_UP: _T.NOT_COMPENSATED},
    _T.COMPENSATED: _BEGINS_ANEW,
    _T.NOT_COMPENSATED: _BEGINS_ANEW,
}
"""Every legal move of a task, by the status that it leaves."""

ENDED = frozenset({_W.COMPLETED, _W.FAILED, _W.CANCELLED})
"""A workflow in one of these does nothing more by itself."""
IN_HAND = frozenset({_T.ASSIGNED, _T.RUNNING, _T.STOPPING})
"""Somebody has a task in one of these: a worker under a lease, or, to publish, the queue."""
OPEN = frozenset({_T.PENDING, _T.READY, *IN_HAND})
"""A task in one of these keeps its turn going."""
UNDONE = frozenset({_T.FAILED, _T.SKIPPED, _T.CANCELLED, _T.COMPENSATED, _T.NOT_COMPENSATED})
"""A task in one of these is done again by a retry."""


class IllegalWorkflowMove(IllegalMove):
    """A workflow, a turn or a task cannot make a move now; ``legal`` are those that it can."""

    def __init__(self, message: str, *, legal: Iterable[str]) -> None:
        super().__init__(message)
        self.legal = tuple(legal)


_Status = TypeVar("_Status", bound=StrEnum)
_Move = TypeVar("_Move", bound=StrEnum)


def next_workflow_status(status: WorkflowStatus, move: WorkflowMove) -> WorkflowStatus:
    """Return where ``move`` takes a workflow; raises :class:`IllegalWorkflowMove`, which names the legal ones."""
    return _next(WORKFLOW_TRANSITIONS, status, move, "workflow")


def next_turn_status(status: TurnStatus, move: TurnMove) -> TurnStatus:
    """Return where ``move`` takes a turn; raises :class:`IllegalWorkflowMove`, which names the legal ones."""
    return _next(TURN_TRANSITIONS, status, move, "turn")


def next_task_status(status: TaskStatus, move: TaskMove) -> TaskStatus:
    """Return where ``move`` takes a task; raises :class:`IllegalWorkflowMove`, which names the legal ones."""
    return _next(TASK_TRANSITIONS, status, move, "task")


def _next(
    transitions: Mapping[_Status, Mapping[_Move, _Status]], status: _Status, move: _Move, what: str
) -> _Status:
    after = transitions[status].get(move)
    if after is None:
        legal = ", ".join(transitions[status]) or "do nothing more"
        raise IllegalWorkflowMove(
            f"a {what} that is {status} cannot {move}; from {status} it can: {legal}",
            legal=transitions[status],
        )
    return after
