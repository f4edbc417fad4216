"""What the audit log says of a registry's command: written with the command's events, or not at all."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from penstock.ports.audit_log import AuditEntry
from penstock.registry.commands import Caller
from penstock.registry.events import StreamId, StreamKind
from penstock.registry.identifiers import named

_MADE, _DONE = 201, 200
_BY_KEY = {StreamKind.SCHEMA, StreamKind.RELATIONSHIP_TYPE}


def subject_of(stream: StreamId) -> str:
    """Return what the audit log calls a stream."""
    return stream.key if stream.kind in _BY_KEY else named(stream)


def done_entry(
    caller: Caller, subject: str, *, made: bool, now: datetime, **details: Any
) -> AuditEntry | None:
    """Return the entry of a command that is carried out; None for a caller who keeps no log."""
    if caller.noted is None:
        return None
    return AuditEntry(
        at=now,
        actor=caller.actor,
        act=caller.noted.act,
        subject=subject,
        details={**caller.noted.details, "status": _MADE if made else _DONE, **details},
    )
