"""The operators' dashboard: what needs a person, what is under way, and how things have gone over time.

Nothing here writes. Every question takes a tenant: None is for those who run the platform and see all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.dashboard import DashboardViews, Moving, SourceRecord, Stretch, Weighed
from penstock.ports.dead_letters import LetterFilter, LetterGroup
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.breaker import BreakerStatus
from penstock.publish.dead_letters import LetterStatus
from penstock.publish.queue import QueuePlace
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.breakers import BreakerOverview, breaker_overviews
from penstock.use_cases.platform import Platform
from penstock.use_cases.queries import queue_places

MOST_SHOWN = 200
"""Rows of one list."""
_FEW = 50


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """The platform, with what the dashboard is made from."""

    platform: Platform
    views: DashboardViews


# What needs a person ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What will not go on by itself."""

    holds: tuple[PublishState, ...]
    """Newest first, at most fifty."""
    letters: tuple[LetterGroup, ...]
    """Open ones by fingerprint, newest first, at most fifty."""
    breakers: tuple[BreakerOverview, ...]
    """Those that are not closed."""
    pauses: tuple[Pause, ...]

    @property
    def open_letters(self) -> int:
        """How many dead letters are in the groups."""
        return sum(group.letters for group in self.letters)

    @property
    def is_calm(self) -> bool:
        """Whether there is nothing."""
        return not (self.holds or self.letters or self.breakers or self.pauses)


def attention(dashboard: Dashboard, tenant: TenantId | None) -> Attention:
    """Return what needs a person now."""
    opened = LetterFilter(status=LetterStatus.OPEN)
    found = breaker_overviews(dashboard.platform)
    return Attention(
        holds=tuple(dashboard.views.live_holds(tenant, limit=_FEW)),
        letters=tuple(dashboard.views.letter_groups(tenant, opened, limit=_FEW)),
        breakers=tuple(each for each in found if each.status is not BreakerStatus.CLOSED),
        pauses=tuple(pauses_of(dashboard, tenant)),
    )


def pauses_of(dashboard: Dashboard, tenant: TenantId | None) -> list[Pause]:
    """Return what is paused: targets, which are everybody's, and the sources of a tenant."""
    found = dashboard.platform.control.list_pauses()
    if tenant is None:
        return found
    mine = {str(spec.source_id) for spec in sources_of(dashboard, tenant)}
    return [each for each in found if each.scope is PauseScope.TARGET or each.scope_id in mine]


def sources_of(dashboard: Dashboard, tenant: TenantId | None) -> list[SourceSpec]:
    """Return the declared sources, by id."""
    found = dashboard.platform.control.list_sources()
    return [spec for spec in found if tenant is None or spec.tenant_id == tenant]


# What is under way ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class UnderWay:
    """What is on its way now."""

    counts: Mapping[PublishStatus, int]
    moving: tuple[Moving, ...]
    """What workers have, longest first."""


def under_way(dashboard: Dashboard, tenant: TenantId | None) -> UnderWay:
    """Return what is on its way now."""
    now = dashboard.platform.clock.now()
    return UnderWay(
        counts=dashboard.views.counts(tenant),
        moving=tuple(dashboard.views.moving(tenant, now=now, limit=MOST_SHOWN)),
    )


def places_of(dashboard: Dashboard, tenant: TenantId | None) -> list[QueuePlace]:
    """Return what waits in the order in which it will go; places are counted over all tenants."""
    found = queue_places(dashboard.platform)
    return [each for each in found if tenant is None or each.state.tenant_id == tenant]


# How it has gone --------------------------------------------------------------------------------------------


class Window(StrEnum):
    """How far a trend looks back."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"

    @property
    def step_s(self) -> int:
        """Seconds of one stretch."""
        hours = {Window.DAY: 1, Window.WEEK: 6, Window.MONTH: 24, Window.QUARTER: 72}
        return hours[self] * 3600

    @property
    def stretches(self) -> int:
        """How many stretches it has."""
        return {Window.DAY: 24, Window.WEEK: 28, Window.MONTH: 30, Window.QUARTER: 30}[self]


@dataclass(frozen=True, kw_only=True)
class Trend:
    """What has ended over a window, without gaps, and what became of each source's batches."""

    window: Window
    since: datetime
    stretches: tuple[Stretch, ...]
    records: tuple[SourceRecord, ...]


def trend(
    dashboard: Dashboard, tenant: TenantId | None, window: Window, source: SourceId | None = None
) -> Trend:
    """Return how it has gone, of one source or of all."""
    since, until = span(window, dashboard.platform.clock.now())
    found = dashboard.views.stretches(
        tenant, source=source, since=since, until=until, step_s=window.step_s
    )
    records = dashboard.views.source_records(tenant, source=source, since=since)
    return Trend(
        window=window,
        since=since,
        stretches=tuple(without_gaps(found, window, since)),
        records=tuple(records),
    )


def throughput(dashboard: Dashboard, tenant: TenantId | None) -> list[Stretch]:
    """Return what has ended in each hour of the last day, the present hour last."""
    since, until = span(Window.DAY, dashboard.platform.clock.now())
    found = dashboard.views.stretches(tenant, since=since, until=until, step_s=Window.DAY.step_s)
    return without_gaps(found, Window.DAY, since)


def volumes(
    dashboard: Dashboard, tenant: TenantId | None, window: Window, source: SourceId | None = None
) -> list[Weighed]:
    """Return the newest publishes of a window, each with its size and its time."""
    since, _ = span(window, dashboard.platform.clock.now())
    return dashboard.views.weighed(tenant, source=source, since=since, limit=MOST_SHOWN)


def span(window: Window, now: datetime) -> tuple[datetime, datetime]:
    """Return from when to when a window goes: whole stretches of UTC, the one that ``now`` is in last."""
    step_s = window.step_s
    end_s = (int(now.timestamp()) // step_s + 1) * step_s
    until = datetime.fromtimestamp(end_s, UTC)
    return until - timedelta(seconds=step_s * window.stretches), until


def without_gaps(found: Sequence[Stretch], window: Window, since: datetime) -> list[Stretch]:
    """Return every stretch of a window, empty ones included."""
    there = {each.begins_at: each for each in found}
    begins = [since + timedelta(seconds=window.step_s * n) for n in range(window.stretches)]
    return [there.get(at) or _nothing(at) for at in begins]


def _nothing(at: datetime) -> Stretch:
    return Stretch(begins_at=at, published=0, failed=0, operations=0, p50_s=None, p90_s=None)
