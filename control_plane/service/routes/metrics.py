"""What is measured, as Prometheus scrapes it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from control_plane.monitoring.exposition import CONTENT_TYPE, exposition
from control_plane.service.calling import LoopsOf, ServicesOf, Viewer
from control_plane.service.loops.metrics import loop_samples
from control_plane.web.calling import StrictRoute
from control_plane.web.problem_responses import refused
from control_plane.web.responses import problems
from penstock.registry.problems import Problem, ProblemKind

router = APIRouter(tags=["Server"], route_class=StrictRoute)
_SHOWN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Every metric.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@router.get("/metrics", response_class=Response, responses={**_SHOWN, **problems()})
def scrape(services: ServicesOf, loops: LoopsOf, caller: Viewer) -> Response:
    """Return every metric in Prometheus' text format; takes a token over all tenants."""
    from resources.control_db.metrics import SqlMetrics

    if caller.only_tenant is not None:
        raise refused(
            Problem(
                kind=ProblemKind.FORBIDDEN,
                detail="metrics tell of all tenants: this takes a token over all of them, and this one is of "
                f"{caller.tenant_id}",
            )
        )
    metrics, now = SqlMetrics.from_engine(services.engine), services.clock.now()
    samples = [*metrics.standing(now=now), *loop_samples(loops.states(), now)]
    return Response(exposition(metrics.tallies(), samples), media_type=CONTENT_TYPE)
