"""When batches come, how SLAs are kept, and incidents: of the caller's tenant, or of all."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import Operator, ServicesOf, Viewer, signed
from control_plane.service.forecasting import forecasting_of
from control_plane.web.bodies import Body, ReasonField
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json, Moment
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.errors import NotFound
from penstock.forecast.incidents import IncidentKind, Phase, Severity
from penstock.forecast.lane_model import Stage
from penstock.forecast.sla import SlaReport
from penstock.identity import ids
from penstock.strict import Flag
from penstock.use_cases.forecasting import (
    batch_etas,
    forecast_reliability,
    incident,
    incidents,
    sla_reports,
)
from penstock.use_cases.incident_acts import (
    LONGEST_TEXT,
    LONGEST_TITLE,
    IncidentReport,
    open_incident,
    update_incident,
)

router = APIRouter(tags=["Forecasts"], route_class=StrictRoute)
CREATED = 201
MOST = 500
IncidentId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["0" * 32])]
SourceFilter = Annotated[
    str | None, Query(pattern=rf"^{ids.SLUG.pattern}$", description="Only of this source.")
]


class ForecastDocument(Document):
    """When one batch will be in one target."""

    batch_id: str
    source_id: str
    target_id: str
    tenant_id: str
    source_timestamp: Moment
    made_at: Moment
    stage: Stage
    place: int | None = Field(description="In the queue, 1 is next; null once a worker has it.")
    point_s: float | None = Field(description="Before calibration.")
    p50_at: Moment | None = Field(description="When half of such batches have come.")
    p90_at: Moment | None = Field(description="When nine in ten of such batches have come.")
    due_at: Moment | None = Field(description="By the source's SLA.")
    breach_probability: float | None
    explanation: str


class ReliabilityDocument(Document):
    """How often the forecasts of the last 30 days held, of those made at one stage."""

    stage: Stage
    forecasts: int
    within_p50: int
    within_p90: int


class ForecastList(Document):
    """Forecasts of what is on its way, and how far such forecasts are to be trusted."""

    items: list[ForecastDocument]
    reliability: list[ReliabilityDocument]


class WindowDocument(Document):
    """Batches that fell due in a window."""

    window_s: int
    due: int
    late: int
    attainment: float | None
    burn: float = Field(description="1 uses up exactly what may be late.")
    budget_left: float


class SlaDocument(Document):
    """How one source keeps its SLA."""

    source_id: str
    tenant_id: str
    sla_s: int
    objective: float
    windows: list[WindowDocument]
    alert: str | None = Field(description="Which of the burn rates is too high.")


class SlaList(Document):
    """SLAs by source."""

    items: list[SlaDocument]


class MessageDocument(Document):
    """What customers were told."""

    number: int
    at: Moment
    actor: str
    phase: Phase
    text: str


class IncidentDocument(Document):
    """An incident."""

    incident_id: str
    tenant_id: str
    kind: IncidentKind
    severity: Severity
    phase: Phase
    public: bool = Field(description="Whether the tenant's status page shows it.")
    source_id: str | None
    target_id: str | None
    title: str
    explanation: str = Field(description="What the rule found, in numbers.")
    rule_key: str | None = Field(description="Null for one that an operator opened.")
    opened_at: Moment
    opened_by: str
    updated_at: Moment
    seen_at: Moment
    resolved_at: Moment | None
    resolved_by: str | None
    messages: list[MessageDocument]


class IncidentList(Document):
    """Incidents, newest first."""

    items: list[IncidentDocument]


TitleField = Annotated[str, Field(min_length=1, max_length=LONGEST_TITLE)]
TextField = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
SlugField = Annotated[str | None, Field(pattern=rf"^{ids.SLUG.pattern}$")]


class NewIncidentBody(Body):
    """An incident to open."""

    title: TitleField = Field(examples=["Delays on Sunday"])
    text: TextField = Field(description="The first message to customers.")
    tenant: SlugField = Field(default=None, description="The caller's own without it.")
    source: SlugField = None
    severity: Severity = Severity.WARNING
    public: Flag = True
    reason: ReasonField = ""


class MessageBody(Body):
    """What to tell customers of an incident."""

    text: TextField
    phase: Phase = Field(default=Phase.MONITORING, description="`resolved` ends it.")
    public: Flag | None = Field(default=None, description="Show it to customers, or no longer.")
    reason: ReasonField = ""


@router.get("/forecasts", response_model=ForecastList, responses=problems())
def list_forecasts(
    services: ServicesOf,
    caller: Viewer,
    source: SourceFilter = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> Response:
    """Forecast when what is on its way will be in its target: what workers have, then the queue by place."""
    forecasting = forecasting_of(services)
    wanted = None if source is None else ids.source_id(source)
    etas = batch_etas(forecasting, tenant=caller.only_tenant, source=wanted)[:limit]
    if caller.only_tenant is not None:
        # Where a batch stands among those of others, and what keeps it waiting, names them.
        shown = [{**plain(eta), "place": None, "explanation": ""} for eta in etas]
    else:
        shown = [plain(eta) for eta in etas]
    held = forecast_reliability(forecasting)
    return json_response({"items": shown, "reliability": plain(held)})


@router.get("/slas", response_model=SlaList, responses=problems())
def list_slas(services: ServicesOf, caller: Viewer) -> Response:
    """Show what share of each source's batches came in time, and how fast the rest is used up."""
    found = sla_reports(forecasting_of(services), tenant=caller.only_tenant)
    return json_response({"items": [_sla(report) for report in found]})


@router.get("/incidents", response_model=IncidentList, responses=problems())
def list_incidents(
    services: ServicesOf,
    caller: Viewer,
    source: SourceFilter = None,
    open_only: Annotated[bool, Query(alias="open", description="Not those that are over.")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> Response:
    """List incidents, newest first."""
    found = incidents(
        forecasting_of(services),
        tenant=caller.only_tenant,
        source=None if source is None else ids.source_id(source),
        open_only=open_only,
        limit=limit,
    )
    return json_response({"items": plain(found)})


@router.get("/incidents/{incident_id}", response_model=IncidentDocument, responses=problems(404))
def get_incident(incident_id: IncidentId, services: ServicesOf, caller: Viewer) -> Response:
    """Return one incident with its messages."""
    found = incident(forecasting_of(services), incident_id, tenant=caller.only_tenant)
    return json_response(plain(found))


@router.post(
    "/incidents",
    status_code=CREATED,
    response_model=IncidentDocument,
    responses={201: {"description": "It is open, and told."}, **problems(404, 413, 422)},
)
def make_incident(body: NewIncidentBody, services: ServicesOf, caller: Operator) -> Response:
    """Open an incident; the tenant's status page shows it."""
    wanted = body.tenant or caller.only_tenant
    if wanted is None or not caller.sees(ids.tenant_id(wanted)):
        raise NotFound(f"there is no tenant {body.tenant!r}: name the one that is told")
    report = IncidentReport(
        tenant_id=ids.tenant_id(wanted),
        title=body.title,
        text=body.text,
        severity=body.severity,
        source_id=None if body.source is None else ids.source_id(body.source),
        public=body.public,
    )
    made = open_incident(forecasting_of(services), report, by=signed(caller, body.reason))
    return json_response(plain(made), status=CREATED)


@router.post(
    "/incidents/{incident_id}/messages",
    response_model=IncidentDocument,
    responses={200: {"description": "Customers are told."}, **problems(404, 409, 413, 422)},
)
def tell_of_incident(
    incident_id: IncidentId, body: MessageBody, services: ServicesOf, caller: Operator
) -> Response:
    """Tell customers how an incident stands, or that it is over."""
    told = update_incident(
        forecasting_of(services),
        incident_id,
        phase=body.phase,
        text=body.text,
        public=body.public,
        by=signed(caller, body.reason),
        tenant=caller.only_tenant,
    )
    return json_response(plain(told))


def _sla(report: SlaReport) -> Json:
    windows: list[dict[str, Any]] = [
        {
            "window_s": window,
            "due": tally.due,
            "late": tally.late,
            "attainment": tally.attainment,
            "burn": tally.burn(report.objective),
            "budget_left": tally.budget_left(report.objective),
        }
        for window, tally in sorted(report.tallies.items())
    ]
    return {
        "source_id": report.source_id,
        "tenant_id": report.tenant_id,
        "sla_s": report.sla_s,
        "objective": report.objective,
        "windows": windows,
        "alert": None if report.alert is None else report.alert.words(),
    }
