"""The registry's server: REST under ``/registry/v1``, and pages beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from control_plane.registry import docs_page
from control_plane.registry.addresses import API
from control_plane.registry.backend import Backend
from control_plane.registry.commands import batches as batch_commands
from control_plane.registry.commands import entities as entity_commands
from control_plane.registry.commands import relationship_types as relationship_type_commands
from control_plane.registry.commands import relationships as relationship_commands
from control_plane.registry.commands import schemas as schema_commands
from control_plane.registry.commands import stewardship, ways_back
from control_plane.registry.commands import tokens as token_commands
from control_plane.registry.gate import Gate
from control_plane.registry.openapi import described
from control_plane.registry.problem_responses import (
    HttpProblem,
    HttpProblemKind,
    http_problem,
    invalid,
    invalid_parts,
)
from control_plane.registry.queries import changes, history, overview
from control_plane.registry.queries import entities as entity_queries
from control_plane.registry.queries import relationships as relationship_queries
from control_plane.registry.queries import schemas as schema_queries
from control_plane.registry.queries import tokens as token_queries
from penstock.errors import InvalidIdentifier, NotCanonical

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
        middleware=[Middleware(Gate, backend=backend)],
    )
    app.state.backend = backend
    for module in (*QUERIES, *COMMANDS):
        app.include_router(module.router, prefix=API)
    app.include_router(docs_page.router, prefix=API, include_in_schema=False)
    if pages is not None:
        app.include_router(pages, include_in_schema=False)
    app.openapi = described(app)  # type: ignore[method-assign]
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Turn whatever a handler raises into a problem document."""
    handlers: dict[type[Exception], Callable[[Request, Exception], HttpProblem]] = {
        HttpProblem: lambda _request, error: _the_problem(error),
        RequestValidationError: lambda _request, error: _invalid(error),
        HTTPException: _of_http,
        InvalidIdentifier: lambda _request, error: invalid(str(error)),
        NotCanonical: lambda _request, error: invalid(str(error)),
        Exception: lambda _request, _error: http_problem(
            HttpProblemKind.INTERNAL, "this is not your doing: the server's log says what happened"
        ),
    }
    for kind, problem_of in handlers.items():
        app.add_exception_handler(kind, _answering(problem_of))


def _answering(
    problem_of: Callable[[Request, Exception], HttpProblem],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(request, error).response(request.url.path)

    return answer


def _the_problem(error: Exception) -> HttpProblem:
    assert isinstance(error, HttpProblem)
    return error


def _invalid(error: Exception) -> HttpProblem:
    assert isinstance(error, RequestValidationError)
    return invalid_parts(list(error.errors()))


def _of_http(request: Request, error: Exception) -> HttpProblem:
    """Return the problem of a path, or of a method, that there is none of."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return http_problem(
                HttpProblemKind.NO_SUCH_PATH, f"{request.url.path} leads nowhere: see {API}/docs"
            )
        case 405:
            allowed = ", ".join(sorted(_methods(request.app, request.scope)))
            return http_problem(
                HttpProblemKind.METHOD_NOT_ALLOWED,
                f"{request.method} is not for {request.url.path}: use {allowed}",
                headers={"Allow": allowed},
            )
        case _:
            return invalid(str(error.detail))


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """Return what may be done at a path, by whichever of the routes that have it."""
    return {
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)
    }
