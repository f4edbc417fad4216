"""The audit log: who did what to what, when and why. Entries are added and never changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from penstock.identity.ids import SourceId

MOST_NAMED = 100
"""Ids of what an act was done to that its details list; all are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One act of a person, or of Penstock on a policy's behalf (actor ``penstock``)."""

    at: datetime
    actor: str
    act: str
    """``<what>.<verb>``: ``hold.approve``, ``dead_letter.discard``, ``source.pause``, ``batch.rollback``."""
    subject: str
    """The id of what it was done to."""
    source_id: SourceId | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class AuditLog(Protocol):
    """What people did."""

    def record_act(self, entry: AuditEntry) -> None:
        """Add an entry."""
        ...

    def list_acts(
        self,
        *,
        subject: str | None = None,
        source: SourceId | None = None,
        sources: Collection[SourceId] | None = None,
        limit: int = 1000,
    ) -> list[AuditEntry]:
        """Return entries, newest first; with ``sources`` those that are about these alone."""
        ...
