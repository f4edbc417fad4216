"""Events as kept: the outbox as it is read, where it is sent to, and the inbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from penstock.events.delivery import Delivery, Destination, Wanted
from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry


class EventLog(Protocol):
    """The outbox, in the order of commits."""

    def read(
        self,
        after: OutboxCursor,
        *,
        limit: int,
        tenant: TenantId | None = None,
        types: Sequence[str] = (),
    ) -> list[OutboxEvent]:
        """Return what comes after a place, as far as nothing can come in between any more."""
        ...

    def end(self) -> OutboxCursor:
        """Return the place behind all that can be read now."""
        ...

    def place_before(self, moment: datetime) -> OutboxCursor:
        """Return the place before the first event, in the order of commits, that is not older than a moment."""
        ...

    def remove(
        self, *, older_than: datetime, up_to: OutboxCursor | None, held_until: datetime
    ) -> int:
        """Remove old events; return how many.

        Those after ``up_to`` stay, unless they are older than ``held_until``.
        """
        ...


class LogPlace(Protocol):
    """Where somebody who follows the outbox has come to, as stored."""

    def get(self) -> OutboxCursor:
        """Return the place, the beginning before the first move."""
        ...

    def move(self, *, since: OutboxCursor, to: OutboxCursor) -> bool:
        """Go on to a place; False, and nothing done, unless it is still ``since``."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryLease:
    """One server's hold on one destination."""

    destination: Destination
    owner: str
    fencing_token: int


class Destinations(Protocol):
    """Where events are sent to. ``act`` is recorded in the same transaction."""

    def add(self, new: Destination, secret: str | None, *, act: AuditEntry) -> None:
        """Add one; raises ``IllegalMove`` if its id is taken."""
        ...

    def get(self, destination_id: str) -> Destination:
        """Return one, or raise ``NotFound``."""
        ...

    def find(self, tenant: TenantId | None = None) -> list[Destination]:
        """Return all, or those of a tenant, by id."""
        ...

    def change(
        self,
        destination_id: str,
        *,
        address: str | None = None,
        wanted: Wanted | None = None,
        act: AuditEntry,
    ) -> Destination:
        """Change where or what is sent; what is None stays."""
        ...

    def remove(self, destination_id: str, *, act: AuditEntry) -> None:
        """Remove one, with its secrets and deliveries; raises ``NotFound``."""
        ...

    def enable(self, destination_id: str, *, act: AuditEntry) -> Destination:
        """Have it sent events again, from where it was."""
        ...

    def disable(self, destination_id: str, *, why: str, act: AuditEntry) -> Destination:
        """Have it sent nothing."""
        ...

    def replay(self, destination_id: str, place: OutboxCursor, *, act: AuditEntry) -> Destination:
        """Have it sent again all that comes after a place."""
        ...

    def rotate(
        self, destination_id: str, secret: str, *, old_until: datetime, act: AuditEntry
    ) -> None:
        """Sign with another secret, and with those before until a moment."""
        ...

    def secrets(self, destination_id: str, now: datetime) -> Sequence[str]:
        """Return the secrets to sign with, the newest first."""
        ...

    def deliveries(self, destination_id: str, *, limit: int = 100) -> list[Delivery]:
        """Return the last tries, newest first."""
        ...

    def due(self, now: datetime) -> list[Destination]:
        """Return those that may be sent something now, and that nobody has a lease on."""
        ...

    def has_enabled(self) -> bool:
        """Say whether anybody is to be sent anything, now or later."""
        ...

    def lease(
        self, destination_id: str, owner: str, *, now: datetime, lease_s: float
    ) -> DeliveryLease | None:
        """Take a destination, or return None if somebody has it or it is not enabled."""
        ...

    def record(
        self,
        lease: DeliveryLease,
        *,
        cursor: OutboxCursor,
        deliveries: Sequence[Delivery],
        failed: Destination | None,
        keep: int,
        act: AuditEntry | None = None,
    ) -> bool:
        """Record how far it was sent to and what happened, and let go of it; False if the lease was lost.

        ``failed`` has the failures, error, retry or end of one that did not take what came next.
        """
        ...


class InboxStatus(StrEnum):
    """What became of an event that came in."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"
    """Its handler failed too often, or cannot ever do it: somebody has to look at it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """An event as it comes in, checked."""

    source: str
    event_id: str
    type: str
    subject: str
    tenant_id: TenantId
    time: datetime
    data: Mapping[str, Any]
    trace_parent: str | None = None
    error: str | None = None
    """Of one that is kept though it is no event: what is wrong with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxEvent:
    """An event that came in."""

    position: int
    arrival: Arrival
    received_at: datetime
    received_from: str
    status: InboxStatus
    attempts: int = 0
    retry_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    settled_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Handled:
    """What became of one event; ``code`` is None where it took effect."""

    position: int
    code: str | None = None
    message: str | None = None
    retry_at: datetime | None = None
    """When it is tried again; None where it is not."""


class Received(NamedTuple):
    """What somebody sent at once."""

    arrivals: Sequence[Arrival]
    received_from: str


class Inbox(Protocol):
    """Events that came in, each once."""

    def accept(self, arrivals: Sequence[Arrival], *, received_from: str, now: datetime) -> int:
        """Store those that are new by tenant, source and id, in one transaction; return how many."""
        ...

    def accept_each(self, received: Sequence[Received], *, now: datetime) -> list[int]:
        """Store what several sent, all in one transaction; return how many of each are new, as if one by one."""
        ...

    def next_waiting(self, *, now: datetime, limit: int) -> list[InboxEvent]:
        """Return events that wait, oldest first; of a subject whose oldest is not due, none."""
        ...

    def settle(self, handled: Sequence[Handled], *, now: datetime) -> None:
        """Record what became of events; one that is settled stays as it is."""
        ...

    def requeue(self, position: int, *, act: AuditEntry) -> InboxEvent:
        """Have a dead one tried again; raises ``NotFound``, or ``IllegalMove`` if it is not dead."""
        ...

    def find(
        self,
        *,
        tenant: TenantId | None = None,
        status: InboxStatus | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[InboxEvent]:
        """Return events, newest first."""
        ...

    def remove(self, *, settled_before: datetime, limit: int) -> int:
        """Remove what was done before a moment; return how many. What waits or is dead stays."""
        ...
