"""Turning what handlers raise into problem documents."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from control_plane.web.problem_responses import (
    HttpProblem,
    HttpProblemKind,
    http_problem,
    invalid,
    invalid_parts,
)
from penstock.errors import InvalidIdentifier, NotCanonical

_OURS = "this is not your doing: the server's log says what happened"
_log = logging.getLogger(__name__)


def answer_errors(app: FastAPI, *, docs: str) -> None:
    """Turn whatever a handler raises into a problem document; ``docs`` is where the API is explained."""
    handlers: dict[type[Exception], Callable[[Request, Exception], HttpProblem]] = {
        HttpProblem: lambda _request, error: _the_problem(error),
        RequestValidationError: lambda _request, error: _invalid(error),
        HTTPException: lambda request, error: _of_http(request, error, docs),
        InvalidIdentifier: lambda _request, error: invalid(str(error)),
        NotCanonical: lambda _request, error: invalid(str(error)),
        Exception: lambda _request, _error: http_problem(HttpProblemKind.INTERNAL, _OURS),
        OperationalError: lambda _request, error: _of_database(error),
    }
    for kind, problem_of in handlers.items():
        app.add_exception_handler(kind, _answering(problem_of))


def _answering(
    problem_of: Callable[[Request, Exception], HttpProblem],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(request, error)
        request.state.refusal = problem.code
        return problem.response(request.url.path)

    return answer


def _the_problem(error: Exception) -> HttpProblem:
    assert isinstance(error, HttpProblem)
    return error


def database_is_away(error: Exception) -> bool:
    """Say whether the database does not answer for now, so that the same request may do later: it restarts, or is busy.

    SQLSTATE 08 is of connections, 57P of servers that end or begin; a connection that was cut off has none.
    """
    if not isinstance(error, OperationalError):
        return False
    state = getattr(error.orig, "sqlstate", "none")
    if state == "none":
        return "locked" in str(error.orig)
    return state is None or state.startswith(("08", "57P"))


def _of_database(error: Exception) -> HttpProblem:
    _log.warning("the database failed", exc_info=error)
    if database_is_away(error):
        said = "the control database does not answer: try again in a moment"
        return http_problem(HttpProblemKind.UNAVAILABLE, said, headers={"Retry-After": "1"})
    return http_problem(HttpProblemKind.INTERNAL, _OURS)


def _invalid(error: Exception) -> HttpProblem:
    assert isinstance(error, RequestValidationError)
    return invalid_parts(list(error.errors()))


def _of_http(request: Request, error: Exception, docs: str) -> HttpProblem:
    """Return the problem of a path, or of a method, that there is none of."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return http_problem(
                HttpProblemKind.NO_SUCH_PATH, f"{request.url.path} leads nowhere: see {docs}"
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
