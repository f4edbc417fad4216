"""The envelope that every event travels in: CloudEvents 1.0, with the tenant as an extension attribute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.identity.ids import TenantId

SOURCE = "/penstock"
"""Who says so, of everything that Penstock itself tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """A fact that is to be told, as it goes into the outbox with the change that it tells of."""

    type: str
    """Its bare name, ``batch_published``: one of the catalogue's."""
    subject: str
    """What it is about: a batch id, a workflow's id, ... Events of one subject are told in order."""
    tenant_id: TenantId
    """Whose it is: nobody else is told."""
    time: datetime
    data: Mapping[str, Any]
    """A JSON object, as the catalogue's schema of this type says. It holds no attributes of entities and no secrets."""
    event_id: str | None = None
    """Unique; None has one made. One that follows from what it tells makes telling it twice impossible."""
    trace_parent: str | None = None
    """W3C trace context; None for that of the subject."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class OutboxCursor:
    """A place in the outbox, in the order of commits: what comes after it has not been told."""

    transaction: int = 0
    position: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxEvent:
    """An event as the outbox holds it."""

    cursor: OutboxCursor
    event_id: str
    type: str
    source: str
    subject: str
    tenant_id: TenantId
    time: datetime
    data: Mapping[str, Any]
    trace_parent: str | None = None
