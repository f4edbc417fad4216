"""The queue, with each place explained."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.forecasting import forecasting_of
from control_plane.service.pages.showing import shown
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.services import Services
from penstock.access.tokens import Principal
from penstock.use_cases.dashboard import MOST_SHOWN, places_of
from penstock.use_cases.forecasting import batch_etas

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)


@router.get("/queue")
def queue(request: Request, services: ServicesOf) -> Response:
    """Show what waits in the order in which it will go, and why."""
    return shown(request, "Queue", lambda principal: _queue(services, principal))


def _queue(services: Services, principal: Principal) -> tuple[str, dict[str, Any]]:
    tenant = principal.only_tenant
    places = places_of(dashboard_of(services), tenant)
    etas = batch_etas(forecasting_of(services), tenant=tenant)
    return "queue.html", {
        "places": places[:MOST_SHOWN],
        "waiting": len(places),
        "etas": {(eta.batch_id, eta.target_id): eta for eta in etas},
    }
