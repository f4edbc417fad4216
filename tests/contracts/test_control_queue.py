"""Every control store hands out batches one lane at a time, oldest first, under leases that fence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove, LeaseLost, NotFound, PenstockError
from penstock.identity.ids import BatchId, SourceId
from penstock.ports.control import Claim
from penstock.publish.queue import SUPERSEDED, QueuePolicy
from penstock.publish.state import Intent, Move, PublishStatus
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    NOW,
    POLICY,
    REGISTRY,
    admit,
    at,
    batch_id,
    claim,
    exception,
    fail,
    failure,
    finish,
    head_after,
    must_claim,
    publish,
    start,
)


def status(store: SqlControlStore, batch: BatchId) -> PublishStatus:
    return store.get_state(batch, REGISTRY).status


def postpone(store: SqlControlStore, claimed: Claim, minute: float) -> Claim:
    changes = {"retry_due_at": at(minute), "failure_details": failure()}
    return store.advance(claimed, Move.POSTPONE, now=NOW, changes=changes)


class TestOrder:
    def test_an_empty_queue_gives_nothing(self, control_store: SqlControlStore) -> None:
        """None is the answer when nothing waits."""
        assert claim(control_store) is None

    def test_within_a_lane_the_oldest_goes_first(self, control_store: SqlControlStore) -> None:
        """Whatever order batches arrive in and whatever boost they have."""
        for minute, boost in ((3, 9.0), (1, 0.0), (2, 5.0)):
            admit(control_store, "a", minute, priority_boost=boost)
        published = [publish(control_store) for _ in range(3)]
        assert published == [batch_id("a", minute) for minute in (1, 2, 3)]
        assert claim(control_store) is None

    def test_one_batch_of_a_lane_at_a_time(self, control_store: SqlControlStore) -> None:
        """While the first is in hand the second waits; other lanes do not."""
        admit(control_store, "a", 1)
        admit(control_store, "a", 2)
        first = must_claim(control_store)
        assert claim(control_store, "w2") is None
        admit(control_store, "b", 9)
        assert must_claim(control_store, "w2").state.source_id == "b"
        finish(control_store, first)
        assert must_claim(control_store, "w2").state.batch_id == batch_id("a", 2)

    def test_across_lanes_the_score_decides(self, control_store: SqlControlStore) -> None:
        """Importance, complexity, age and boost weigh as the policy says."""
        specs = [
            SourceSpec(source_id=SourceId("plain")),
            SourceSpec(source_id=SourceId("important"), importance=1.0),
            SourceSpec(source_id=SourceId("dear"), complexity=1.0),
        ]
        control_store.sync_sources(specs)
        for spec in specs:
            admit(control_store, spec.source_id, 1)
        admit(control_store, "aged", 1, enqueued_at=NOW - timedelta(hours=3))
        admit(control_store, "boosted", 1, priority_boost=10)
        claimed = [must_claim(control_store).state.source_id for _ in range(5)]
        assert claimed == ["boosted", "aged", "important", "plain", "dear"]

    def test_equal_scores_go_by_age_and_then_by_name(self, control_store: SqlControlStore) -> None:
        """The order is total, so that two stores agree on it."""
        for source, minute in (("c", 2), ("b", 2), ("a", 3), ("z", 1)):
            admit(control_store, source, minute)
        claimed = [must_claim(control_store).state.source_id for _ in range(4)]
        assert claimed == ["z", "b", "c", "a"]

    def test_a_boost_moves_a_lane_forward(self, control_store: SqlControlStore) -> None:
        """An operator's word counts from the next claim on."""
        admit(control_store, "a", 1)
        late = admit(control_store, "b", 2)
        assert control_store.boost(late, REGISTRY, 5.0).priority_boost == 5.0
        assert must_claim(control_store).state.batch_id == late

    def test_only_what_waits_can_be_boosted(self, control_store: SqlControlStore) -> None:
        """A boost for anything else is an error that says so."""
        batch = admit(control_store, "a", 1)
        with pytest.raises(PenstockError, match="finite"):
            control_store.boost(batch, REGISTRY, float("nan"))
        must_claim(control_store)
        with pytest.raises(IllegalMove, match=r"PLANNING .*\(PENDING, RETRYING\)"):
            control_store.boost(batch, REGISTRY, 1.0)
        with pytest.raises(NotFound):
            control_store.boost(BatchId("a@x"), REGISTRY, 1.0)

    def test_only_restricts_the_choice(self, control_store: SqlControlStore) -> None:
        """A run for given batches takes those, and leaves the others however high they stand."""
        first = admit(control_store, "a", 1)
        second = admit(control_store, "a", 2)
        admit(control_store, "b", 1, priority_boost=99)
        assert claim(control_store, only=[]) is None
        assert claim(control_store, only=[(second, REGISTRY)]) is None
        assert must_claim(control_store, only=[(first, REGISTRY)]).state.batch_id == first


class TestRetries:
    def test_a_postponed_batch_holds_its_lane_until_it_is_due(
        self, control_store: SqlControlStore
    ) -> None:
        """Order is strict: what is newer waits for the retry."""
        batch = admit(control_store, "a", 1)
        admit(control_store, "a", 2)
        postponed = postpone(control_store, must_claim(control_store), 10)
        assert postponed.state.status is PublishStatus.RETRYING
        assert claim(control_store, now=at(9.99)) is None
        again = must_claim(control_store, now=at(10))
        assert again.state.batch_id == batch
        assert again.state.retry_due_at is None
        assert again.state.failure_details == failure()

    def test_to_postpone_needs_a_time(self, control_store: SqlControlStore) -> None:
        """A batch that nothing would wake is refused."""
        admit(control_store, "a", 1)
        with pytest.raises(PenstockError, match="give retry_due_at"):
            control_store.advance(must_claim(control_store), Move.POSTPONE, now=NOW)

    def test_a_worker_can_hand_a_batch_back(self, control_store: SqlControlStore) -> None:
        """REQUEUE under a claim ends the lease, and the batch is there for the next."""
        batch = admit(control_store, "a", 1)
        back = control_store.advance(must_claim(control_store), Move.REQUEUE, now=NOW)
        assert back.state.status is PublishStatus.PENDING
        assert must_claim(control_store, "w2").state.batch_id == batch


class TestFailures:
    def test_a_failed_full_batch_blocks_nothing(self, control_store: SqlControlStore) -> None:
        """The next batch, full or delta, is planned against the snapshot all the same."""
        admit(control_store, "a", 1)
        admit(control_store, "a", 2, mode="delta")
        fail(control_store, must_claim(control_store))
        assert publish(control_store) == batch_id("a", 2)

    def test_a_failed_delta_blocks_the_deltas_behind_it(
        self, control_store: SqlControlStore
    ) -> None:
        """Without it they would leave a hole; requeued, it goes first again."""
        failed = admit(control_store, "a", 1, mode="delta")
        admit(control_store, "a", 2, mode="delta")
        fail(control_store, must_claim(control_store))
        assert claim(control_store) is None
        control_store.requeue(failed, REGISTRY, now=NOW, intent=Intent.PUBLISH)
        assert [publish(control_store), publish(control_store)] == [failed, batch_id("a", 2)]

    def test_a_full_batch_makes_up_for_a_failed_delta(self, control_store: SqlControlStore) -> None:
        """It goes before the deltas that are blocked, and they are superseded by it."""
        admit(control_store, "a", 1, mode="delta")
        between = admit(control_store, "a", 2, mode="delta")
        fail(control_store, must_claim(control_store))
        full = admit(control_store, "a", 3)
        after = admit(control_store, "a", 4, mode="delta")
        assert publish(control_store) == full
        assert publish(control_store) == after
        assert status(control_store, between) is PublishStatus.FAILED

    def test_a_failed_delta_older_than_the_snapshot_blocks_nothing(
        self, control_store: SqlControlStore
    ) -> None:
        """What the target has is newer than what failed."""
        admit(control_store, "a", 1, mode="delta")
        fail(control_store, must_claim(control_store))
        admit(control_store, "a", 2)
        publish(control_store)
        admit(control_store, "a", 3, mode="delta")
        assert publish(control_store) == batch_id("a", 3)

    def test_an_older_batch_is_not_behind_a_failed_delta(
        self, control_store: SqlControlStore
    ) -> None:
        """A delta that arrives late and is older than the one that failed may go."""
        admit(control_store, "a", 2, mode="delta")
        fail(control_store, must_claim(control_store))
        late = admit(control_store, "a", 1, mode="delta")
        assert publish(control_store) == late
        admit(control_store, "a", 3, mode="delta")
        assert claim(control_store) is None

    def test_to_fail_needs_a_reason(self, control_store: SqlControlStore) -> None:
        """A failure that nobody could understand is refused."""
        admit(control_store, "a", 1)
        with pytest.raises(PenstockError, match="give failure_details"):
            control_store.advance(must_claim(control_store), Move.FAIL, now=NOW)


class TestNewerFirst:
    def test_an_older_batch_never_overwrites_a_newer_one(
        self, control_store: SqlControlStore
    ) -> None:
        """When it comes up it fails, says why, and the next in the lane is claimed at once."""
        admit(control_store, "a", 5)
        publish(control_store)
        late = [admit(control_store, "a", minute) for minute in (1, 2)]
        admit(control_store, "a", 6)
        assert publish(control_store) == batch_id("a", 6)
        for batch in late:
            state = control_store.get_state(batch, REGISTRY)
            assert state.status is PublishStatus.FAILED
            assert state.publish_end_timestamp == NOW
            assert state.failure_details is not None
            assert state.failure_details.error_code == SUPERSEDED
            assert "requeue it as a republish" in state.failure_details.error_message

    def test_it_fails_even_if_nothing_else_waits(self, control_store: SqlControlStore) -> None:
        """A claim that finds only such batches gives nothing, and the queue is empty afterwards."""
        admit(control_store, "a", 5)
        publish(control_store)
        late = admit(control_store, "a", 1)
        assert claim(control_store) is None
        assert status(control_store, late) is PublishStatus.FAILED

    def test_requeued_without_republish_it_fails_again(
        self, control_store: SqlControlStore
    ) -> None:
        """Going back is only ever done on purpose."""
        old = admit(control_store, "a", 1)
        publish(control_store)
        admit(control_store, "a", 2)
        publish(control_store)
        control_store.requeue(old, REGISTRY, now=NOW, intent=Intent.PUBLISH)
        assert claim(control_store) is None
        assert status(control_store, old) is PublishStatus.FAILED
        control_store.requeue(old, REGISTRY, now=NOW, intent=Intent.REPUBLISH)
        assert publish(control_store) == old

    def test_after_a_republish_only_newer_batches_go_on(
        self, control_store: SqlControlStore
    ) -> None:
        """The snapshot keeps the newest source timestamp, so nothing older slips in behind."""
        old = admit(control_store, "a", 1)
        publish(control_store)
        admit(control_store, "a", 3)
        publish(control_store)
        control_store.requeue(old, REGISTRY, now=NOW, intent=Intent.REPUBLISH)
        publish(control_store)
        between = admit(control_store, "a", 2)
        newer = admit(control_store, "a", 4)
        assert publish(control_store) == newer
        assert status(control_store, between) is PublishStatus.FAILED

    def test_the_batch_that_the_snapshot_is_of_may_be_published_again(
        self, control_store: SqlControlStore
    ) -> None:
        """It is not older than itself."""
        batch = admit(control_store, "a", 1)
        publish(control_store)
        control_store.requeue(batch, REGISTRY, now=NOW, intent=Intent.PUBLISH)
        assert publish(control_store) == batch

    def test_only_does_not_touch_other_lanes(self, control_store: SqlControlStore) -> None:
        """A run for one lane's batch leaves what is superseded in another to another run."""
        admit(control_store, "a", 5)
        publish(control_store)
        late = admit(control_store, "a", 1)
        other = admit(control_store, "b", 1)
        must_claim(control_store, only=[(other, REGISTRY)])
        assert status(control_store, late) is PublishStatus.PENDING


class TestLeases:
    def test_a_lease_runs_for_as_long_as_was_asked(self, control_store: SqlControlStore) -> None:
        """And a renewal runs from the moment it is made."""
        admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        assert claimed.lease_expires_at == NOW + timedelta(seconds=60)
        renewed = control_store.renew(claimed, now=at(0.5), lease_s=90)
        assert renewed.lease_expires_at == at(2)
        assert claim(control_store, "w2", now=at(1.99)) is None

    @pytest.mark.parametrize("started", [False, True])
    def test_an_abandoned_batch_is_taken_over(
        self, control_store: SqlControlStore, started: bool
    ) -> None:
        """After its lease has run out another worker gets it, with a higher token."""
        batch = admit(control_store, "a", 1)
        admit(control_store, "a", 2)
        first = must_claim(control_store)
        if started:
            start(control_store, first)
        assert claim(control_store, "w2", now=at(0.99)) is None
        second = must_claim(control_store, "w2", now=at(1))
        assert (second.state.batch_id, second.worker_id) == (batch, "w2")
        assert second.state.status is PublishStatus.PLANNING
        assert second.fencing_token > first.fencing_token

    @pytest.mark.parametrize("write", range(8))
    def test_a_revived_worker_can_write_nothing(
        self, control_store: SqlControlStore, write: int
    ) -> None:
        """Every write with the old token is refused, names both workers, and changes nothing."""
        batch = admit(control_store, "a", 1)
        old = start(control_store, must_claim(control_store, "old"))
        control_store.start_chunk(old, 0, 1, now=NOW)
        new = must_claim(control_store, "new", now=at(2))
        head, details = head_after(control_store, old), {"failure_details": failure()}
        due = {**details, "retry_due_at": at(9)}
        writes: list[Callable[[], object]] = [
            lambda: control_store.renew(old, now=at(3), lease_s=60),
            lambda: control_store.advance(old, Move.FAIL, now=at(3), changes=details),
            lambda: control_store.advance(old, Move.POSTPONE, now=at(3), changes=due),
            lambda: control_store.advance(old, Move.REQUEUE, now=at(3)),
            lambda: control_store.start_chunk(old, 1, 1, now=at(3)),
            lambda: control_store.finish_chunk(
                old, 0, applied=1, already_applied=0, exceptions=[], now=at(3)
            ),
            lambda: control_store.record_exceptions(old, [exception(1)], now=at(3)),
            lambda: control_store.complete(old, now=at(3), changes={}, head=head, ledger=[]),
        ]
        assert old.state.plan_digest is not None
        chunks = control_store.chunks(old.state.plan_digest, batch, REGISTRY)
        with pytest.raises(LeaseLost, match=r"'old' .*taken over by worker 'new': stop, and write"):
            writes[write]()
        assert control_store.get_state(batch, REGISTRY) == new.state
        assert control_store.chunks(old.state.plan_digest, batch, REGISTRY) == chunks
        assert control_store.list_exceptions(batch, REGISTRY) == []
        assert control_store.renew(new, now=at(3), lease_s=60)

    def test_a_late_worker_whom_nobody_replaced_may_go_on(
        self, control_store: SqlControlStore
    ) -> None:
        """An expired lease that no other worker has taken is still good, and can be renewed."""
        admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        renewed = control_store.renew(claimed, now=at(30), lease_s=60)
        assert claim(control_store, "w2", now=at(30.5)) is None
        finish(control_store, renewed, now=at(31))

    def test_a_settled_batch_frees_its_lane_for_good(self, control_store: SqlControlStore) -> None:
        """The worker that ended its lease cannot write for it again, though nobody has claimed since."""
        admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        fail(control_store, claimed)
        with pytest.raises(LeaseLost, match="has ended its lease on lane a -> registry"):
            fail(control_store, claimed)

    def test_leases_in_force_are_listed(self, control_store: SqlControlStore) -> None:
        """By expiry, and only until they expire or end."""
        for source in ("a", "b", "c"):
            admit(control_store, source, 1)
        late = must_claim(control_store, "late", now=at(0.5))
        soon, done = must_claim(control_store, "soon"), must_claim(control_store, "done")
        finish(control_store, done)
        listed = control_store.list_leases(now=at(0.9))
        assert [(each.worker_id, each.batch_id) for each in listed] == [
            ("soon", soon.state.batch_id),
            ("late", late.state.batch_id),
        ]
        assert [each.worker_id for each in control_store.list_leases(now=at(1))] == ["late"]

    def test_tokens_only_grow(self, control_store: SqlControlStore) -> None:
        """From claim to claim of a lane, whoever makes it and however it ends."""
        tokens = []
        for minute in range(1, 5):
            admit(control_store, "a", minute)
            claimed = must_claim(control_store, now=at(minute * 10))
            tokens.append(claimed.fencing_token)
            if minute % 2:
                fail(control_store, claimed)
            else:
                finish(control_store, claimed)
        assert tokens == sorted(set(tokens))


class TestExplain:
    def test_the_order_is_that_of_claims(self, control_store: SqlControlStore) -> None:
        """What is explained is what happens when one worker drains the queue."""
        control_store.sync_sources([SourceSpec(source_id=SourceId("b"), importance=0.9)])
        for source, minute in (("a", 1), ("a", 2), ("b", 1), ("b", 5), ("c", 3)):
            admit(control_store, source, minute, enqueued_at=at(-minute * 30))
        places = control_store.explain_queue(now=NOW, policy=POLICY)
        assert [p.place for p in places] == [1, 2, 3, 4, 5]
        assert [p.state.batch_id for p in places] == [publish(control_store) for _ in places]

    def test_every_wait_is_explained(self, control_store: SqlControlStore) -> None:
        """A lease, a retry, an older batch, a failed delta and a newer snapshot each have their words."""
        admit(control_store, "held", 1)
        must_claim(control_store)
        admit(control_store, "held", 2)
        admit(control_store, "later", 1)
        postpone(control_store, must_claim(control_store), 30)
        admit(control_store, "stuck", 1, mode="delta")
        fail(control_store, must_claim(control_store))
        admit(control_store, "stuck", 2, mode="delta")
        admit(control_store, "late", 9)
        publish(control_store)
        admit(control_store, "late", 1)
        admit(control_store, "free", 1)
        admit(control_store, "free", 2)
        places = control_store.explain_queue(now=NOW, policy=POLICY)
        waits = {p.state.batch_id: p.waits_for or "" for p in places}
        assert waits[batch_id("free", 1)] == ""
        assert waits[batch_id("free", 2)].startswith("batch free@")
        assert waits[batch_id("held", 2)].startswith("worker w1, which holds held@")
        assert waits[batch_id("later", 1)] == "its retry, due at 2026-01-01 12:30:00 UTC"
        assert "which is FAILED: requeue it, or land a full batch" in waits[batch_id("stuck", 2)]
        assert SUPERSEDED in waits[batch_id("late", 1)]
        assert [p.state.batch_id for p in places][:2] == [batch_id("free", 1), batch_id("free", 2)]
        assert places[-1].state.batch_id == batch_id("late", 1)

    def test_the_arithmetic_is_shown(self, control_store: SqlControlStore) -> None:
        """Each part of the score can be checked by hand."""
        control_store.sync_sources(
            [SourceSpec(source_id=SourceId("a"), importance=0.5, complexity=0.25)]
        )
        admit(control_store, "a", 1, enqueued_at=at(-90), priority_boost=3)
        policy = QueuePolicy(
            answer_within_s=None, importance_weight=4, complexity_weight=2, boost_weight=0.5
        )
        (place,) = control_store.explain_queue(now=NOW, policy=policy)
        parts = (place.score.age, place.score.importance, place.score.complexity, place.score.boost)
        assert parts == (1.5, 2.0, -0.5, 1.5)
        assert place.score.total == 4.5

    def test_an_abandoned_batch_is_in_the_queue_again(self, control_store: SqlControlStore) -> None:
        """Its worker's lease has run out, so it is as good as waiting."""
        batch = admit(control_store, "a", 1)
        must_claim(control_store)
        assert control_store.explain_queue(now=NOW, policy=POLICY) == []
        (place,) = control_store.explain_queue(now=at(2), policy=POLICY)
        assert (place.state.batch_id, place.waits_for) == (batch, None)


def test_a_claim_steps_into_indexes_and_never_reads_the_queue(
    new_control_url: Callable[[str], str],
) -> None:
    """The plan of a claim's query scans lanes and looks everything else up, in the partial indexes."""
    store = SqlControlStore(new_control_url("sqlite"))
    asked: list[tuple[str, Any]] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    claim(store)
    ((statement, parameters),) = [one for one in asked if "publish_state AS waiting" in one[0]]
    with store.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = [str(row[3]) for row in plan]
    store.close()
    assert [step for step in steps if step.startswith("SCAN")] == ["SCAN lane"]
    assert sum("ix_publish_state_in_queue" in step for step in steps) == 2
    assert sum("ix_publish_state_failed_delta" in step for step in steps) == 1
