"""The life of one publish state, against a small model written from the reference page and not from the table."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from penstock.errors import IllegalMove, PenstockError
from penstock.publish.state import (
    Intent,
    Move,
    PublishState,
    PublishStatus,
    moved,
    next_status,
    requeued,
)
from tests.contracts.control_values import NOW, failure, pending, record

FOLLOW_UPS = ("release", "repair")
IN_HAND = ("PLANNING", "PLAN_COMPLETE", "EXECUTING")
WAITING = ("PENDING", "RETRYING")


class PublishStateMachine(RuleBasedStateMachine):
    """Every rule makes one move in both; what is illegal changes neither."""

    def __init__(self) -> None:
        super().__init__()
        self.state = pending(record("a", 1), priority_boost=1.5)
        self.born = self.state
        self.now = NOW
        self.status = "PENDING"
        self.intent = "publish"
        self.due_at: datetime | None = None
        self.enqueued_at = NOW
        self.failed = False
        self.plan: str | None = None
        self.own_plan: str | None = None
        self.started_at: datetime | None = None
        self.plans = 0

    def _move(self, move: Move, allowed: tuple[str, ...], **changes: object) -> bool:
        self.now += timedelta(seconds=1)
        if self.status in allowed:
            self.state = moved(self.state, move, now=self.now, changes=changes)
            return True
        with pytest.raises(IllegalMove):
            moved(self.state, move, now=self.now, changes=changes)
        return False

    @rule()
    def claim(self) -> None:
        if self._move(Move.CLAIM, WAITING):
            self.status, self.due_at = "PLANNING", None
            self.started_at = self.started_at or self.now

    @rule()
    def plan_it(self) -> None:
        digest = f"{self.plans + 1:032x}"
        if self._move(Move.PLANNED, ("PLANNING",), plan_digest=digest):
            self.status, self.plan, self.plans = "PLAN_COMPLETE", digest, self.plans + 1

    @rule()
    def start(self) -> None:
        if self._move(Move.START, ("PLAN_COMPLETE",)):
            self.status = "EXECUTING"

    @rule()
    def succeed(self) -> None:
        if self._move(Move.SUCCEED, ("EXECUTING",)):
            self.status, self.failed = "COMPLETE", False
            assert self.state.publish_end_timestamp == self.now

    @rule()
    def fail(self) -> None:
        if self._move(Move.FAIL, (*WAITING, *IN_HAND), failure_details=failure()):
            self.status, self.failed, self.due_at = "FAILED", True, None
            assert self.state.publish_end_timestamp == self.now

    @rule(minutes=st.integers(1, 9))
    def postpone(self, minutes: int) -> None:
        due_at = self.now + timedelta(minutes=minutes)
        if self._move(Move.POSTPONE, IN_HAND, retry_due_at=due_at, failure_details=failure()):
            self.status, self.due_at, self.failed = "RETRYING", due_at, True

    @rule()
    def postpone_without_a_time(self) -> None:
        if self.status in IN_HAND:
            with pytest.raises(PenstockError, match="give retry_due_at"):
                moved(self.state, Move.POSTPONE, now=self.now)

    @rule()
    def give_back(self) -> None:
        if self.status in ("COMPLETE", "FAILED"):
            return  # an operator's: see requeue
        if self._move(Move.REQUEUE, IN_HAND):
            self.status = "PENDING"

    @rule()
    def withdraw(self) -> None:
        allowed = (*WAITING, *IN_HAND) if self.intent in FOLLOW_UPS else ()
        if self._move(Move.WITHDRAW, allowed, plan_digest=self.own_plan):
            self.status, self.failed, self.due_at = "COMPLETE", False, None
            self.plan = self.own_plan

    @rule(intent=st.sampled_from(Intent))
    def requeue(self, intent: Intent) -> None:
        self.now += timedelta(seconds=1)
        follows = intent in FOLLOW_UPS
        if self.status not in (("COMPLETE",) if follows else ("COMPLETE", "FAILED")):
            with pytest.raises(IllegalMove):
                requeued(self.state, now=self.now, intent=intent)
            return
        self.state = requeued(self.state, now=self.now, intent=intent)
        self.status, self.intent, self.enqueued_at = "PENDING", str(intent), self.now
        if follows:
            self.own_plan = self.own_plan or self.plan
        else:
            self.plan = self.own_plan = self.started_at = None
            self.failed = False

    @rule(move=st.sampled_from(Move))
    def any_move_is_legal_or_named(self, move: Move) -> None:
        try:
            after = next_status(self.state.status, move)
        except IllegalMove as illegal:
            assert str(self.state.status) in str(illegal)  # noqa: PT017
        else:
            assert after in PublishStatus

    @invariant()
    def both_are_the_same(self) -> None:
        state = self.state
        assert (str(state.status), str(state.intent)) == (self.status, self.intent)
        assert (state.failure_details is not None) == self.failed
        assert (state.plan_digest, state.base_plan_digest) == (self.plan, self.own_plan)
        assert (state.retry_due_at, state.enqueued_at) == (self.due_at, self.enqueued_at)
        assert state.publish_start_timestamp == self.started_at

    @invariant()
    def what_names_the_batch_never_changes(self) -> None:
        names = (
            "batch_id",
            "source_id",
            "target_id",
            "s3_path",
            "source_timestamp",
            "priority_boost",
        )
        assert all(getattr(self.state, name) == getattr(self.born, name) for name in names)
        assert PublishState.model_validate(dict(self.state)) == self.state


def test_a_publish_state_lives_as_the_model_says() -> None:
    """Some thousand moves, legal or not: status, plans, moments and failures agree after each."""
    chosen = settings(deadline=None, derandomize=True, max_examples=150, stateful_step_count=40)
    run_state_machine_as_test(PublishStateMachine, settings=chosen)
