"""What operators do about incidents: open one, tell customers how it stands, end it."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.errors import PenstockError, Unsigned
from penstock.forecast.incidents import Incident, Phase, Severity
from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.ports.incidents import NewIncident
from penstock.use_cases.acts import By
from penstock.use_cases.forecasting import Forecasting, incident

LONGEST_TITLE = 200
LONGEST_TEXT = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentReport:
    """What an operator says of a new incident."""

    tenant_id: TenantId
    title: str
    """For customers, in one line."""
    text: str
    """The first message to customers."""
    severity: Severity = Severity.WARNING
    source_id: SourceId | None = None
    target_id: TargetId | None = None
    public: bool = True
    """Whether the tenant's status page shows it."""


def open_incident(forecasting: Forecasting, report: IncidentReport, *, by: By) -> Incident:
    """Open an incident; it is told as an event, and goes into the audit log.

    Raises ``UndeclaredSource`` for a source that is not there, ``PenstockError`` for one of another tenant.
    """
    platform = forecasting.platform
    if report.source_id is not None:
        spec = platform.control.get_source(report.source_id)
        if spec.tenant_id != report.tenant_id:
            raise PenstockError(
                f"source {report.source_id!r} is not of tenant {report.tenant_id!r}: an incident is told to one tenant"
            )
    now = platform.clock.now()
    new = NewIncident(
        tenant_id=report.tenant_id,
        source_id=report.source_id,
        target_id=report.target_id,
        severity=report.severity,
        phase=Phase.INVESTIGATING,
        public=report.public,
        title=_said(report.title, "title", LONGEST_TITLE),
        text=_said(report.text, "text", LONGEST_TEXT),
    )
    details = {"title": new.title, "tenant_id": new.tenant_id, "public": new.public}
    act = by.entry("incident.open", "", now=now, source=report.source_id, details=details)
    return forecasting.incidents.open_incident(new, now=now, actor=by.actor, act=act)


def update_incident(
    forecasting: Forecasting,
    incident_id: str,
    *,
    phase: Phase,
    text: str,
    by: By,
    public: bool | None = None,
    tenant: TenantId | None = None,
) -> Incident:
    """Tell customers how an incident stands; phase ``resolved`` ends it. ``public`` shows it to them, or no longer.

    Raises ``NotFound``, for one of another tenant too, and ``NothingToDo`` for one that has ended.
    """
    before = incident(forecasting, incident_id, tenant=tenant)
    now = forecasting.platform.clock.now()
    said = _said(text, "text", LONGEST_TEXT)
    verb = "resolve" if phase is Phase.RESOLVED else "update"
    details = {"phase": str(phase), "text": said, "public": public}
    act = by.entry(
        f"incident.{verb}", incident_id, now=now, source=before.source_id, details=details
    )
    return forecasting.incidents.update_incident(
        incident_id, phase=phase, text=said, public=public, now=now, actor=by.actor, act=act
    )


def resolve_incident(
    forecasting: Forecasting,
    incident_id: str,
    *,
    text: str,
    by: By,
    tenant: TenantId | None = None,
) -> Incident:
    """End an incident with a last message to customers."""
    return update_incident(
        forecasting, incident_id, phase=Phase.RESOLVED, text=text, by=by, tenant=tenant
    )


def _said(text: str, what: str, longest: int) -> str:
    said = text.strip()
    if not said:
        raise Unsigned(f"the {what} is empty: say to customers what is wrong, or what is done")
    if len(said) > longest:
        raise Unsigned(f"the {what} has {len(said):,} characters: at most {longest:,} are kept")
    return said
