"""Publish states move through one total function, and nothing but its moves changes a status."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import IllegalMove, PenstockError
from penstock.publish.reference import publish_states_page
from penstock.publish.state import (
    FOLLOW_UPS,
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


PLANNED = {"plan_digest": "a" * 32, "execution_plan_path": "plans/a/plan.json"}


def published(**fields: object) -> PublishState:
    """A COMPLETE batch that holds something."""
    counts = {"exceptions": 3, "held": 2, "blocked": 1, "state_snapshot_path": "snapshots/1"}
    return state(PublishStatus.COMPLETE).model_copy(update={**PLANNED, **counts, **fields})


@pytest.mark.parametrize("intent", sorted(FOLLOW_UPS))
def test_a_follow_up_keeps_what_is_recorded(intent: Intent) -> None:
    """A batch that goes back for a release or a repair is what it was, and remembers its own plan."""
    before = published()
    after = requeued(before, now=at(3), intent=intent)
    changes = {
        "status": PublishStatus.PENDING,
        "intent": intent,
        "enqueued_at": at(3),
        "base_plan_digest": before.plan_digest,
    }
    assert after == before.model_copy(update=changes)
    assert after.republish


def test_a_second_follow_up_is_of_the_batch_s_own_plan() -> None:
    """Whatever plans followed, the one that they follow stays the same."""
    before = published(plan_digest="c" * 32, base_plan_digest="a" * 32, intent=Intent.RELEASE)
    assert requeued(before, now=at(3), intent=Intent.REPAIR).base_plan_digest == "a" * 32
    assert requeued(before, now=at(3), intent=Intent.REPUBLISH).base_plan_digest is None


@pytest.mark.parametrize("intent", sorted(FOLLOW_UPS))
def test_only_a_complete_batch_has_a_follow_up(intent: Intent) -> None:
    """What failed has nothing to release or repair."""
    with pytest.raises(IllegalMove, match=f"only one that is COMPLETE has anything to {intent}"):
        requeued(state(PublishStatus.FAILED), now=NOW, intent=intent)


@pytest.mark.parametrize("status", sorted(WAITING | IN_HAND))
def test_a_void_follow_up_leaves_the_batch_as_it_stood(status: PublishStatus) -> None:
    """Withdrawn wherever it is, it is COMPLETE again with its counts and moments, and nothing is due."""
    ended = published(publish_end_timestamp=at(1))
    again = requeued(ended, now=at(3), intent=Intent.RELEASE)
    late = again.model_copy(
        update={"status": status, "retry_due_at": at(9), "failure_details": failure()}
    )
    after = moved(late, Move.WITHDRAW, now=at(4), changes=PLANNED)
    kept = ended.model_dump(exclude={"enqueued_at", "intent", "base_plan_digest"})
    assert after.model_dump(exclude={"enqueued_at", "intent", "base_plan_digest"}) == kept


@pytest.mark.parametrize("intent", [Intent.PUBLISH, Intent.REPUBLISH])
def test_only_a_follow_up_is_withdrawn(intent: Intent) -> None:
    """A batch that has yet to be published would be COMPLETE without having been."""
    waiting = state().model_copy(update={"intent": intent})
    with pytest.raises(IllegalMove, match=f"waits to {intent}.*cancel it instead"):
        moved(waiting, Move.WITHDRAW, now=NOW)


@given(
    status=st.sampled_from(PublishStatus),
    intent=st.sampled_from(Intent),
    moves=st.lists(st.sampled_from(Move), max_size=12),
)
def test_moving_is_total(status: PublishStatus, intent: Intent, moves: list[Move]) -> None:
    """From any state, any sequence of moves gives valid states or IllegalMove, and nothing else."""
    now = state(status).model_copy(update={"intent": intent, "failure_details": failure()})
    for number, move in enumerate(moves):
        due = {"retry_due_at": at(number + 1)} if move is Move.POSTPONE else {}
        try:
            after = moved(now, move, now=at(number), changes=due)
        except IllegalMove:
            withdrawn = move is Move.WITHDRAW and intent not in FOLLOW_UPS
            assert withdrawn or move not in TRANSITIONS[now.status]
            continue
        assert after.status is TRANSITIONS[now.status][move]
        assert (after.status is PublishStatus.RETRYING) <= (after.retry_due_at is not None)
        failed = {"failure_details": after.failure_details or failure()}
        now = PublishState.model_validate({**dict(after), **failed})


def test_the_reference_page_is_current() -> None:
    """docs/reference/publish_states.md is what the code says; regenerate it with publish_states_page()."""
    assert PAGE.read_text() == publish_states_page()
