"""Sending events to one destination, in the order of commits, each until it is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from penstock.errors import SecretUnreadable
from penstock.events.delivery import (
    Again,
    Answer,
    Delivery,
    DeliveryPolicy,
    Destination,
    DestinationStatus,
    after_failure,
    oldest_needed,
)
from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.events.facts import PLATFORM_TENANT
from penstock.ports.audit_log import AuditEntry
from penstock.ports.clock import Clock
from penstock.ports.events import DeliveryLease, Destinations, EventLog

PENSTOCK = "penstock"
"""The actor of what happens by itself."""


class Sender(Protocol):
    """Takes events to where they are to go."""

    def send(self, destination: Destination, event: OutboxEvent, secrets: Sequence[str]) -> Answer:
        """Send one event and return what was said of it; no failure of the other side is raised."""
        ...


@dataclass(frozen=True, kw_only=True)
class Delivering:
    """What sending events needs."""

    log: EventLog
    destinations: Destinations
    sender: Sender
    clock: Clock
    policy: DeliveryPolicy
    owner: str
    """Names this server in leases."""
    jitter: Callable[[], float]
    """A random number from 0 to 1."""


def due_destinations(delivering: Delivering) -> list[str]:
    """Return the ids of destinations that there is, or may be, something to send to now."""
    waiting = delivering.destinations.due(delivering.clock.now())
    if not waiting:
        return []
    end = delivering.log.end()
    return [each.destination_id for each in waiting if each.cursor < end]


def deliver(delivering: Delivering, destination_id: str) -> int:
    """Send a destination what it has not been sent, as far as it takes it; return how many events it took.

    What it was sent and could not be recorded, because the server died or somebody changed the destination, is sent
    again.
    """
    policy, clock = delivering.policy, delivering.clock
    lease = delivering.destinations.lease(
        destination_id, delivering.owner, now=clock.now(), lease_s=policy.lease_s
    )
    if lease is None:
        return 0
    destination = lease.destination
    end = delivering.log.end()
    every = destination.tenant_id == PLATFORM_TENANT
    events = delivering.log.read(
        destination.cursor,
        limit=policy.at_once,
        tenant=None if every else destination.tenant_id,
        types=destination.wanted.types,
    )
    sent = _send(delivering, lease, events)
    cursor = sent.cursor
    if sent.failed is None and sent.all_sent and len(events) < policy.at_once:
        cursor = max(cursor, end)
    delivering.destinations.record(
        lease,
        cursor=cursor,
        deliveries=sent.deliveries,
        failed=sent.failed,
        keep=policy.kept_deliveries,
        act=_ended(sent.failed, clock.now()),
    )
    return sum(each.delivered for each in sent.deliveries)


@dataclass(kw_only=True)
class _Sent:
    cursor: OutboxCursor
    deliveries: list[Delivery]
    failed: Destination | None = None
    all_sent: bool = True


def _send(delivering: Delivering, lease: DeliveryLease, events: Sequence[OutboxEvent]) -> _Sent:
    destination, clock = lease.destination, delivering.clock
    sent = _Sent(cursor=destination.cursor, deliveries=[])
    try:
        secrets = delivering.destinations.secrets(destination.destination_id, clock.now())
    except SecretUnreadable as error:
        answer = Answer(error=str(error))
        sent.failed = _failed(delivering, destination, answer, False)
        return sent
    # Half of the lease is left for the last event and the record.
    stop_at_s = clock.monotonic_s() + delivering.policy.lease_s / 2
    for event in events:
        if clock.monotonic_s() >= stop_at_s:
            sent.all_sent = False
            break
        if destination.is_told(event):
            answer = _send_one(delivering, destination, event, secrets, sent)
            if not answer.taken:
                sent.failed = _failed(delivering, destination, answer, bool(sent.deliveries[:-1]))
                break
        sent.cursor = event.cursor
    return sent


def _send_one(
    delivering: Delivering,
    destination: Destination,
    event: OutboxEvent,
    secrets: Sequence[str],
    sent: _Sent,
) -> Answer:
    clock = delivering.clock
    at, began_at_s = clock.now(), clock.monotonic_s()
    answer = delivering.sender.send(destination, event, secrets)
    sent.deliveries.append(
        Delivery(
            event_id=event.event_id,
            event_type=event.type,
            at=at,
            delivered=answer.taken,
            attempt=1 if sent.deliveries else destination.failures + 1,
            status_code=answer.status_code,
            error=answer.error,
            duration_ms=int((clock.monotonic_s() - began_at_s) * 1000),
        )
    )
    return answer


def _failed(
    delivering: Delivering, before: Destination, answer: Answer, took_others: bool
) -> Destination:
    """Return a destination after it did not take an event; what it took just before ends its row of failures."""
    now = delivering.clock.now()
    if took_others:
        before = replace(before, failures=0, failing_since=None)
    follows = after_failure(before, answer, delivering.policy, now, delivering.jitter())
    failing = replace(
        before,
        failures=before.failures + 1,
        failing_since=before.failing_since or now,
        last_error=answer.error,
    )
    if isinstance(follows, Again):
        return replace(failing, retry_at=follows.at)
    return replace(
        failing,
        status=DestinationStatus.DISABLED,
        retry_at=None,
        disabled_at=now,
        disabled_why=follows.why,
    )


def _ended(failed: Destination | None, now: datetime) -> AuditEntry | None:
    if failed is None or failed.status is DestinationStatus.ENABLED:
        return None
    return AuditEntry(
        at=now,
        actor=PENSTOCK,
        act="destination.disable",
        subject=failed.destination_id,
        reason=failed.disabled_why,
    )


def remove_old_events(
    log: EventLog,
    destinations: Destinations,
    policy: DeliveryPolicy,
    now: datetime,
    *,
    needed_from: OutboxCursor | None = None,
) -> int:
    """Remove events that are old and that every enabled destination has been sent; return how many.

    ``needed_from`` is the place after which somebody else needs them. After ``hold_events_s`` nobody holds them any
    longer.
    """
    places = (oldest_needed(destinations.find()), needed_from)
    return log.remove(
        older_than=now - timedelta(seconds=policy.keep_events_s),
        up_to=min((place for place in places if place is not None), default=None),
        held_until=now - timedelta(seconds=policy.hold_events_s),
    )
