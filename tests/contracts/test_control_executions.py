"""Attempts, executions and exceptions on SQLite and PostgreSQL: what publishing leaves for those who come after."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost, PenstockError
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.ledger import LedgerRow
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.ports.attempts import PublishAttempt
from penstock.ports.control import (
    BegunExecution,
    Claim,
    PlanExecution,
    Settlement,
    SnapshotHead,
)
from penstock.publish.retry import Tier
from penstock.publish.state import Intent, Move, PublishStatus
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    DIGEST,
    NOW,
    REGISTRY,
    admit,
    at,
    claim,
    exception,
    failure,
    finish,
    head_after,
    must_claim,
    start,
)

A = SourceId("a")
RELEASE = "f" * 32


def attempt(claimed: Claim, minute: float, **fields: Any) -> PublishAttempt:
    values: dict[str, Any] = {
        "tier": Tier.FIRST,
        "worker_id": claimed.worker_id,
        "enqueued_at": claimed.state.enqueued_at,
        "started_at": at(minute - 1),
        "failed_at": at(minute),
        "step": "execute",
        "code": "target_unavailable",
        "message": "refused",
        "retry_at": at(minute + 5),
        "retry_tier": Tier.DELAYED,
    }
    return PublishAttempt(**{**values, **fields})


def row(**counts: int) -> LedgerRow:
    """The account of one type."""
    return LedgerRow(kind=Kind.ENTITY, type_name="table", extracted=3, **counts)


def must_claim_nothing(store: SqlControlStore, now: datetime) -> bool:
    """Whether the lane is free and nothing waits in it."""
    return store.list_leases(now=now) == [] and claim(store, now=now) is None


def begun(claimed: Claim, **fields: Any) -> BegunExecution:
    state = claimed.state
    values: dict[str, Any] = {
        "plan_digest": DIGEST,
        "batch_id": state.batch_id,
        "target_id": state.target_id,
        "source_id": state.source_id,
        "intent": state.intent,
        "plan_path": "plans/p/plan.json",
        "snapshot_before": 0,
        "operations": 10,
        "started_at": at(1),
    }
    return BegunExecution(**{**values, **fields})


def ended(of: BegunExecution, **fields: Any) -> PlanExecution:
    values: dict[str, Any] = {
        "snapshot_after": 1,
        "applied": 8,
        "already_applied": 1,
        "exceptions": 1,
        "finished_at": at(2),
    }
    return PlanExecution(**{**_fields(of), **values, **fields})


def _fields(of: BegunExecution) -> dict[str, Any]:
    return {name: getattr(of, name) for name in BegunExecution.__dataclass_fields__}


def started(store: SqlControlStore, claimed: Claim, *, now: datetime = NOW) -> Claim:
    """Bring a claim to EXECUTING, with its execution begun."""
    planned = store.advance(claimed, Move.PLANNED, now=now, changes={"plan_digest": DIGEST})
    return store.advance(planned, Move.START, now=now, begun=begun(claimed, started_at=now))


class TestAttempts:
    def test_an_attempt_is_recorded_with_the_move_it_led_to(
        self, control_store: SqlControlStore
    ) -> None:
        """They are read back as they were, oldest first, numbered on over a requeue."""
        batch = admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        first = attempt(claimed, 1, message="refused\0")
        due = {"retry_due_at": at(6), "failure_details": failure()}
        control_store.advance(claimed, Move.POSTPONE, now=at(1), changes=due, attempt=first)
        again = must_claim(control_store, now=at(6))
        second = attempt(again, 7, tier=Tier.DELAYED, retry_at=None, retry_tier=None)
        control_store.advance(
            again, Move.FAIL, now=at(7), changes={"failure_details": failure()}, attempt=second
        )
        control_store.requeue(batch, REGISTRY, now=at(8), intent=Intent.PUBLISH)
        third = must_claim(control_store, now=at(8))
        last = attempt(third, 9)
        control_store.advance(third, Move.POSTPONE, now=at(9), changes=due, attempt=last)
        kept = control_store.list_attempts(batch, REGISTRY)
        assert kept == [replace(first, message="refused\ufffd"), second, last]
        assert [a.enqueued_at for a in kept] == [NOW, NOW, at(8)]

    def test_a_batch_that_is_given_up_is_a_dead_letter_at_once(
        self, control_store: SqlControlStore
    ) -> None:
        """There is no moment at which it has failed for good and nobody is told."""
        batch = admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        last = attempt(claimed, 1, retry_at=None, retry_tier=None)
        changes = {"failure_details": failure()}
        control_store.advance(claimed, Move.FAIL, now=at(1), changes=changes, attempt=last)
        (letter,) = control_store.list_dead_letters()
        assert (letter.subject, letter.code, letter.where) == (
            batch,
            "target_unavailable",
            "execute",
        )
        assert (letter.batch_id, letter.target_id) == (batch, REGISTRY)

    def test_a_worker_that_lost_its_lease_records_no_attempt(
        self, control_store: SqlControlStore
    ) -> None:
        """The attempt is part of the move's transaction, which the fence takes back."""
        batch = admit(control_store, "a", 1)
        stale = must_claim(control_store)
        must_claim(control_store, "w2", now=at(5))
        due = {"retry_due_at": at(6), "failure_details": failure()}
        with pytest.raises(LeaseLost):
            control_store.advance(
                stale, Move.POSTPONE, now=at(5), changes=due, attempt=attempt(stale, 5)
            )
        assert control_store.list_attempts(batch, REGISTRY) == []


class TestBegunExecutions:
    def test_an_execution_is_there_from_its_beginning(self, control_store: SqlControlStore) -> None:
        """It is begun with the move that starts it, and ends with the batch."""
        batch = admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        running = started(control_store, claimed, now=at(1))
        (found,) = control_store.begun_executions(A, REGISTRY)
        assert found == begun(claimed)
        assert control_store.list_executions(batch, REGISTRY) == []
        assert control_store.begun_executions(SourceId("b"), REGISTRY) == []
        assert control_store.begun_executions(A, TargetId("other")) == []
        control_store.complete(
            running,
            now=at(2),
            changes={},
            head=head_after(control_store, running),
            ledger=[],
            execution=ended(found),
        )
        assert control_store.begun_executions(A, REGISTRY) == []
        assert control_store.list_executions(batch, REGISTRY) == [ended(found)]

    def test_beginning_again_keeps_the_first_beginning(
        self, control_store: SqlControlStore
    ) -> None:
        """A successor that resumes the same plan does not begin another execution."""
        admit(control_store, "a", 1)
        started(control_store, must_claim(control_store), now=at(0))
        again = must_claim(control_store, "w2", now=at(5))
        started(control_store, again, now=at(5))
        (found,) = control_store.begun_executions(A, REGISTRY)
        assert found.started_at == NOW

    def test_what_was_given_up_is_ended_by_who_comes_next(
        self, control_store: SqlControlStore
    ) -> None:
        """Its end and the snapshot that says what took effect are one transaction, under the lane's lease."""
        first = admit(control_store, "a", 1)
        running = started(control_store, must_claim(control_store))
        control_store.advance(running, Move.FAIL, now=at(1), changes={"failure_details": failure()})
        second = admit(control_store, "a", 2)
        claimed = must_claim(control_store, now=at(2))
        assert claimed.state.batch_id == second
        (given_up,) = control_store.begun_executions(A, REGISTRY)
        head = _head(first, 1)
        control_store.end_execution(claimed, ended(given_up), head)
        assert control_store.snapshot_head(A, REGISTRY) == head
        assert control_store.begun_executions(A, REGISTRY) == []
        assert control_store.list_executions(first, REGISTRY) == [ended(given_up)]
        assert control_store.get_state(first, REGISTRY).status is PublishStatus.FAILED
        assert finish(control_store, claimed, now=at(3)).status is PublishStatus.COMPLETE

    def test_only_the_holder_of_the_lane_ends_it(self, control_store: SqlControlStore) -> None:
        """A worker that lost its lease moves no snapshot on another's behalf either."""
        first = admit(control_store, "a", 1)
        running = started(control_store, must_claim(control_store))
        must_claim(control_store, "w2", now=at(5))
        (found,) = control_store.begun_executions(A, REGISTRY)
        with pytest.raises(LeaseLost):
            control_store.end_execution(running, ended(found), _head(first, 1))
        assert control_store.snapshot_head(A, REGISTRY) is None
        assert len(control_store.begun_executions(A, REGISTRY)) == 1

    def test_the_snapshot_has_to_be_of_the_execution(self, control_store: SqlControlStore) -> None:
        """A mix-up of batches is caught before it is stored."""
        admit(control_store, "a", 1)
        running = started(control_store, must_claim(control_store))
        (found,) = control_store.begun_executions(A, REGISTRY)
        other = _head(BatchId("a@other"), 1)
        with pytest.raises(PenstockError, match="is of batch 'a@other'"):
            control_store.end_execution(running, ended(found), other)

    def test_without_a_snapshot_it_just_ends(self, control_store: SqlControlStore) -> None:
        """Where nothing took effect the snapshot stays."""
        admit(control_store, "a", 1)
        running = started(control_store, must_claim(control_store))
        (found,) = control_store.begun_executions(A, REGISTRY)
        control_store.end_execution(running, ended(found, snapshot_after=0), None)
        assert control_store.snapshot_head(A, REGISTRY) is None
        assert control_store.begun_executions(A, REGISTRY) == []


def _head(batch: BatchId, version: int) -> SnapshotHead:
    return SnapshotHead(
        source_id=A,
        target_id=REGISTRY,
        version=version,
        path="snapshots/1",
        digest="e" * 32,
        batch_id=batch,
        source_timestamp=at(0),
    )


class TestExceptions:
    def test_they_are_counted_when_the_batch_is_complete(
        self, control_store: SqlControlStore
    ) -> None:
        """The state says how many are held, blocked and rejected, and their sum."""
        admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        outcomes = ["held", "held", "blocked", "rejected", "refused", "conflict", "lost"]
        found = [exception(n, outcome=outcome) for n, outcome in enumerate(outcomes)]
        control_store.record_exceptions(running, found, now=NOW)
        head = head_after(control_store, running)
        state = control_store.complete(running, now=NOW, changes={}, head=head, ledger=[])
        assert (state.exceptions, state.held, state.blocked, state.rejected) == (7, 2, 1, 4)

    def test_why_is_kept(self, control_store: SqlControlStore) -> None:
        """The guard that holds an operation and the culprit that blocks one are read back."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        held = exception(1, outcome="held", code="held_by_guard", guard="delete_share")
        blocked = exception(2, outcome="blocked", code="blocked", blocked_by=f"{1:032x}")
        control_store.record_exceptions(running, [held, blocked], now=NOW)
        assert control_store.list_exceptions(batch, REGISTRY) == [held, blocked]

    def test_a_plan_s_exceptions_are_paged_through_whole(
        self, control_store: SqlControlStore
    ) -> None:
        """However many there are, each is yielded once, by operation id, and those of other plans are not."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        many = [exception(n) for n in range(10_001)]
        control_store.record_exceptions(running, many, now=NOW)
        assert list(control_store.plan_exceptions(batch, REGISTRY, DIGEST)) == many
        assert list(control_store.plan_exceptions(batch, REGISTRY, RELEASE)) == []

    def test_a_follow_up_settles_what_it_makes_up_for(self, control_store: SqlControlStore) -> None:
        """What is settled is open no more; what is left, and what the follow-up itself did not apply, is."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        held = [exception(n, outcome="held") for n in range(4)]
        control_store.record_exceptions(running, held, now=NOW)
        head = head_after(control_store, running)
        control_store.complete(running, now=NOW, changes={}, head=head, ledger=[])

        control_store.requeue(batch, REGISTRY, now=at(1), intent=Intent.RELEASE)
        claimed = must_claim(control_store, now=at(1))
        changes = {"plan_digest": RELEASE, "execution_plan_path": "plans/r"}
        planned = control_store.advance(claimed, Move.PLANNED, now=at(1), changes=changes)
        releasing = control_store.advance(planned, Move.START, now=at(1))
        refused = exception(2, outcome="rejected")
        control_store.record_exceptions(releasing, [refused], now=at(1))
        settlement = Settlement(
            plan_digest=DIGEST,
            operation_ids=[[f"{n:032x}" for n in (0, 1)], [f"{2:032x}"]],
            settled_by=RELEASE,
        )
        state = control_store.complete(
            releasing,
            now=at(2),
            changes={},
            head=head_after(control_store, releasing),
            ledger=None,
            settlement=settlement,
        )
        assert (state.exceptions, state.held, state.rejected) == (2, 1, 1)
        assert control_store.list_exceptions(batch, REGISTRY) == [refused, held[3]]
        assert list(control_store.plan_exceptions(batch, REGISTRY, DIGEST)) == held

    @pytest.fixture
    def asked(self, control_store: SqlControlStore) -> Claim:
        """The claim on a batch's release: of six exceptions three are held, one of them for good."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        found = [
            exception(0, outcome="held", guard="delete_share"),
            exception(1, outcome="held", guard="delete_share"),
            exception(2, outcome="held", guard="protected"),
            exception(3, outcome="blocked", blocked_by=f"{1:032x}"),
            exception(4, outcome="blocked", blocked_by=f"{2:032x}"),
            exception(5, outcome="rejected"),
        ]
        control_store.record_exceptions(running, found, now=NOW)
        head = head_after(control_store, running)
        control_store.complete(running, now=NOW, changes={}, head=head, ledger=[row(held=3)])
        decided = Approval(
            approval_id="a" * 32,
            batch_id=batch,
            target_id=REGISTRY,
            source_id=A,
            plan_digest=DIGEST,
            decision=Decision.APPROVE,
            approver="ada",
            reason="they left",
            decided_at=NOW,
            expires_at=None,
            status=ApprovalStatus.ACTIVE,
        )
        control_store.decide_hold(decided, now=NOW)
        return must_claim(control_store, now=at(1))

    def test_what_a_release_leaves_out_is_superseded(
        self, control_store: SqlControlStore, asked: Claim
    ) -> None:
        """All that could have been released is decided then; what is never released, and what failed, stays open."""
        changes = {"plan_digest": RELEASE, "execution_plan_path": "plans/r"}
        planned = control_store.advance(asked, Move.PLANNED, now=at(1), changes=changes)
        releasing = control_store.advance(planned, Move.START, now=at(1))
        settlement = Settlement(
            plan_digest=DIGEST,
            operation_ids=[[f"{0:032x}"]],
            settled_by=RELEASE,
            supersedes_rest=True,
        )
        state = control_store.complete(
            releasing,
            now=at(2),
            changes={},
            head=head_after(control_store, releasing),
            ledger=[row(deleted=1, held=1, superseded=1)],
            settlement=settlement,
        )
        assert (state.held, state.blocked, state.rejected) == (1, 1, 1)
        left = control_store.list_exceptions(state.batch_id, REGISTRY)
        assert [each.operation_id for each in left] == [f"{n:032x}" for n in (2, 4, 5)]
        assert control_store.get_ledger(state.batch_id, REGISTRY) == [
            row(deleted=1, held=1, superseded=1)
        ]
        assert [each.status for each in control_store.list_approvals()] == ["used"]

    def test_a_release_that_is_withdrawn_settles_in_the_same_transaction(
        self, control_store: SqlControlStore, asked: Claim
    ) -> None:
        """Nothing fits any more: what was held is superseded, the approval void, and the account says so."""
        why = attempt(asked, 2, code="withdrawn", message="nothing fits", retry_at=None)
        settlement = Settlement(
            plan_digest=DIGEST, operation_ids=(), settled_by=RELEASE, supersedes_rest=True
        )
        account = [row(held=1, superseded=2)]
        ended = control_store.withdraw(
            asked, now=at(2), changes={}, attempt=why, settlement=settlement, ledger=account
        )
        state = control_store.get_state(asked.state.batch_id, REGISTRY)
        assert ended.state == state
        assert (state.status, state.plan_digest) == (PublishStatus.COMPLETE, DIGEST)
        assert (state.held, state.blocked, state.rejected) == (1, 1, 1)
        assert control_store.get_ledger(state.batch_id, REGISTRY) == account
        (decided,) = control_store.list_approvals()
        assert (decided.status, decided.settled_why) == (ApprovalStatus.VOID, "nothing fits")
        (kept,) = control_store.list_attempts(state.batch_id, REGISTRY)
        assert kept.message == "nothing fits"
        assert must_claim_nothing(control_store, at(3))

    def test_one_that_is_withdrawn_without_a_word_stays_as_it_stood(
        self, control_store: SqlControlStore, asked: Claim
    ) -> None:
        """What was held is held, the account as it was, and a worker that lost the lane withdraws nothing."""
        why = attempt(asked, 2, code="withdrawn", retry_at=None)
        late = must_claim(control_store, "w2", now=at(10))
        with pytest.raises(LeaseLost):
            control_store.withdraw(asked, now=at(11), changes={}, attempt=why)
        control_store.withdraw(late, now=at(11), changes={}, attempt=why)
        state = control_store.get_state(asked.state.batch_id, REGISTRY)
        assert (state.status, state.held, state.exceptions) == (PublishStatus.COMPLETE, 3, 6)
        assert control_store.get_ledger(state.batch_id, REGISTRY) == [row(held=3)]
        assert [each.status for each in control_store.list_approvals()] == ["active"]

    def test_bad_operations_become_letters_with_their_chunk(
        self, control_store: SqlControlStore
    ) -> None:
        """What no retry mends is a dead letter with the data that was sent; what is held or blocked is none."""
        admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        control_store.start_chunk(running, 0, 5, now=NOW)
        outcomes = ["held", "blocked", "rejected", "lost"]
        found = [exception(n, outcome=outcome) for n, outcome in enumerate(outcomes)]
        control_store.finish_chunk(
            running,
            0,
            applied=1,
            already_applied=0,
            exceptions=found,
            data={f"{2:032x}": '{"n":1}'},
            now=NOW,
        )
        letters = {x.operation_id: x for x in control_store.list_dead_letters()}
        assert set(letters) == {f"{n:032x}" for n in (2, 3)}
        assert letters[f"{2:032x}"].data == '{"n":1}'
        assert letters[f"{2:032x}"].plan_digest == DIGEST
