"""Who goes before what waits, by the scores of what would land now."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.source import SourceSpec
from penstock.forecast.eta import Overtaking, Situation
from penstock.forecast.rates import Rates
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.publish.queue import QueuePlace, QueuePolicy, Score
from penstock.publish.state import PublishMetrics, PublishState, PublishStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
R = TargetId("registry")
_SHARE = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def _place(source: str, score: float) -> QueuePlace:
    state = PublishState.model_construct(
        batch_id=BatchId("b"),
        source_id=SourceId(source),
        target_id=R,
        tenant_id=TenantId("acme"),
        s3_path="",
        source_timestamp=NOW,
        processing_timestamp=NOW,
        status=PublishStatus.PENDING,
        metrics=PublishMetrics(),
        enqueued_at=NOW,
    )
    points = Score(age=score, importance=0.0, complexity=0.0, boost=0.0)
    return QueuePlace(place=1, state=state, score=points, waits_for=None)


@given(
    lanes=st.lists(st.tuples(_SHARE, _SHARE, _SHARE), max_size=8),
    mine=st.integers(0, 8),
    score=st.sampled_from([-1.0, -0.125, 0.0, 0.5, 1.0, 1.25, 2.0, 3.0]),
)
def test_a_batch_is_overtaken_by_the_lanes_that_score_higher(
    lanes: list[tuple[float, float, float]], mine: int, score: float
) -> None:
    """It is the load of all other lanes whose importance and complexity come to more than its score, one by one."""
    policy = QueuePolicy()
    specs = {
        SourceId(f"s{n}"): SourceSpec(
            source_id=SourceId(f"s{n}"), importance=importance, complexity=complexity, targets=(R,)
        )
        for n, (importance, complexity, _) in enumerate(lanes)
    }
    load = {(SourceId(f"s{n}"), R): each[2] for n, each in enumerate(lanes)}
    situation = Situation(now=NOW, workers=2, in_hand=[], queue=[], specs=specs, policy=policy)
    before = Overtaking(situation, Rates(load=load)).before(_place(f"s{mine}", score))
    counted = sum(
        busy
        for n, (importance, complexity, busy) in enumerate(lanes)
        if n != mine
        and policy.importance_weight * importance - policy.complexity_weight * complexity > score
    )
    assert before == pytest.approx(counted)
