"""What forecasts are made from and kept in: histories as aggregates, models of lanes, forecasts as they were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from penstock.batch.source import SourceSpec
from penstock.forecast.eta import Size
from penstock.forecast.lane_model import LaneId, LaneModel, PastPublish, Stage
from penstock.forecast.line import JobId
from penstock.forecast.records import ForecastRecord
from penstock.forecast.sla import Tally
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.publish.state import PublishState, PublishStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedPublish:
    """One publish that ended, as anomalies are looked for in it."""

    batch_id: BatchId
    ended_at: datetime
    rows: int | None
    operations: int
    """Planned, whatever became of them."""
    refused: int
    """Of these, refused by planning or by the target, or blocked by what was."""
    duration_s: float | None
    """From claim to COMPLETE; None of one that was tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneStanding:
    """How one lane stands."""

    target_id: TargetId
    published_at: datetime | None
    """When the batch that its target has was COMPLETE."""
    published_timestamp: datetime | None
    """Source timestamp of that batch."""
    in_progress: int
    """Batches in the queue or in hand."""
    newest_status: PublishStatus | None
    """Of the newest batch by source timestamp."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceStanding:
    """How one source stands."""

    spec: SourceSpec
    last_landed_at: datetime | None
    """When its newest batch was admitted."""
    lanes: tuple[LaneStanding, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LateBatch:
    """A batch that is not in its target though its source's SLA says that it should be."""

    batch_id: BatchId
    source_id: SourceId
    target_id: TargetId
    tenant_id: TenantId
    source_timestamp: datetime
    sla_s: int
    status: PublishStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceDay:
    """What became of one source's batches of one day of source timestamps, in UTC, over all its targets."""

    source_id: SourceId
    day: str
    """``YYYY-MM-DD``."""
    batches: int
    published: int
    late: int
    """Published or not, later than the SLA."""
    failed: int
    latency_s: float
    """From source timestamp to COMPLETE, summed over what is published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How often forecasts held, of those made at one stage."""

    stage: Stage
    forecasts: int
    within_p50: int
    within_p90: int


class Forecasts(Protocol):
    """The store of forecasts."""

    def lane_models(self) -> list[LaneModel]:
        """Return what is remembered of every lane."""
        ...

    def save_lane_models(self, models: Iterable[LaneModel], *, now: datetime) -> None:
        """Remember lanes as they are now."""
        ...

    def measured_until(self) -> datetime | None:
        """Return when lanes were last remembered; None before the first time."""
        ...

    def recent_publishes(self, since: datetime) -> dict[LaneId, list[PastPublish]]:
        """Return each lane's newest publishes that ended well at the first attempt since a moment, oldest first."""
        ...

    def in_hand(self, now: datetime) -> list[tuple[PublishState, datetime]]:
        """Return what workers have, each with since when."""
        ...

    def job_sizes(self) -> dict[JobId, Size]:
        """Return the sizes of everything in the queue and in hand."""
        ...

    def last_recorded(self) -> dict[JobId, tuple[datetime, Stage]]:
        """Return the newest forecast on record of everything that has not been held against what came."""
        ...

    def record(self, forecasts: Sequence[ForecastRecord]) -> None:
        """Put forecasts on record; one of the same batch, target and moment stays as it is."""
        ...

    def overdue(self, *, now: datetime) -> list[ForecastRecord]:
        """Return the forecasts, oldest first, whose p90 has passed while their batches are still on their way.

        Of each lane and stage the newest, as many as a model remembers scores: a crowd has tens of thousands.
        """
        ...

    def settle(self, *, now: datetime) -> list[ForecastRecord]:
        """Hold the forecasts of what has ended since against when it came, and return them."""
        ...

    def reliability(self, *, since: datetime) -> list[Reliability]:
        """Return how often forecasts made since a moment held, by stage."""
        ...

    def forget_forecasts(self, *, before: datetime) -> int:
        """Delete forecasts made before a moment; return how many."""
        ...

    def observations(self, lane: LaneId, *, limit: int) -> list[ObservedPublish]:
        """Return a lane's newest publishes that ended, oldest first."""
        ...

    def landings(self, source: SourceId, *, limit: int) -> list[datetime]:
        """Return when a source's newest batches were admitted, oldest first."""
        ...

    def standings(self, tenant: TenantId | None = None) -> list[SourceStanding]:
        """Return how the declared sources of a tenant, or all, stand, by source id."""
        ...

    def late_batches(self, *, now: datetime) -> list[LateBatch]:
        """Return what is late now: in the queue, in hand, or FAILED with nothing newer published."""
        ...

    def sla_tallies(
        self, windows_s: Sequence[int], *, now: datetime
    ) -> Mapping[SourceId, Mapping[int, Tally]]:
        """Count what fell due within each window, and what of it was late, by source."""
        ...

    def refresh_days(self, *, now: datetime) -> None:
        """Bring the days of every source up to date."""
        ...

    def days(self, sources: Sequence[SourceId], *, since: str) -> list[SourceDay]:
        """Return the days of some sources from one on, oldest first."""
        ...
