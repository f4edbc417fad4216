"""The control plane's server: REST, pages beside it, and the loops that run with it.

A module with routes exposes ``router`` and stands in :data:`ROUTERS`; one with pages in :data:`PAGES`; one with a loop
exposes ``loop`` and stands in :data:`LOOPS`. Paths that are answered without a token are in :data:`PUBLIC` and
:data:`OPEN`: everything else is guarded by the gate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control_plane.service.addresses import DASHBOARD, SESSION_COOKIE
from control_plane.service.looping import Loop, Loops
from control_plane.service.loops import alerts as alert_loop
from control_plane.service.loops import (
    event_broker,
    event_delivery,
    event_handling,
    event_retention,
)
from control_plane.service.loops import forecasts as forecasts_loop
from control_plane.service.loops import metrics as metric_loop
from control_plane.service.loops import told_triggers as told_loop
from control_plane.service.loops import work as work_loops
from control_plane.service.loops import workflows as workflow_loop
from control_plane.service.openapi import ABOUT_API
from control_plane.service.pages import dashboard, status
from control_plane.service.refusals import refusal
from control_plane.service.refused_commands import RefusedCommands
from control_plane.service.routes import (
    audit,
    batches,
    dead_letters,
    destinations,
    events,
    forecasts,
    holds,
    metrics,
    priority,
    queue,
    server,
    sources,
    targets,
    tasks,
    tokens,
    workers,
    workflows,
)
from control_plane.service.services import Services
from control_plane.web import docs_page
from control_plane.web.answering import answer_errors
from control_plane.web.gate import Entrance, Gate
from control_plane.web.openapi import described
from penstock.errors import InvalidIdentifier, NotCanonical, PenstockError

ROUTERS: tuple[APIRouter, ...] = (
    sources.router,
    queue.router,
    batches.router,
    targets.router,
    holds.router,
    dead_letters.router,
    audit.router,
    workflows.router,
    workers.router,
    tasks.router,
    priority.router,
    events.router,
    destinations.router,
    tokens.router,
    server.router,
    forecasts.router,
    metrics.router,
)
PAGES: tuple[APIRouter, ...] = (*dashboard.pages, status.router)
LOOPS: tuple[Loop, ...] = (
    *work_loops.loops,
    workflow_loop.loop,
    told_loop.loop,
    forecasts_loop.loop,
    event_delivery.loop,
    event_handling.loop,
    event_broker.loop,
    event_retention.loop,
    metric_loop.loop,
    alert_loop.loop,
)
PUBLIC = frozenset({"/", "/openapi.json", "/docs", "/docs.css", "/health"})
"""Paths for everybody."""
OPEN = (DASHBOARD, status.STATUS)
"""Paths, with all below them, that look by themselves at who is calling: pages."""
LARGE = ("/events",)
"""Paths where bodies may be larger."""


def create_app(services: Services, *, loops: Sequence[Loop] = LOOPS) -> FastAPI:
    """Return the application over services, which it closes at its end; its loops run while it does."""
    running = Loops(services, loops)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running.start()
        yield
        await to_thread.run_sync(running.stop)
        services.let_go()

    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(Gate, entrance=_entrance(services)),
            Middleware(RefusedCommands, services=services),
        ],
    )
    app.state.services, app.state.loops = services, running
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(docs_page.router, include_in_schema=False)
    for router in PAGES:
        app.include_router(router, include_in_schema=False)
    app.add_api_route("/", _to_dashboard, include_in_schema=False)
    app.openapi = described(app, ABOUT_API)  # type: ignore[method-assign]
    answer_errors(app, docs="/docs")
    # Of an id that has its pattern, too, it is a rule that refuses it.
    for kind in (PenstockError, InvalidIdentifier, NotCanonical):
        app.add_exception_handler(kind, _refuse)
    return app


def described_api() -> dict[str, Any]:
    """Return the OpenAPI description without a server: that of its routes."""
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    for router in ROUTERS:
        app.include_router(router)
    return described(app, ABOUT_API)()


def _to_dashboard() -> Response:
    return RedirectResponse(f"{DASHBOARD}/", status_code=303)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, PenstockError)
    problem = refusal(error)
    request.state.refusal = problem.code
    return problem.response(request.url.path)


def _entrance(services: Services) -> Entrance:
    return Entrance(
        admit=services.admit,
        is_guarded=_is_guarded,
        limits=services.limits,
        clock=services.clock,
        cookie=SESSION_COOKIE,
        realm="penstock control plane",
        how="one that `penstock token create` made",
        remembered=services.remembered,
        takes_large=LARGE.__contains__,
    )


def _is_guarded(path: str) -> bool:
    is_open = any(path == each or path.startswith(f"{each}/") for each in OPEN)
    return path not in PUBLIC and not is_open
