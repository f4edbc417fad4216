"""Trends over time and per source, and the charts that show them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.pages import charts
from control_plane.service.pages.showing import shown
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.services import Services
from control_plane.web.calling import current_caller
from penstock.access.tokens import Principal
from penstock.errors import NotFound, PenstockError
from penstock.identity import ids
from penstock.use_cases.dashboard import Dashboard, Window, throughput, trend, volumes
from penstock.use_cases.dashboard_scope import own_source

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)


@router.get("/trends")
def trends(request: Request, services: ServicesOf, window: str = Window.MONTH) -> Response:
    """Show how publishing has gone."""
    return shown(request, "Trends", lambda principal: _trends(services, principal, window))


@router.get("/charts/{name}.svg")
def chart(
    request: Request,
    name: str,
    services: ServicesOf,
    window: str = Window.MONTH,
    source: str = "",
) -> Response:
    """Draw a chart."""
    principal = current_caller(request)
    if principal is None:
        return Response(status_code=401)
    drawn = _draw(dashboard_of(services), principal, name, window_of(window), source)
    return Response(drawn, media_type="image/svg+xml", headers=charts.HEADERS)


def window_of(text: str) -> Window:
    """Read how far a trend looks back."""
    if text not in list(Window):
        raise PenstockError(f"a trend looks back a {', a '.join(Window)}: {text!r} is none of them")
    return Window(text)


def _trends(services: Services, principal: Principal, window: str) -> tuple[str, dict[str, Any]]:
    dashboard, tenant, wanted = dashboard_of(services), principal.only_tenant, window_of(window)
    return "trends.html", {
        "trend": trend(dashboard, tenant, wanted),
        "weighed": volumes(dashboard, tenant, wanted),
        "window": wanted,
        "windows": list(Window),
        "minute": f"{services.clock.now():%H%M}",
    }


def _draw(
    dashboard: Dashboard, principal: Principal, name: str, window: Window, source: str
) -> bytes:
    tenant = principal.only_tenant
    of = own_source(dashboard, ids.source_id(source), tenant) if source else None
    match name:
        case "throughput":
            return charts.outcomes(throughput(dashboard, tenant), Window.DAY)
        case "outcomes":
            return charts.outcomes(trend(dashboard, tenant, window, of).stretches, window)
        case "operations":
            return charts.operations(trend(dashboard, tenant, window, of).stretches, window)
        case "latency":
            return charts.latency(trend(dashboard, tenant, window, of).stretches, window)
        case "reliability":
            return charts.reliability(trend(dashboard, tenant, window, of).records)
        case "volume":
            return charts.volume(volumes(dashboard, tenant, window, of))
        case _:
            raise NotFound(f"there is no chart {name!r}")
