"""Incidents, kept. Whatever opens or resolves one tells it in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from penstock.forecast.incidents import Condition, Incident, Phase, Severity
from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.ports.audit_log import AuditEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class NewIncident:
    """An incident that an operator opens."""

    tenant_id: TenantId
    source_id: SourceId | None
    target_id: TargetId | None
    severity: Severity
    phase: Phase
    public: bool
    title: str
    text: str
    """The first message to customers."""


class Incidents(Protocol):
    """The store of incidents."""

    def open_by_rule(self, condition: Condition, *, now: datetime) -> Incident | None:
        """Open an incident for what a rule found, and tell it; None where one is open for it already."""
        ...

    def see_again(self, incident_id: str, condition: Condition, *, now: datetime) -> None:
        """Note that a rule still finds an incident's trouble, and as what."""
        ...

    def resolve_by_rule(self, incident_id: str, *, text: str, now: datetime) -> bool:
        """End an incident whose trouble is gone, and tell it; False if it has ended already."""
        ...

    def open_incident(
        self, new: NewIncident, *, now: datetime, actor: str, act: AuditEntry
    ) -> Incident:
        """Open an incident on an operator's word, and tell it."""
        ...

    def update_incident(
        self,
        incident_id: str,
        *,
        phase: Phase,
        text: str,
        public: bool | None,
        now: datetime,
        actor: str,
        act: AuditEntry,
    ) -> Incident:
        """Add a message; one that resolves ends it, and is told. Raises ``NotFound``, ``NothingToDo`` if it is over."""
        ...

    def get_incident(self, incident_id: str) -> Incident:
        """Return one with its messages, or raise ``NotFound``."""
        ...

    def list_incidents(
        self,
        *,
        tenant: TenantId | None = None,
        source: SourceId | None = None,
        open_only: bool = False,
        by_rules: bool = False,
        public_only: bool = False,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Incident]:
        """Return incidents with their messages, newest first; ``since`` leaves out what ended before."""
        ...
