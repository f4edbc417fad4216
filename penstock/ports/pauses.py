"""Pauses: sources and targets that nothing is claimed for until someone resumes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from penstock.identity.ids import SourceId, TargetId
from penstock.ports.audit_log import AuditEntry


class PauseScope(StrEnum):
    """What a pause stops."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """One source or target that is paused. What is in hand ends; nothing new is claimed."""

    scope: PauseScope
    scope_id: str
    paused_at: datetime
    paused_by: str
    reason: str

    def holds(self, source: SourceId, target: TargetId) -> bool:
        """Whether it keeps batches of a source from a target."""
        return self.scope_id == (source if self.scope is PauseScope.SOURCE else target)


class Pauses(Protocol):
    """What is paused. ``act`` is recorded in the same transaction, if there was anything to do."""

    def pause(self, pause: Pause, *, act: AuditEntry | None = None) -> bool:
        """Pause a source or target; False if it is paused already (the first pause stands)."""
        ...

    def resume(self, scope: PauseScope, scope_id: str, *, act: AuditEntry | None = None) -> bool:
        """Resume a source or target; False if it is not paused."""
        ...

    def list_pauses(self) -> list[Pause]:
        """Return what is paused, targets after sources, by id."""
        ...
