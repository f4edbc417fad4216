"""Documents of events and destinations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from control_plane.answers import plain
from control_plane.web.documents import Document, Json, Moment
from penstock.events.cloudevents import structured
from penstock.events.delivery import Delivery, Destination
from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.ports.events import InboxEvent

CURSOR_PATTERN = "^[0-9a-f]{1,15}-[0-9a-f]{1,15}$"


class EventDocument(Document):
    """An event in a CloudEvents envelope."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: Moment
    tenant: str = Field(description="Whose it is; `*` for what concerns the platform.")
    datacontenttype: Literal["application/json"]
    data: dict[str, Any]
    traceparent: str | None = None


class EventPage(Document):
    """Events in the order of commits."""

    items: list[EventDocument]
    next: str = Field(description="Where to go on: `after` of the next page.")


class Accepted(Document):
    """What became of events that were sent."""

    accepted: int = Field(description="That were new.")
    known: int = Field(description="That had come before, and change nothing.")


class InboxDocument(Document):
    """An event that came in."""

    position: int
    id: str
    source: str
    type: str
    subject: str
    tenant: str
    time: Moment
    data: dict[str, Any]
    traceparent: str | None = Field(
        description="W3C trace context that it came with, as it is kept; null without one."
    )
    received_at: Moment
    received_from: str
    status: Literal["waiting", "done", "dead"]
    attempts: int
    retry_at: Moment | None
    error_code: str | None
    error_message: str | None
    settled_at: Moment | None


class InboxPage(Document):
    """Events that came in, newest first."""

    items: list[InboxDocument]


class DestinationDocument(Document):
    """Somewhere that events are sent to; its secrets are not shown."""

    id: str
    tenant: str
    kind: Literal["webhook", "rabbitmq"]
    address: str
    types: list[str] = Field(description="Empty for all.")
    subjects: list[str] = Field(description="What subjects have to begin with; empty for all.")
    status: Literal["enabled", "disabled"]
    cursor: str = Field(description="The place in the outbox up to which it was sent events.")
    failures: int = Field(description="In a row.")
    failing_since: Moment | None
    retry_at: Moment | None
    last_error: str | None
    delivered_at: Moment | None
    disabled_at: Moment | None
    disabled_why: str | None
    created_at: Moment
    created_by: str


class NewDestinationDocument(DestinationDocument):
    """A destination that has just been made."""

    secret: str | None = Field(
        description="What its webhooks are signed with. It is not shown again."
    )


class DestinationList(Document):
    """Destinations by id."""

    items: list[DestinationDocument]


class DeliveryDocument(Document):
    """One try to send one event."""

    event_id: str
    event_type: str
    at: Moment
    delivered: bool
    attempt: int
    status_code: int | None
    error: str | None
    duration_ms: int


class DeliveryList(Document):
    """The last tries, newest first."""

    items: list[DeliveryDocument]


class Tried(Document):
    """What a destination said of a test."""

    delivered: bool
    status_code: int | None
    error: str | None


class Secret(Document):
    """A fresh signing secret."""

    secret: str = Field(description="It is not shown again. The one before signs for a day more.")


def event_document(event: OutboxEvent) -> Json:
    """Return an event as it is sent."""
    return structured(event)


def inbox_document(event: InboxEvent) -> Json:
    """Return an event that came in."""
    arrival = event.arrival
    known: Json = plain(event)
    del known["arrival"]
    return {
        "id": arrival.event_id,
        "source": arrival.source,
        "type": arrival.type,
        "subject": arrival.subject,
        "tenant": arrival.tenant_id,
        "time": plain(arrival.time),
        "data": plain(arrival.data),
        "traceparent": arrival.trace_parent,
        **known,
    }


def destination_document(destination: Destination) -> Json:
    """Return a destination."""
    known: Json = plain(destination)
    return {
        "id": known.pop("destination_id"),
        "tenant": known.pop("tenant_id"),
        **known.pop("wanted"),
        **known,
        "cursor": cursor_text(destination.cursor),
    }


def delivery_document(delivery: Delivery) -> Json:
    """Return one try."""
    known: Json = plain(delivery)
    return known


def cursor_text(cursor: OutboxCursor) -> str:
    """Return a place in the outbox as text."""
    return f"{cursor.transaction:x}-{cursor.position:x}"


def cursor_of(text: str | None) -> OutboxCursor:
    """Read a place in the outbox that has its pattern; the beginning for None."""
    if text is None:
        return OutboxCursor()
    transaction, _, position = text.partition("-")
    return OutboxCursor(transaction=int(transaction, 16), position=int(position, 16))
