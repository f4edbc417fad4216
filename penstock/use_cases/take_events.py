"""Reading events as they come in, over HTTP or by a broker."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from penstock.errors import BadEvent
from penstock.events.cloudevents import BATCH, STRUCTURED, Heard, read_binary, read_structured
from penstock.identity.ids import TenantId
from penstock.ports.events import Arrival
from penstock.use_cases.handle_events import arrival_of

MOST_AT_ONCE = 1_000
"""Events in one batch."""
_KEPT_CHARACTERS = 2_000
"""Of a message that is no event."""


def read_events(
    body: object, *, content_type: str, headers: Mapping[str, str], now: datetime
) -> list[Heard]:
    """Read one event, or a batch; raises :class:`~penstock.errors.BadEvent` that says which is wrong and why."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == BATCH:
        return _batch(body, now)
    if media_type == STRUCTURED:
        return [read_structured(body, now=now)]
    if any(name.lower() == "ce-specversion" for name in headers):
        return [read_binary(headers, body, now=now)]
    raise BadEvent(
        f"send {STRUCTURED}, {BATCH}, or application/json with the attributes as headers ce-id, ce-source, ce-type "
        "and ce-specversion"
    )


def _batch(body: object, now: datetime) -> list[Heard]:
    if not isinstance(body, list) or len(body) > MOST_AT_ONCE:
        raise BadEvent(f"a batch is a JSON array of up to {MOST_AT_ONCE:,} events")
    events = []
    for number, envelope in enumerate(body):
        try:
            events.append(read_structured(envelope, now=now))
        except BadEvent as error:
            raise BadEvent(f"event {number} of the batch: {error}") from None
    return events


def arrival_of_message(
    body: object,
    *,
    raw: bytes,
    content_type: str,
    headers: Mapping[str, str],
    sender: TenantId,
    now: datetime,
) -> Arrival:
    """Return a broker's message as it goes into the inbox: one that is no event is kept with what is wrong with it."""
    # AMQP's binding names attributes cloudEvents:id or cloudEvents_id.
    named = {
        name.replace("cloudEvents:", "ce-").replace("cloudEvents_", "ce-"): value
        for name, value in headers.items()
    }
    media_type = content_type
    if not any(name == "ce-specversion" for name in named):
        # Publishers that set no content type send the whole event as JSON.
        media_type = STRUCTURED
    try:
        (event,) = read_events(body, content_type=media_type, headers=named, now=now)
        return arrival_of(event, sender)
    except BadEvent as error:
        return _unreadable(raw, str(error), now)


def _unreadable(raw: bytes, error: str, now: datetime) -> Arrival:
    digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
    text = raw[:_KEPT_CHARACTERS].decode("utf-8", "replace")
    return Arrival(
        source="rabbitmq",
        event_id=digest,
        type="unreadable",
        subject=digest,
        tenant_id=TenantId("default"),
        time=now,
        data={"message": text},
        error=error,
    )
