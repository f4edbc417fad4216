"""Forecasts as they were made, so that they can be held against what came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from penstock.forecast.eta import Eta
from penstock.forecast.lane_model import LaneId, LaneModel, Score, Stage, score_value
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId

RECORD_EVERY_S = 600.0
"""A batch that stands where it stood is forecast on record again after so long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastRecord:
    """One forecast of one batch and target, as it was told."""

    batch_id: BatchId
    target_id: TargetId
    source_id: SourceId
    tenant_id: TenantId
    made_at: datetime
    stage: Stage
    point_s: float
    p50_at: datetime
    p90_at: datetime
    due_at: datetime | None
    breach_probability: float | None
    came_at: datetime | None = None
    """When it was COMPLETE; None until then, and for ever of one that failed."""
    settled_at: datetime | None = None
    """When it was held against what came."""

    @property
    def lane_id(self) -> LaneId:
        """Return whose it is."""
        return (self.source_id, self.target_id)

    def held(self, level: str) -> bool:
        """Say whether the batch came by the p50 or the p90 that was told; False for one that never came."""
        limit = self.p50_at if level == "p50" else self.p90_at
        return self.came_at is not None and self.came_at <= limit

    def settled(self, came_at: datetime | None, *, now: datetime) -> ForecastRecord:
        """Return the record held against when the batch came, or that it did not."""
        return replace(self, came_at=came_at, settled_at=now)

    def score_so_far(self, now: datetime) -> Score:
        """Return how far it is off at least, of a batch that has not come by now."""
        actual_s = (now - self.made_at).total_seconds()
        value = score_value(actual_s=actual_s, point_s=self.point_s)
        return Score(at=now, value=value, missed=now > self.p90_at)

    def score(self) -> Score | None:
        """Return how far it was off; None for a batch that never came."""
        if self.came_at is None:
            return None
        actual_s = (self.came_at - self.made_at).total_seconds()
        return Score(
            at=self.came_at,
            value=score_value(actual_s=actual_s, point_s=self.point_s),
            missed=self.came_at > self.p90_at,
        )


def with_overdue(
    models: Iterable[LaneModel], overdue: Iterable[ForecastRecord], now: datetime
) -> list[LaneModel]:
    """Return models that also know of forecasts whose p90 has passed while their batches have not come.

    What is late is not known by what ended, until it ends: without this, quantiles would learn of an outage after it.
    Of each lane and stage the newest count, as many as are remembered.
    """
    known = {model.lane_id: model for model in models}
    late: dict[tuple[LaneId, Stage], list[Score]] = defaultdict(list)
    for record in sorted(overdue, key=lambda each: each.made_at):
        late[record.lane_id, record.stage].append(record.score_so_far(now))
    for (lane, stage), scores in late.items():
        model = known.get(lane) or LaneModel(source_id=lane[0], target_id=lane[1])
        known[lane] = model.with_scores(stage, scores)
    return list(known.values())


def recorded(eta: Eta) -> ForecastRecord | None:
    """Return an ETA as it goes on record; None where there was nothing to foretell."""
    if eta.point_s is None or eta.p50_at is None or eta.p90_at is None:
        return None
    return ForecastRecord(
        batch_id=eta.batch_id,
        target_id=eta.target_id,
        source_id=eta.source_id,
        tenant_id=eta.tenant_id,
        made_at=eta.made_at,
        stage=eta.stage,
        point_s=eta.point_s,
        p50_at=eta.p50_at,
        p90_at=eta.p90_at,
        due_at=eta.due_at,
        breach_probability=eta.breach_probability,
    )


def is_worth_recording(eta: Eta, last: tuple[datetime, Stage] | None) -> bool:
    """Say whether a forecast goes on record after the last: it is the first, of a new stage, or time has gone by."""
    if eta.point_s is None:
        return False
    if last is None or last[1] is not eta.stage:
        return True
    return (eta.made_at - last[0]).total_seconds() >= RECORD_EVERY_S
