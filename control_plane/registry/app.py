"""The registry's server: REST under ``/registry/v1``, and pages beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from control_plane.registry.addresses import API, SESSION_COOKIE
from control_plane.registry.backend import Backend
from control_plane.registry.commands import batches as batch_commands
from control_plane.registry.commands import entities as entity_commands
from control_plane.registry.commands import relationship_types as relationship_type_commands
from control_plane.registry.commands import relationships as relationship_commands
from control_plane.registry.commands import schemas as schema_commands
from control_plane.registry.commands import stewardship, ways_back
from control_plane.registry.commands import tokens as token_commands
from control_plane.registry.openapi import ABOUT_API
from control_plane.registry.queries import changes, history, overview
from control_plane.registry.queries import entities as entity_queries
from control_plane.registry.queries import relationships as relationship_queries
from control_plane.registry.queries import schemas as schema_queries
from control_plane.registry.queries import tokens as token_queries
from control_plane.web import docs_page
from control_plane.web.answering import answer_errors
from control_plane.web.gate import Entrance, Gate
from control_plane.web.openapi import described

COMMANDS = (
    entity_commands,
    relationship_commands,
    batch_commands,
    ways_back,
    stewardship,
    schema_commands,
    relationship_type_commands,
    token_commands,
)
QUERIES = (
    entity_queries,
    relationship_queries,
    schema_queries,
    history,
    changes,
    overview,
    token_queries,
)


PUBLIC = {f"{API}/openapi.json", f"{API}/docs", f"{API}/docs.css", f"{API}/health"}
BATCHES = {f"{API}/batches", f"{API}/schema-proposals"}
"""Where bodies may be larger."""


def create_app(backend: Backend, *, pages: APIRouter | None = None) -> FastAPI:
    """Return the application over a backend, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        backend.close()

    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        middleware=[Middleware(Gate, entrance=_entrance(backend))],
    )
    app.state.backend = backend
    for module in (*QUERIES, *COMMANDS):
        app.include_router(module.router, prefix=API)
    app.include_router(docs_page.router, prefix=API, include_in_schema=False)
    if pages is not None:
        app.include_router(pages, include_in_schema=False)
    app.openapi = described(app, ABOUT_API)  # type: ignore[method-assign]
    answer_errors(app, docs=f"{API}/docs")
    return app


def _entrance(backend: Backend) -> Entrance:
    return Entrance(
        admit=backend.admit,
        is_guarded=_is_guarded,
        limits=backend.limits,
        clock=backend.platform.clock,
        cookie=SESSION_COOKIE,
        realm="penstock registry",
        how="one that `penstock registry token create` made, or one of the issuer",
        takes_large=BATCHES.__contains__,
    )


def _is_guarded(path: str) -> bool:
    return (path == API or path.startswith(f"{API}/")) and path not in PUBLIC
