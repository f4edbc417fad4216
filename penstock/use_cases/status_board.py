"""What a tenant's customers are shown: its sources, what is on its way, the last days, its incidents.

Nothing on a board is made of anything of other tenants: no places in a queue, no workers, no errors' texts, no counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from penstock.forecast.incidents import Incident, IncidentMessage, Phase, Severity
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.forecasts import SourceDay
from penstock.use_cases.forecasting import (
    Forecasting,
    SourceStatus,
    SyncStatus,
    incidents,
    source_days,
    source_statuses,
)

MOST_DAYS = 90
_INCIDENT_DAYS = 30
_MOST_INCIDENTS = 50


class DayStatus(StrEnum):
    """What became of a day; the first that holds."""

    FAILED = "failed"
    """A batch failed for good."""
    LATE = "late"
    """A batch came later than it should have."""
    GOOD = "good"
    """All came in time."""
    NONE = "none"
    """There was none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardDay:
    """One day of one source."""

    day: str
    """``YYYY-MM-DD``, in UTC."""
    status: DayStatus
    batches: int
    late: int
    failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardBatch:
    """A batch on its way."""

    source_timestamp: datetime
    p50_at: datetime | None
    """Rounded up to the minute; None where nobody can say."""
    p90_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardSource:
    """One source as customers see it."""

    source_id: SourceId
    description: str
    status: SyncStatus
    published_at: datetime | None
    data_as_of: datetime | None
    """The source timestamp of what is published."""
    next_expected_at: datetime | None
    on_its_way: tuple[BoardBatch, ...]
    """Soonest first, one for each batch: when the last of its targets has it."""
    days: tuple[BoardDay, ...]
    """Oldest first, today last."""

    @property
    def good_share(self) -> float | None:
        """The share of the days with batches on which all came in time."""
        known = [each for each in self.days if each.status is not DayStatus.NONE]
        good = sum(each.status is DayStatus.GOOD for each in known)
        return good / len(known) if known else None


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardIncident:
    """An incident as customers see it."""

    incident_id: str
    severity: Severity
    phase: Phase
    source_id: SourceId | None
    title: str
    opened_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    messages: tuple[IncidentMessage, ...]
    """Newest first; who said them is not shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusBoard:
    """A tenant's status."""

    tenant_id: TenantId
    as_of: datetime
    """Cut to the minute."""
    sources: tuple[BoardSource, ...]
    open_incidents: tuple[BoardIncident, ...]
    past_incidents: tuple[BoardIncident, ...]
    """Of the last 30 days, newest first."""

    @property
    def troubled(self) -> int:
        """How many sources are late, silent or failed."""
        bad = {SyncStatus.LATE, SyncStatus.SILENT, SyncStatus.FAILED}
        return sum(source.status in bad for source in self.sources)


def status_board(forecasting: Forecasting, tenant: TenantId, *, days: int = 30) -> StatusBoard:
    """Return the status of a tenant's sources, with so many days back (at most 90)."""
    now = forecasting.platform.clock.now()
    statuses = source_statuses(forecasting, tenant=tenant)
    sources = [each.standing.spec.source_id for each in statuses]
    by_source: dict[SourceId, dict[str, SourceDay]] = defaultdict(dict)
    for day in source_days(forecasting, sources, days=min(days, MOST_DAYS)):
        by_source[day.source_id][day.day] = day
    since = now - timedelta(days=_INCIDENT_DAYS)
    told = incidents(
        forecasting, tenant=tenant, public_only=True, since=since, limit=_MOST_INCIDENTS
    )
    return StatusBoard(
        tenant_id=tenant,
        as_of=now.replace(second=0, microsecond=0),
        sources=tuple(
            _source(each, by_source[each.standing.spec.source_id], now, min(days, MOST_DAYS))
            for each in statuses
        ),
        open_incidents=tuple(_incident(each) for each in told if each.is_open),
        past_incidents=tuple(_incident(each) for each in told if not each.is_open),
    )


def _source(
    of: SourceStatus, days: Mapping[str, SourceDay], now: datetime, count: int
) -> BoardSource:
    spec = of.standing.spec
    return BoardSource(
        source_id=spec.source_id,
        description=spec.description,
        status=of.status,
        published_at=of.published_at,
        data_as_of=of.published_timestamp,
        next_expected_at=None if of.rhythm is None else _minute(of.rhythm.next_expected_at),
        on_its_way=_on_its_way(of),
        days=tuple(
            _day(f"{now - timedelta(days=back):%Y-%m-%d}", days) for back in reversed(range(count))
        ),
    )


def _on_its_way(of: SourceStatus) -> tuple[BoardBatch, ...]:
    latest: dict[datetime, list[tuple[datetime | None, datetime | None]]] = defaultdict(list)
    for eta in of.etas:
        latest[eta.source_timestamp].append((eta.p50_at, eta.p90_at))
    return tuple(
        BoardBatch(
            source_timestamp=timestamp,
            p50_at=_last([p50 for p50, _ in moments]),
            p90_at=_last([p90 for _, p90 in moments]),
        )
        for timestamp, moments in sorted(latest.items())
    )


def _last(moments: Sequence[datetime | None]) -> datetime | None:
    known = [each for each in moments if each is not None]
    return _minute(max(known)) if len(known) == len(moments) else None


def _minute(moment: datetime) -> datetime:
    """Round a moment up to the minute: a forecast is no clock."""
    return (moment + timedelta(seconds=59, microseconds=999_999)).replace(second=0, microsecond=0)


def _day(day: str, days: Mapping[str, SourceDay]) -> BoardDay:
    found = days.get(day)
    if found is None:
        return BoardDay(day=day, status=DayStatus.NONE, batches=0, late=0, failed=0)
    status = DayStatus.GOOD
    if found.failed:
        status = DayStatus.FAILED
    elif found.late:
        status = DayStatus.LATE
    return BoardDay(
        day=day,
        status=status,
        batches=found.batches,
        late=max(0, found.late - found.failed),  # what failed is late too
        failed=found.failed,
    )


def _incident(of: Incident) -> BoardIncident:
    return BoardIncident(
        incident_id=of.incident_id,
        severity=of.severity,
        phase=of.phase,
        source_id=of.source_id,
        title=of.title,
        opened_at=of.opened_at,
        updated_at=of.updated_at,
        resolved_at=of.resolved_at,
        messages=tuple(reversed(of.messages)),
    )
