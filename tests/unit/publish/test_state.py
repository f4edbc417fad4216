"""Publish states move through one total function, and nothing but its moves changes a status."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from penstock.errors import IllegalMove, PenstockError
from penstock.publish.reference import publish_states_page
from penstock.publish.state import (
    IN_HAND,
    SETTLED,
    TRANSITIONS,
    WAITING,
    Intent,
    Move,
    PublishState,
    PublishStatus,
    moved,
    next_status,
    requeued,
)
from tests.contracts.control_values import NOW, at, failure, pending, record

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "publish_states.md"


def state(status: PublishStatus = PublishStatus.PENDING) -> PublishState:
    """A publish state in some status."""
    return pending(record("a", 1)).model_copy(update={"status": status})


@pytest.mark.parametrize(("status", "move"), list(product(PublishStatus, Move)))
def test_every_move_is_legal_or_says_what_is(status: PublishStatus, move: Move) -> None:
    """The function is total: each pair gives a status, or an error that names the legal moves."""
    legal = TRANSITIONS[status]
    if move in legal:
        assert next_status(status, move) is legal[move]
        return
    with pytest.raises(IllegalMove, match=f"{status} cannot {move}; from {status} it can: ") as e:
        next_status(status, move)
    assert str(e.value).endswith(", ".join(legal))


def test_every_status_is_in_one_place() -> None:
    """Waiting, in hand or settled: no status is in two places or none."""
    assert sorted([*WAITING, *IN_HAND, *SETTLED]) == sorted(PublishStatus)


def test_whatever_is_in_the_queue_or_in_hand_can_fail() -> None:
    """A batch that a newer one supersedes can be failed wherever it stands."""
    assert all(Move.FAIL in TRANSITIONS[status] for status in WAITING | IN_HAND)


def test_moves_set_their_moments() -> None:
    """A claim sets the start, once; success and failure set the end; a claim clears what was due."""
    claimed = moved(state(), Move.CLAIM, now=at(1))
    assert claimed.publish_start_timestamp == at(1)
    due = {"retry_due_at": at(5), "failure_details": failure()}
    postponed = moved(claimed, Move.POSTPONE, now=at(2), changes=due)
    assert (postponed.retry_due_at, postponed.publish_end_timestamp) == (at(5), None)
    again = moved(postponed, Move.CLAIM, now=at(5))
    assert (again.publish_start_timestamp, again.retry_due_at) == (at(1), None)
    assert again.failure_details == failure()
    failed = moved(again, Move.FAIL, now=at(6))
    assert (failed.publish_end_timestamp, failed.failure_details) == (at(6), failure())
    executing = again.model_copy(update={"status": PublishStatus.EXECUTING})
    done = moved(executing, Move.SUCCEED, now=at(7), changes={"exceptions": 2})
    assert (done.publish_end_timestamp, done.failure_details, done.exceptions) == (at(7), None, 2)


@pytest.mark.parametrize("name", ["batch_id", "status", "priority_boost", "nonsense"])
def test_a_move_changes_only_what_a_worker_may(name: str) -> None:
    """Ids, the status and an operator's fields are refused by name."""
    with pytest.raises(PenstockError, match=f"cannot change {name} of a publish state"):
        moved(state(), Move.CLAIM, now=NOW, changes={name: "x"})


def test_a_requeued_state_is_as_new() -> None:
    """Only what names the batch, and an operator's boost, is kept."""
    failed = moved(state(), Move.FAIL, now=at(2), changes={"failure_details": failure()})
    boosted = failed.model_copy(update={"priority_boost": 2.0, "plan_digest": "d" * 32})
    fresh = pending(record("a", 1), enqueued_at=at(3), intent=Intent.REPUBLISH, priority_boost=2.0)
    assert requeued(boosted, now=at(3), intent=Intent.REPUBLISH) == fresh


@pytest.mark.parametrize("status", sorted(WAITING | IN_HAND))
def test_only_what_is_settled_is_requeued(status: PublishStatus) -> None:
    """An operator cannot take a batch out of a worker's hand."""
    with pytest.raises(IllegalMove, match=f"is {status} .* only one that is COMPLETE or FAILED"):
        requeued(state(status), now=NOW, intent=Intent.PUBLISH)


def test_the_reference_page_is_current() -> None:
    """docs/reference/publish_states.md is what the code says; regenerate it with publish_states_page()."""
    assert PAGE.read_text() == publish_states_page()
