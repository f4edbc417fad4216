"""Workflows, turns and tasks move through three total functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import IllegalMove
from penstock.workflow.reference import workflow_states_page
from penstock.workflow.status import (
    ENDED,
    IN_HAND,
    OPEN,
    REPEATING,
    TASK_TRANSITIONS,
    TURN_TRANSITIONS,
    UNDONE,
    WORKFLOW_TRANSITIONS,
    TaskMove,
    TaskStatus,
    TurnMove,
    TurnStatus,
    WorkflowKind,
    WorkflowMove,
    WorkflowStatus,
    next_task_status,
    next_turn_status,
    next_workflow_status,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "workflow_states.md"
_MACHINES: list[tuple[Any, Any, Mapping[Any, Any], Callable[[Any, Any], Any]]] = [
    (WorkflowStatus, WorkflowMove, WORKFLOW_TRANSITIONS, next_workflow_status),
    (TurnStatus, TurnMove, TURN_TRANSITIONS, next_turn_status),
    (TaskStatus, TaskMove, TASK_TRANSITIONS, next_task_status),
]


def _cases() -> Iterator[tuple[StrEnum, StrEnum, Mapping[Any, Any], Callable[[Any, Any], Any]]]:
    for statuses, moves, transitions, function in _MACHINES:
        for status, move in product(statuses, moves):
            yield status, move, transitions[status], function


@pytest.mark.parametrize(("status", "move", "legal", "function"), list(_cases()))
def test_every_move_is_legal_or_says_what_is(
    status: StrEnum, move: StrEnum, legal: Mapping[Any, Any], function: Callable[[Any, Any], Any]
) -> None:
    """The functions are total: each pair gives a status, or an error that names the legal moves."""
    if move in legal:
        assert function(status, move) is legal[move]
        return
    with pytest.raises(IllegalMove, match=f"{status} cannot {move}; from {status} it can: ") as e:
        function(status, move)
    assert str(e.value).endswith(", ".join(legal) or "do nothing more")


def test_every_status_but_the_first_is_reached() -> None:
    """Each status of each machine is where some move leads to, or where a thing begins."""
    for statuses, _, transitions, _ in _MACHINES:
        reached = {after for moves in transitions.values() for after in moves.values()}
        assert set(statuses) - reached <= {next(iter(statuses))}


def test_what_has_ended_is_never_cancelled_or_paused() -> None:
    """A workflow that ended can at most be done again; one that was cancelled stays so."""
    again = {WorkflowMove.RETRY, WorkflowMove.RERUN}
    assert all(set(WORKFLOW_TRANSITIONS[status]) <= again for status in ENDED)
    assert not WORKFLOW_TRANSITIONS[WorkflowStatus.CANCELLED]


def test_a_task_is_open_or_done_or_undone() -> None:
    """No task is in two of these places, and all that is in hand is open."""
    done = {TaskStatus.COMPLETED, TaskStatus.COMPENSATING}
    assert sorted([*OPEN, *UNDONE, *done]) == sorted(TaskStatus)
    assert IN_HAND < OPEN
    assert set(WorkflowKind) > REPEATING


def test_the_page_is_as_the_module_says() -> None:
    """``docs/reference/workflow_states.md`` is generated: ``python -m penstock.workflow.reference``."""
    assert PAGE.read_text(encoding="utf-8") == workflow_states_page()
