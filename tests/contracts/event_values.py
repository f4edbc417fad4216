"""What tests of events share, on both databases."""

from __future__ import annotations

import time
from typing import Any

from penstock.events.catalogue import checked
from penstock.events.delivery import Destination, DestinationKind, DestinationStatus, Wanted
from penstock.events.envelope import NewEvent, OutboxCursor, OutboxEvent
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from resources.control_db.outbox import add_events
from resources.control_db.outbox_log import SqlEventLog
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW

ACT = AuditEntry(at=NOW, actor="kim", act="destination.test", subject="hook")
BEGINNING = OutboxCursor()


def log_of(store: SqlControlStore) -> SqlEventLog:
    """The outbox of a store."""
    return SqlEventLog.from_engine(store.engine)


def told(store: SqlControlStore) -> list[OutboxEvent]:
    """All that a store has told, each as the catalogue says, once other transactions let it be read."""
    log, give_up_at = log_of(store), time.monotonic() + 60
    while True:
        events = log.read(BEGINNING, limit=10_000)
        if len(events) == log.count():
            break
        assert time.monotonic() < give_up_at, "events cannot be read"
        time.sleep(0.02)
    for event in events:
        checked(event.type, event.data)
    return events


def types(store: SqlControlStore) -> list[str]:
    """The types of all that a store has told."""
    return [event.type for event in told(store)]


def new_event(subject: str = "s", **fields: Any) -> NewEvent:
    """An event to tell."""
    values: dict[str, Any] = {
        "type": "breaker_closed",
        "subject": subject,
        "tenant_id": TenantId("default"),
        "time": NOW,
        "data": {"target_id": "registry"},
    }
    return NewEvent(**{**values, **fields})


def tell(store: SqlControlStore, *events: NewEvent) -> list[OutboxEvent]:
    """Tell events, and return all that has been told."""
    with store.engine.begin() as connection:
        add_events(connection, events)
    return told(store)


def destination(destination_id: str = "hook", **fields: Any) -> Destination:
    """A webhook."""
    values: dict[str, Any] = {
        "destination_id": destination_id,
        "tenant_id": TenantId("default"),
        "kind": DestinationKind.WEBHOOK,
        "address": "https://example.org/hook",
        "wanted": Wanted(),
        "status": DestinationStatus.ENABLED,
        "created_at": NOW,
        "created_by": "kim",
        "cursor": BEGINNING,
    }
    return Destination(**{**values, **fields})
