"""The queue's order is arithmetic over lanes that a person can follow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.manifest import Mode
from penstock.batch.source import SourceSpec
from penstock.identity.ids import BatchId, SourceId
from penstock.publish.queue import (
    Lane,
    Lease,
    QueuePlace,
    QueuePolicy,
    WaitingBatch,
    order_queue,
    score,
)
from penstock.publish.state import PublishStatus
from tests.contracts.control_values import NOW, REGISTRY, at, batch_id, pending, record


def waiting(source: str, minute: float, mode: str = "full", **fields: object) -> WaitingBatch:
    """A batch in the queue."""
    return WaitingBatch(state=pending(record(source, minute), **fields), mode=Mode(mode))


def lane(source: str, batches: Sequence[WaitingBatch], **fields: object) -> Lane:
    """A lane with some batches, oldest first."""
    spec = SourceSpec(source_id=SourceId(source))
    return Lane(
        source_id=spec.source_id,
        target_id=REGISTRY,
        spec=spec,
        waiting=batches,
        **fields,  # type: ignore[arg-type]
    )


def order(*lanes: Lane) -> list[QueuePlace]:
    return order_queue(lanes, QueuePolicy(), NOW)


def ids_of(places: Sequence[QueuePlace]) -> list[BatchId]:
    return [place.state.batch_id for place in places]


def test_an_empty_queue_has_no_places() -> None:
    """No lanes, or lanes in which nothing waits, give an empty list."""
    assert order() == []
    assert order(lane("a", [])) == []


def test_a_lane_is_merged_into_the_others_in_its_own_order() -> None:
    """A high score behind a low one in the same lane has to wait for it."""
    a = lane("a", [waiting("a", 1), waiting("a", 2, priority_boost=50)])
    b = lane("b", [waiting("b", 3, priority_boost=1)])
    assert ids_of(order(a, b)) == [batch_id("b", 3), batch_id("a", 1), batch_id("a", 2)]


def test_a_shut_lane_comes_after_all_open_ones() -> None:
    """However high its score, a lane under a lease waits."""
    lease = Lease(worker_id="w", batch_id=batch_id("a", 0), expires_at=at(5))
    shut = lane("a", [waiting("a", 1, priority_boost=50)], lease=lease)
    places = order(shut, lane("b", [waiting("b", 1), waiting("b", 2)]))
    assert ids_of(places) == [batch_id("b", 1), batch_id("b", 2), batch_id("a", 1)]
    assert places[2].waits_for == (
        f"worker w, which holds {batch_id('a', 0)} until 2026-01-01 12:05:00 UTC"
    )


def test_a_retry_in_the_middle_of_a_lane_shuts_what_follows() -> None:
    """What is before it goes on; what is behind it waits for it."""
    retrying = {"status": PublishStatus.RETRYING, "retry_due_at": at(9)}
    a = lane("a", [waiting("a", 1), waiting("a", 2, **retrying), waiting("a", 3)])
    places = order(a, lane("b", [waiting("b", 4, priority_boost=-9)]))
    assert ids_of(places) == [
        batch_id("a", 1),
        batch_id("b", 4),
        batch_id("a", 2),
        batch_id("a", 3),
    ]
    assert places[2].waits_for == "its retry, due at 2026-01-01 12:09:00 UTC"


def test_a_full_batch_overtakes_what_a_failed_delta_blocks() -> None:
    """The deltas it overtakes are shown last, with why they will fail."""
    batches = [waiting("a", 2, "delta"), waiting("a", 3), waiting("a", 4, "delta")]
    places = order(lane("a", batches, failed_deltas=[at(1)]))
    assert ids_of(places) == [batch_id("a", 3), batch_id("a", 4), batch_id("a", 2)]
    assert places[0].waits_for is None
    assert f"older than batch {batch_id('a', 3)}" in (places[2].waits_for or "")


def test_every_failed_delta_blocks_until_a_full_batch_passes_it() -> None:
    """A full batch between two failed deltas may go, and what is behind the second may not."""
    batches = [waiting("a", 2), waiting("a", 4, "delta")]
    places = order(lane("a", batches, failed_deltas=[at(1), at(3)]))
    assert ids_of(places) == [batch_id("a", 2), batch_id("a", 4)]
    assert "which is FAILED" in (places[1].waits_for or "")


def test_age_counts_from_when_a_batch_was_enqueued() -> None:
    """And never below zero, should a clock be behind."""
    spec, policy = SourceSpec(source_id=SourceId("a")), QueuePolicy()
    old = pending(record("a", 1), enqueued_at=NOW - timedelta(hours=2))
    assert score(spec, old, policy, NOW).age == 2.0
    ahead = pending(record("a", 1), enqueued_at=NOW + timedelta(hours=2))
    assert score(spec, ahead, policy, NOW).age == 0.0


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(-5, 5), st.booleans()), max_size=8),
        max_size=5,
    )
)
def test_every_batch_has_one_place_and_lanes_keep_their_order(
    drawn: list[list[tuple[int, int, bool]]],
) -> None:
    """Whatever waits: places count up from 1, each batch once, and open lanes oldest first."""
    lanes = []
    for number, batches in enumerate(drawn):
        minutes = {minute: (boost, full) for minute, boost, full in batches}
        source = f"s{number}"
        lane_batches = [
            waiting(source, m, "full" if full else "delta", priority_boost=boost)
            for m, (boost, full) in sorted(minutes.items())
        ]
        lanes.append(lane(source, lane_batches))
    places = order(*lanes)
    assert [place.place for place in places] == list(range(1, len(places) + 1))
    everything = [batch.state.batch_id for each in lanes for batch in each.waiting]
    assert sorted(ids_of(places)) == sorted(everything)
    for each in lanes:
        mine = [p.state.batch_id for p in places if p.state.source_id == each.source_id]
        assert mine == [batch.state.batch_id for batch in each.waiting]
    heads = [place for place in places if place.waits_for is None]
    totals = [place.score.total for place in heads]
    assert totals == sorted(totals, reverse=True)
