"""Sources: how each stands, its trends, and its pauses."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.forecasting import forecasting_of
from control_plane.service.pages.acting import Proof, Reason, acted
from control_plane.service.pages.pausing import pause_or_resume
from control_plane.service.pages.showing import shown
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.pages.trends import window_of
from control_plane.service.services import Services
from penstock.access.tokens import Principal
from penstock.identity import ids
from penstock.ports.pauses import PauseScope
from penstock.use_cases.acts import By
from penstock.use_cases.dashboard import Window, pauses_of, trend, volumes
from penstock.use_cases.dashboard_scope import own_source
from penstock.use_cases.forecasting import sla_reports, source_statuses

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)


@router.get("/sources")
def sources(request: Request, services: ServicesOf) -> Response:
    """Show how every source stands."""
    return shown(request, "Sources", lambda principal: _sources(services, principal))


@router.get("/sources/{source}")
def one_source(
    request: Request, source: str, services: ServicesOf, window: str = Window.MONTH
) -> Response:
    """Show a source with its trends."""
    return shown(request, "Sources", lambda principal: _source(services, principal, source, window))


@router.post("/sources/{source}/{act}")
def act_on_source(
    request: Request,
    source: str,
    act: str,
    services: ServicesOf,
    csrf: Proof = "",
    reason: Reason = "",
) -> Response:
    """Pause a source, or have it go on."""
    return acted(
        request,
        "Sources",
        lambda principal, by: _act(services, principal, source, act, by),
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/sources/{source}",
        again=lambda principal: _source(services, principal, source, Window.MONTH),
    )


def _sources(services: Services, principal: Principal) -> tuple[str, dict[str, Any]]:
    dashboard, tenant = dashboard_of(services), principal.only_tenant
    found = trend(dashboard, tenant, Window.MONTH)
    return "sources.html", {
        "statuses": source_statuses(forecasting_of(services), tenant=tenant),
        "records": {record.source_id: record for record in found.records},
        "paused": _paused(services, principal),
    }


def _source(
    services: Services, principal: Principal, source: str, window: str
) -> tuple[str, dict[str, Any]]:
    dashboard, forecasting, tenant = (
        dashboard_of(services),
        forecasting_of(services),
        principal.only_tenant,
    )
    name, wanted = own_source(dashboard, ids.source_id(source), tenant), window_of(window)
    statuses = source_statuses(forecasting, tenant=tenant)
    slas = sla_reports(forecasting, tenant=tenant)
    return "source.html", {
        "source": name,
        "status": next((s for s in statuses if s.standing.spec.source_id == name), None),
        "sla": next((each for each in slas if each.source_id == name), None),
        "pause": _paused(services, principal).get(name),
        "trend": trend(dashboard, tenant, wanted, name),
        "weighed": volumes(dashboard, tenant, wanted, name),
        "window": wanted,
        "windows": list(Window),
        "minute": f"{services.clock.now():%H%M}",
    }


def _paused(services: Services, principal: Principal) -> dict[str, Any]:
    found = pauses_of(dashboard_of(services), principal.only_tenant)
    return {each.scope_id: each for each in found if each.scope is PauseScope.SOURCE}


def _act(services: Services, principal: Principal, source: str, act: str, by: By) -> str:
    name = own_source(dashboard_of(services), ids.source_id(source), principal.only_tenant)
    return pause_or_resume(services, PauseScope.SOURCE, name, act, by)
