"""The page ``docs/reference/workflow_states.md``, as it follows from :mod:`penstock.workflow.status`.

``python -m penstock.workflow.reference`` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeVar

from penstock.workflow.awaited import AWAITED, NOT_AWAITED, Origin
from penstock.workflow.status import (
    TASK_TRANSITIONS,
    TURN_TRANSITIONS,
    WORKFLOW_TRANSITIONS,
    Step,
    TaskMove,
    TaskStatus,
    TurnMove,
    TurnStatus,
    WorkflowKind,
    WorkflowMove,
    WorkflowStatus,
)

_KINDS = {
    WorkflowKind.SCHEDULED: "A turn begins whenever its cron expression (UTC) is due.",
    WorkflowKind.EVENT_DRIVEN: "A turn begins whenever an event of its type and subject comes in or is told.",
    WorkflowKind.ON_DEMAND: "Its only turn begins when it is created.",
    WorkflowKind.RECOVERY: "The same, of its own kind: with limits and a priority of its own, for catching up.",
}
_STEPS = {
    Step.COLLECT: "A worker extracts the source at a moment.",
    Step.TRANSFORM: "A worker lands what was extracted as a batch.",
    Step.PUBLISH: "Nobody is given it: it follows its batch through the queue to all targets.",
}
_BEHIND = {
    Origin.OUTSIDE: "somebody outside, or a person",
    Origin.TASK: "the workflow of the task",
    Origin.BATCH: "the workflow that collected the batch or, of a correction, what it corrects",
    Origin.WORKFLOW: "the workflow that it is about",
}
_WORKFLOW = {
    WorkflowStatus.WAITING: "For its next turn.",
    WorkflowStatus.RUNNING: "A turn is under way.",
    WorkflowStatus.PAUSED: "Nothing of it is given out; what was, ends.",
    WorkflowStatus.CANCELLING: "What is in hand ends, then compensations run.",
    WorkflowStatus.COMPLETED: "All its tasks are completed.",
    WorkflowStatus.FAILED: "A task failed for good, or its deadline passed.",
    WorkflowStatus.CANCELLED: "Somebody has cancelled it; it stays so.",
}
_WORKFLOW_MOVES = {
    WorkflowMove.START: "A turn begins.",
    WorkflowMove.WAIT: "The turn of a scheduled or event-driven workflow has ended, well or not.",
    WorkflowMove.PAUSE: "Somebody asked for it.",
    WorkflowMove.RESUME: "Somebody asked for it; with no turn under way it then waits again.",
    WorkflowMove.CANCEL: "Somebody asked for it.",
    WorkflowMove.STOPPED: "Nothing is in hand any more, and compensations have run.",
    WorkflowMove.COMPLETE: "Its only turn is completed.",
    WorkflowMove.FAIL: "Its only turn has failed.",
    WorkflowMove.RETRY: "Somebody asked for what is not done of its last turn to be done again.",
    WorkflowMove.RERUN: "Somebody asked for a task of its last turn, and what follows it, to be done again.",
}
_TURN = {
    TurnStatus.RUNNING: "Some of its tasks are open.",
    TurnStatus.COMPENSATING: "What it did is being undone, last step first.",
    TurnStatus.COMPLETED: "All its tasks are completed.",
    TurnStatus.FAILED: "One of its tasks failed for good, or its deadline passed.",
    TurnStatus.CANCELLED: "Its workflow was cancelled.",
}
_TURN_MOVES = {
    TurnMove.COMPLETE: "Its last task is completed.",
    TurnMove.COMPENSATE: "It failed or was cancelled, and a completed step declares a compensation.",
    TurnMove.FAIL: "No task is open, and not all are completed.",
    TurnMove.CANCEL: "Its workflow was cancelled, and nothing is in hand any more.",
    TurnMove.REOPEN: "A retry or a rerun.",
}
_TASK = {
    TaskStatus.PENDING: "The step before it is not completed.",
    TaskStatus.READY: "It can be assigned once `due_at` has come.",
    TaskStatus.ASSIGNED: "A worker has it under a lease.",
    TaskStatus.RUNNING: "Its worker has begun; or, to publish, its batch is in the queue.",
    TaskStatus.STOPPING: "Its workflow was cancelled, or its deadline passed: whoever has it is to let go.",
    TaskStatus.COMPLETED: "It is done.",
    TaskStatus.FAILED: "It failed for good, or its retries are exhausted.",
    TaskStatus.SKIPPED: "A step before it failed.",
    TaskStatus.CANCELLED: "It was not done, or not to its end, because of a cancel or a deadline.",
    TaskStatus.COMPENSATING: "What it did is being undone.",
    TaskStatus.COMPENSATED: "What it did is undone.",
    TaskStatus.NOT_COMPENSATED: "What it did could not be undone; its error says why.",
}
_TASK_MOVES = {
    TaskMove.RELEASE: "The step before it is completed.",
    TaskMove.CLAIM: "A worker was given it.",
    TaskMove.START: "Its worker has begun; or, to publish, the queue has its batch.",
    TaskMove.COMPLETE: "Its result is there; of a pending one, because the step before it has landed the batch.",
    TaskMove.POSTPONE: "It failed for now, or its lease expired: it is due again later.",
    TaskMove.FAIL: "It failed for good, or its retries are exhausted.",
    TaskMove.SKIP: "A step before it failed.",
    TaskMove.CANCEL: "Its workflow was cancelled, or its deadline passed, and nobody has it.",
    TaskMove.STOP: "The same, while somebody has it.",
    TaskMove.COMPENSATE: "Its turn to be undone has come.",
    TaskMove.COMPENSATED: "It is undone.",
    TaskMove.GIVE_UP: "It cannot be undone.",
    TaskMove.REDO: "A retry or a rerun, with the step before it completed.",
    TaskMove.RESET: "A retry or a rerun of a step before it.",
}


def workflow_states_page() -> str:
    """Return the whole page as Markdown."""
    lines = [
        *_head(),
        *_table("Kinds", "kind", _KINDS),
        *_table("Steps", "step", _STEPS),
        *_events(),
        *_machine("workflow", WORKFLOW_TRANSITIONS, _WORKFLOW, _WORKFLOW_MOVES),
        *_machine("turn", TURN_TRANSITIONS, _TURN, _TURN_MOVES),
        *_machine("task", TASK_TRANSITIONS, _TASK, _TASK_MOVES),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _head() -> Iterator[str]:
    yield "# Workflow states"
    yield ""
    yield "<!-- Generated from penstock/workflow/status.py by penstock/workflow/reference.py. -->"
    yield ""
    yield "A workflow has turns, a turn has tasks: for each source the steps `collect`, `transform` and"
    yield "`publish`, each after the one before. Every move goes through one of three total functions; any"
    yield "that is not in the tables below raises `IllegalMove`, which names those that are. Over HTTP that is"
    yield "a 409."
    yield ""


_S = TypeVar("_S", bound=StrEnum)
_M = TypeVar("_M", bound=StrEnum)


def _table(title: str, column: str, rows: Mapping[_S, str]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield f"| {column} | what it means |"
    yield "|---|---|"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in rows.items())
    yield ""


def _events() -> Iterator[str]:
    yield "## Events that begin a turn"
    yield ""
    yield "An event-driven workflow waits for one type of event, whose `event.type` is one of these. The first"
    yield "ones come in; the others Penstock tells, and a workflow hears what is told after it was made. No"
    yield "workflow sets off itself, nor two each other: where it is known who is behind an event, it begins no"
    yield "turn if that is an event-driven workflow that waits for such events, too."
    yield ""
    yield "| event | it begins a turn when | who is behind it |"
    yield "|---|---|---|"
    for name, awaited in AWAITED.items():
        yield f"| `{name}` | {awaited.when} | {_BEHIND[awaited.origin]} |"
    yield ""
    yield "No workflow can wait for the others:"
    yield ""
    yield "| event | why not |"
    yield "|---|---|"
    yield from (f"| `{name}` | {why[0].upper()}{why[1:]}. |" for name, why in NOT_AWAITED.items())
    yield ""


def _machine(
    what: str,
    transitions: Mapping[_S, Mapping[_M, _S]],
    statuses: Mapping[_S, str],
    moves: Mapping[_M, str],
) -> Iterator[str]:
    yield f"## A {what}"
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {next(iter(transitions))}"
    for status, leads in transitions.items():
        yield from (f"    {status} --> {after}: {move}" for move, after in leads.items())
    yield "```"
    yield ""
    yield "| status | what it means | moves |"
    yield "|---|---|---|"
    for status, meaning in statuses.items():
        leads = transitions[status]
        listed = "; ".join(f"{move} → {after}" for move, after in leads.items()) or "none"
        yield f"| `{status}` | {meaning} | {listed} |"
    yield ""
    yield "| move | what happens | from |"
    yield "|---|---|---|"
    for move, meaning in moves.items():
        sources = ", ".join(f"`{status}`" for status in statuses if move in transitions[status])
        yield f"| `{move}` | {meaning} | {sources} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(workflow_states_page())
