"""Where events are sent to, and what follows from each try: pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.events.facts import PLATFORM_TENANT
from penstock.identity.ids import TenantId


class DestinationKind(StrEnum):
    """How events get there."""

    WEBHOOK = "webhook"
    """By POST to an address, signed."""
    RABBITMQ = "rabbitmq"
    """By an exchange of the broker that the settings name."""


class DestinationStatus(StrEnum):
    """Whether events are sent to it."""

    ENABLED = "enabled"
    DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which events a destination is sent; what is empty does not restrict."""

    types: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    """What a subject has to begin with."""

    def takes(self, event: OutboxEvent) -> bool:
        """Whether an event is wanted."""
        if self.types and event.type not in self.types:
            return False
        return not self.subjects or event.subject.startswith(self.subjects)


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Somewhere that events are sent to."""

    destination_id: str
    tenant_id: TenantId
    """Whose events it is sent: ``*`` for everybody's, and those of the platform."""
    kind: DestinationKind
    address: str
    """A URL, or the name of an exchange."""
    wanted: Wanted
    status: DestinationStatus
    created_at: datetime
    created_by: str
    cursor: OutboxCursor
    """What comes after it was not sent yet."""
    failures: int = 0
    """In a row."""
    failing_since: datetime | None = None
    retry_at: datetime | None = None
    last_error: str | None = None
    delivered_at: datetime | None = None
    disabled_at: datetime | None = None
    disabled_why: str | None = None

    def is_told(self, event: OutboxEvent) -> bool:
        """Whether an event is its tenant's, and wanted."""
        ours = self.tenant_id in (PLATFORM_TENANT, event.tenant_id)
        return ours and self.wanted.takes(event)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One try to send one event."""

    event_id: str
    event_type: str
    at: datetime
    delivered: bool
    attempt: int
    """1 is the first."""
    status_code: int | None = None
    error: str | None = None
    duration_ms: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a destination said of one event; ``error`` is None where it took it."""

    error: str | None = None
    status_code: int | None = None
    retry_after_s: float | None = None
    gone: bool = False
    """It said that it wants no more, for good."""

    @property
    def taken(self) -> bool:
        """Whether the event is there."""
        return self.error is None


class DeliveryPolicy(BaseModel):
    """How events are sent again, and when that is given up; times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    first_delay_s: float = Field(default=1.0, gt=0)
    """Doubles with every failure in a row."""
    max_delay_s: float = Field(default=600.0, gt=0)
    max_retry_after_s: float = Field(default=3600.0, gt=0)
    """The longest that a destination may ask to be left alone."""
    disable_after_s: float = Field(default=5 * 24 * 3600.0, gt=0)
    """One that has taken nothing for so long is disabled."""
    at_once: int = Field(default=100, ge=1, le=1000)
    """Events sent under one lease."""
    lease_s: float = Field(default=60.0, gt=1)
    kept_deliveries: int = Field(default=100, ge=1, le=10_000)
    """Tries that are remembered of each destination."""
    keep_events_s: float = Field(default=14 * 24 * 3600.0, gt=0)
    """Events that every enabled destination has been sent are kept so long."""
    hold_events_s: float = Field(default=30 * 24 * 3600.0, gt=0)
    """No destination keeps events longer than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """It is tried again later."""

    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Disable:
    """It is given up."""

    why: str


def after_failure(
    destination: Destination, answer: Answer, policy: DeliveryPolicy, now: datetime, jitter: float
) -> Again | Disable:
    """Return what follows when a destination did not take an event.

    The n-th failure in a row waits ``min(max_delay_s, first_delay_s * 2 ** (n - 1))``, of which ``jitter``, from 0 to
    1, takes away up to a half; at least as long as the destination asked for.
    """
    if answer.gone:
        return Disable(why=f"it answered {answer.status_code}: it wants no more events")
    since = destination.failing_since or now
    if (now - since).total_seconds() >= policy.disable_after_s:
        return Disable(
            why=f"it has taken nothing since {since.isoformat(timespec='seconds')}: {answer.error}"
        )
    # 2 ** 30 times the first is beyond any maximum, and no float overflows on the way.
    delay_s = min(policy.max_delay_s, policy.first_delay_s * 2.0 ** min(destination.failures, 30))
    delay_s *= 1 - jitter / 2
    if answer.retry_after_s is not None:
        delay_s = max(delay_s, min(answer.retry_after_s, policy.max_retry_after_s))
    return Again(at=now + timedelta(seconds=delay_s))


def oldest_needed(
    destinations: Sequence[Destination],
) -> OutboxCursor | None:
    """Return the place that the slowest enabled destination is at, or None if there is none."""
    enabled = [d.cursor for d in destinations if d.status is DestinationStatus.ENABLED]
    return min(enabled, default=None)
