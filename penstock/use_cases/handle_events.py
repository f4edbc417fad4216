"""Acting on events that came in: by subject in order, each until it took effect or is dead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from penstock.errors import BadEvent, LeaseLost, PenstockError
from penstock.events.catalogue import heard
from penstock.events.cloudevents import Heard
from penstock.events.facts import PLATFORM_TENANT, EventData, fact_id
from penstock.events.handling import HandlingPolicy, next_try
from penstock.identity.ids import TenantId
from penstock.ports.clock import Clock
from penstock.ports.events import Arrival, Handled, Inbox, InboxEvent
from penstock.ports.tracing import NO_TRACER, Tracer, trace_parent_of


class Handler(Protocol):
    """Acts on events of one type."""

    def __call__(self, arrival: Arrival, data: EventData, *, key: str) -> None:
        """Do what an event asks for. The same ``key`` again is the same event, and must have no further effect.

        The arrival's ``trace_parent`` is that of this handling: what follows from the event goes on below it.
        Raises ``PenstockError`` where it cannot be done, now or at all.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Handling:
    """What acting on events needs."""

    inbox: Inbox
    handlers: Mapping[str, Handler]
    clock: Clock
    policy: HandlingPolicy
    jitter: Callable[[], float]
    tracer: Tracer = NO_TRACER
    """Who is told what is acted on."""


def arrival_of(event: Heard, sender: TenantId) -> Arrival:
    """Return an event as it goes into the inbox; a sender of one tenant may tell nothing in the name of another."""
    if sender != PLATFORM_TENANT and event.tenant_id not in (None, sender):
        raise BadEvent(f"tenant {event.tenant_id!r} is not yours: leave it out, or say {sender!r}")
    default = TenantId("default") if sender == PLATFORM_TENANT else sender
    return Arrival(
        source=event.source,
        event_id=event.event_id,
        type=event.type,
        subject=event.subject,
        tenant_id=event.tenant_id or default,
        time=event.time,
        data=event.data,
        trace_parent=event.trace_parent,
    )


def handle_waiting(handling: Handling) -> int:
    """Act on events that wait; return how many were looked at.

    What fails holds up its own subject and no other.
    """
    events = handling.inbox.next_waiting(now=handling.clock.now(), limit=handling.policy.at_once)
    stuck: set[tuple[TenantId, str]] = set()
    handled: list[Handled] = []
    for event in events:
        subject = (event.arrival.tenant_id, event.arrival.subject)
        if subject in stuck:
            continue
        outcome = _handle(handling, event)
        handled.append(outcome)
        if outcome.retry_at is not None:
            stuck.add(subject)
    if handled:
        handling.inbox.settle(handled, now=handling.clock.now())
    return len(handled)


def _handle(handling: Handling, event: InboxEvent) -> Handled:
    arrival, now = event.arrival, handling.clock.now()
    try:
        data = heard(arrival.type, arrival.data)
        handler = handling.handlers.get(arrival.type)
        if handler is None:
            raise BadEvent(f"nothing here acts on events of type {arrival.type!r}")
        _traced(handling, event, handler, data)
    except (BadEvent, LeaseLost) as error:
        # No later try would change that.
        return Handled(position=event.position, code=error.code, message=str(error))
    except PenstockError as error:
        return _later(handling, event, error.code, str(error), now)
    except Exception as error:  # noqa: BLE001  one event that nobody reckoned with must not stop all others
        kind = type(error).__name__
        return _later(handling, event, "unexpected", f"its handler failed with {kind}", now)
    return Handled(position=event.position)


def _traced(handling: Handling, event: InboxEvent, handler: Handler, data: EventData) -> None:
    """Act on an event within its trace: the one that it came with, or one that follows from what it is known by."""
    arrival = event.arrival
    key = key_of(arrival)
    came_with = arrival.trace_parent or trace_parent_of(key)
    with handling.tracer.span(
        "penstock.handle_event",
        parent=came_with,
        type=arrival.type,
        tenant=arrival.tenant_id,
        event=key,
        attempt=event.attempts + 1,
    ) as span:
        goes_on = replace(arrival, trace_parent=span.trace_parent or came_with)
        handler(goes_on, data, key=key)


def key_of(arrival: Arrival) -> str:
    """Return what an event is known by, however often it comes: 32 hex digits."""
    return fact_id("inbox", arrival.tenant_id, arrival.source, arrival.event_id)


def _later(
    handling: Handling, event: InboxEvent, code: str, message: str, now: datetime
) -> Handled:
    again = next_try(handling.policy, event.attempts + 1, now, handling.jitter())
    return Handled(position=event.position, code=code, message=message, retry_at=again)


def remove_old_arrivals(inbox: Inbox, policy: HandlingPolicy, now: datetime) -> int:
    """Forget events that took effect long ago; return how many."""
    before, removed = now - timedelta(seconds=policy.keep_s), 0
    while gone := inbox.remove(settled_before=before, limit=5_000):
        removed += gone
    return removed
