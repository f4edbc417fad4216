"""Incidents: what those who rely on a source should know of, opened and resolved by rules or by operators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from penstock.identity.ids import SourceId, TargetId, TenantId

CALM_FOR_S = 300.0
"""Seconds for which what opened an incident has to be gone before it resolves, so that it does not flap."""


class IncidentKind(StrEnum):
    """What is wrong."""

    SLA_BREACH = "sla_breach"
    """A batch is later than its source promises."""
    BREACH_FORECAST = "breach_forecast"
    """A batch will almost certainly be later than its source promises."""
    SLA_BURN = "sla_burn"
    """So many batches are late that the SLA's objective will be missed."""
    SILENT_SOURCE = "silent_source"
    """A source has not landed anything for much longer than its cadence."""
    TARGET_DOWN = "target_down"
    """A target does not answer."""
    ANOMALY = "anomaly"
    """Counts, errors or durations are far from the usual."""
    NOTICE = "notice"
    """An operator says so."""


PUBLIC = frozenset(
    {
        IncidentKind.SLA_BREACH,
        IncidentKind.SILENT_SOURCE,
        IncidentKind.TARGET_DOWN,
        IncidentKind.NOTICE,
    }
)
"""What customers are shown unless an operator decides otherwise: the rest is for those who run the platform."""


class Severity(StrEnum):
    """How bad it is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Phase(StrEnum):
    """Where those who look after an incident stand, as they tell customers."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Something that a rule finds to be wrong now."""

    rule_key: str
    """The same as long as it is the same trouble: at most one incident is open for it."""
    kind: IncidentKind
    severity: Severity
    tenant_id: TenantId
    source_id: SourceId | None
    target_id: TargetId | None
    title: str
    """For customers: it names nothing of other tenants, and no errors' texts."""
    explanation: str
    """For operators, in words and numbers."""
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentMessage:
    """What is said about an incident."""

    number: int
    """1 is the first."""
    at: datetime
    actor: str
    phase: Phase
    text: str
    """For customers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """An incident as it is kept."""

    incident_id: str
    tenant_id: TenantId
    kind: IncidentKind
    severity: Severity
    phase: Phase
    public: bool
    """Whether the tenant's status page shows it."""
    source_id: SourceId | None
    target_id: TargetId | None
    title: str
    explanation: str
    rule_key: str | None
    """None for one that an operator opened."""
    opened_at: datetime
    opened_by: str
    updated_at: datetime
    seen_at: datetime
    """When its rule last found it to be so."""
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    messages: tuple[IncidentMessage, ...] = ()

    @property
    def is_open(self) -> bool:
        """Say whether it is not over."""
        return self.resolved_at is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the rules decide about incidents at one moment."""

    open: tuple[Condition, ...]
    """New troubles."""
    seen: tuple[tuple[Incident, Condition], ...]
    """Troubles that last, each as it is now."""
    resolve: tuple[Incident, ...]
    """Troubles that have been gone for long enough."""


def decide(
    conditions: Iterable[Condition], incidents: Sequence[Incident], *, now: datetime
) -> Decision:
    """Decide which incidents the rules open and resolve; ``incidents`` are the open ones that rules opened."""
    found = {condition.rule_key: condition for condition in conditions}
    known = {incident.rule_key: incident for incident in incidents}
    gone = [incident for key, incident in known.items() if key not in found]
    return Decision(
        open=tuple(each for key, each in sorted(found.items()) if key not in known),
        seen=tuple((known[key], each) for key, each in sorted(found.items()) if key in known),
        resolve=tuple(
            incident for incident in gone if (now - incident.seen_at).total_seconds() >= CALM_FOR_S
        ),
    )
