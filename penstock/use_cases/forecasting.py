"""What forecasting use cases are given, and the questions that pages, metrics and the command line ask of them.

Nothing here writes. Every answer takes a tenant: None is for those who run the platform and see all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from penstock.errors import NotFound
from penstock.forecast.eta import Eta, Forecaster, Situation, expected_back
from penstock.forecast.incidents import Incident
from penstock.forecast.lane_model import LaneModel
from penstock.forecast.policy import ForecastPolicy
from penstock.forecast.records import with_overdue
from penstock.forecast.rhythm import MOST_GAPS, Rhythm, rhythm_of
from penstock.forecast.sla import WINDOWS_S, SlaReport, sla_report
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.forecasts import Forecasts, Reliability, SourceDay, SourceStanding
from penstock.ports.incidents import Incidents
from penstock.publish.state import PublishStatus
from penstock.use_cases.platform import Platform


@dataclass(frozen=True, kw_only=True)
class Forecasting:
    """The platform, with what forecasts are kept in."""

    platform: Platform
    forecasts: Forecasts
    incidents: Incidents
    policy: ForecastPolicy = field(default_factory=ForecastPolicy)
    workers: int = 2
    """Batches that are published at once."""


# When batches come ------------------------------------------------------------------------------------------


def batch_etas(
    forecasting: Forecasting, *, tenant: TenantId | None = None, source: SourceId | None = None
) -> list[Eta]:
    """Return the ETA of everything on its way: what workers have, then the queue by place."""
    etas = etas_by(forecasting, forecasting.forecasts.lane_models())
    return [
        eta
        for eta in etas
        if (tenant is None or eta.tenant_id == tenant)
        and (source is None or eta.source_id == source)
    ]


def etas_by(forecasting: Forecasting, models: Iterable[LaneModel]) -> list[Eta]:
    """Return the ETA of everything on its way by models of lanes, and by what is overdue now."""
    now = forecasting.platform.clock.now()
    known = with_overdue(models, forecasting.forecasts.overdue(now=now), now)
    return Forecaster(known).etas(situation(forecasting))


def batch_eta(forecasting: Forecasting, batch: BatchId, target: TargetId | None = None) -> Eta:
    """Return the ETA of one batch; raises ``NotFound`` for one that is not on its way, saying how it stands."""
    found = [
        eta
        for eta in batch_etas(forecasting)
        if eta.batch_id == batch and (target is None or eta.target_id == target)
    ]
    if not found:
        states = forecasting.platform.control.list_states(batch=batch)
        stands = ", ".join(f"{state.status} for {state.target_id}" for state in states)
        raise NotFound(f"batch {batch!r} is not on its way: it is {stands or 'not known'}")
    return max(found, key=lambda eta: eta.p90_at or datetime.max.replace(tzinfo=eta.made_at.tzinfo))


def situation(forecasting: Forecasting) -> Situation:
    """Return all that ETAs depend on, as it is now."""
    platform = forecasting.platform
    now = platform.clock.now()
    breakers = platform.control.list_breakers()
    in_hand = forecasting.forecasts.in_hand(now)
    held = {(state.batch_id, state.target_id) for state, _ in in_hand}
    queue = platform.control.explain_queue(now=now, policy=platform.queue_policy)
    return Situation(
        now=now,
        workers=forecasting.workers,
        in_hand=in_hand,
        # The queue was read a moment later: what a worker took meanwhile is in hand.
        queue=[each for each in queue if (each.state.batch_id, each.state.target_id) not in held],
        sizes=forecasting.forecasts.job_sizes(),
        specs={spec.source_id: spec for spec in platform.control.list_sources()},
        shut_until=expected_back(breakers, platform.breaker_policy, now),
        policy=platform.queue_policy,
    )


def forecast_reliability(forecasting: Forecasting, *, days: int = 30) -> list[Reliability]:
    """Return how often the forecasts of the last days held, by stage."""
    since = forecasting.platform.clock.now() - timedelta(days=days)
    return forecasting.forecasts.reliability(since=since)


# How sources stand ------------------------------------------------------------------------------------------


class SyncStatus(StrEnum):
    """How a source stands, in one word; the first that holds."""

    LATE = "late"
    """A batch is not where its SLA says that it should be."""
    SILENT = "silent"
    """Nothing has landed for much longer than its cadence."""
    FAILED = "failed"
    """Its newest batch failed for good."""
    SYNCING = "syncing"
    """A batch is on its way."""
    SYNCED = "synced"
    """The targets have its newest batch."""
    NEW = "new"
    """Nothing of it has ever landed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceStatus:
    """One source, how it stands, and what comes next."""

    standing: SourceStanding
    status: SyncStatus
    published_at: datetime | None
    """When something of it was last published to all of its targets."""
    published_timestamp: datetime | None
    """The source timestamp that all of its targets have."""
    etas: tuple[Eta, ...]
    """Of what is on its way, soonest first."""
    rhythm: Rhythm | None
    """None of a source without a cadence, or that never landed anything."""


def source_statuses(
    forecasting: Forecasting, *, tenant: TenantId | None = None
) -> list[SourceStatus]:
    """Return how the declared sources stand, by source id."""
    now = forecasting.platform.clock.now()
    etas = batch_etas(forecasting, tenant=tenant)
    late = {each.source_id for each in forecasting.forecasts.late_batches(now=now)}
    return [
        _status(forecasting, standing, etas, late, now)
        for standing in forecasting.forecasts.standings(tenant)
    ]


def _status(
    forecasting: Forecasting,
    standing: SourceStanding,
    etas: Sequence[Eta],
    late: set[SourceId],
    now: datetime,
) -> SourceStatus:
    source = standing.spec.source_id
    mine = sorted(
        (eta for eta in etas if eta.source_id == source),
        key=lambda eta: (eta.p50_at is None, eta.p50_at or now),
    )
    rhythm = source_rhythm(forecasting, standing, now)
    published = [lane.published_at for lane in standing.lanes]
    timestamps = [lane.published_timestamp for lane in standing.lanes]
    return SourceStatus(
        standing=standing,
        status=_in_a_word(standing, mine, source in late, rhythm, now),
        published_at=_oldest(published),
        published_timestamp=_oldest(timestamps),
        etas=tuple(mine),
        rhythm=rhythm,
    )


def _oldest(moments: Sequence[datetime | None]) -> datetime | None:
    known = [each for each in moments if each is not None]
    return min(known) if known and len(known) == len(moments) else None


def _in_a_word(
    standing: SourceStanding,
    etas: Sequence[Eta],
    late: bool,
    rhythm: Rhythm | None,
    now: datetime,
) -> SyncStatus:
    if late:
        return SyncStatus.LATE
    if rhythm is not None and rhythm.is_silent(now):
        return SyncStatus.SILENT
    if any(lane.newest_status is PublishStatus.FAILED for lane in standing.lanes):
        return SyncStatus.FAILED
    if etas or any(lane.in_progress for lane in standing.lanes):
        return SyncStatus.SYNCING
    return SyncStatus.NEW if standing.last_landed_at is None else SyncStatus.SYNCED


def source_rhythm(
    forecasting: Forecasting, standing: SourceStanding, now: datetime
) -> Rhythm | None:
    """Return how regularly a source lands; None without a cadence, or before its first batch."""
    spec = standing.spec
    if spec.cadence_s is None or standing.last_landed_at is None:
        return None
    landed = forecasting.forecasts.landings(spec.source_id, limit=MOST_GAPS + 1)
    gaps = [(b - a).total_seconds() for a, b in pairwise(landed)]
    last = max([standing.last_landed_at, *landed[-1:]])
    return rhythm_of(spec.source_id, spec.cadence_s, gaps, last=last, now=now)


def source_days(
    forecasting: Forecasting, sources: Sequence[SourceId], *, days: int
) -> list[SourceDay]:
    """Return what became of some sources' batches, day by day, oldest first; today is the last."""
    since = forecasting.platform.clock.now() - timedelta(days=days - 1)
    return forecasting.forecasts.days(sources, since=f"{since:%Y-%m-%d}")


# SLAs and incidents -----------------------------------------------------------------------------------------


def sla_reports(forecasting: Forecasting, *, tenant: TenantId | None = None) -> list[SlaReport]:
    """Return how every source that has an SLA keeps it, by source id."""
    now = forecasting.platform.clock.now()
    tallies = forecasting.forecasts.sla_tallies(WINDOWS_S, now=now)
    return [
        sla_report(
            spec.source_id,
            spec.tenant_id,
            spec.sla_s,
            tallies.get(spec.source_id, {}),
            objective=forecasting.policy.sla_objective,
        )
        for spec in forecasting.platform.control.list_sources()
        if spec.sla_s is not None and (tenant is None or spec.tenant_id == tenant)
    ]


def incidents(
    forecasting: Forecasting,
    *,
    tenant: TenantId | None = None,
    source: SourceId | None = None,
    open_only: bool = False,
    public_only: bool = False,
    since: datetime | None = None,
    limit: int = 100,
) -> list[Incident]:
    """Return incidents with their messages, newest first; ``since`` leaves out what ended before."""
    return forecasting.incidents.list_incidents(
        tenant=tenant,
        source=source,
        open_only=open_only,
        public_only=public_only,
        since=since,
        limit=limit,
    )


def incident(
    forecasting: Forecasting, incident_id: str, *, tenant: TenantId | None = None
) -> Incident:
    """Return one incident; of another tenant it is as unknown as one that is not there."""
    found = forecasting.incidents.get_incident(incident_id)
    if tenant is not None and found.tenant_id != tenant:
        raise NotFound(f"there is no incident {incident_id!r}: `penstock incidents` lists them")
    return found
