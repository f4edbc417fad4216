"""The first page, signing in and out, and the pages' own files."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf, services_of
from control_plane.service.forecasting import forecasting_of
from control_plane.service.pages.frame import FRAME
from control_plane.service.pages.showing import shown
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.services import Services
from control_plane.web.session import session_router
from penstock.access.tokens import Principal
from penstock.use_cases.dashboard import attention, throughput, under_way
from penstock.use_cases.forecasting import batch_etas, incidents

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)
router.include_router(session_router(FRAME, lambda request, text: services_of(request).admit(text)))


@router.get("/static/dashboard.css")
def style_sheet() -> Response:
    """The one style sheet."""
    return FRAME.style_sheet()


@router.get("/static/dashboard.js")
def script() -> Response:
    """The one script."""
    file = FRAME.folder / "static" / "dashboard.js"
    return FRAME.kept(file.read_bytes(), "text/javascript")


@router.get("/")
def overview(request: Request, services: ServicesOf) -> Response:
    """Show what needs a person, what is under way, and what was published lately."""
    return shown(request, "Overview", lambda principal: _overview(services, principal))


def _overview(services: Services, principal: Principal) -> tuple[str, dict[str, Any]]:
    dashboard, tenant = dashboard_of(services), principal.only_tenant
    forecasting = forecasting_of(services)
    etas = {(eta.batch_id, eta.target_id): eta for eta in batch_etas(forecasting, tenant=tenant)}
    return "overview.html", {
        "needs": attention(dashboard, tenant),
        "incidents": incidents(forecasting, tenant=tenant, open_only=True, limit=20),
        "way": under_way(dashboard, tenant),
        "etas": etas,
        "hours": throughput(dashboard, tenant),
        "minute": f"{services.clock.now():%H%M}",
    }
