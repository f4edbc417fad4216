"""What handlers of both servers are given of a request: who is calling, and JSON that is JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import orjson
from fastapi import Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.responses import Response

from control_plane.web.problem_responses import refused
from penstock.access.tokens import Principal, Rank
from penstock.registry.problems import Problem, ProblemKind

T = TypeVar("T")
P = ParamSpec("P")


class StrictRequest(Request):
    """A request whose JSON is JSON: no NaN, no infinities."""

    async def json(self) -> Any:
        """Return the parsed body; raises ``json.JSONDecodeError``."""
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route whose requests are strict."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def promptly(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Have a dependency that waits for nothing called where it is: FastAPI hands plain functions to a thread, each."""

    @wraps(function)
    async def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return called


def current_caller(request: Request) -> Principal | None:
    """Return who is calling, by bearer token or by a page's session; None for nobody."""
    principal: Principal | None = request.scope["state"]["principal"]
    return principal


def needing(shown: HTTPBearer) -> Callable[[Rank], Callable[..., Coroutine[Any, Any, Principal]]]:
    """Return ``needs``, which makes dependencies of handlers; ``shown`` is how the OpenAPI description says it."""

    def needs(role: Rank) -> Callable[..., Coroutine[Any, Any, Principal]]:
        """Return a dependency that lets in who has at least this role."""

        async def check(request: Request, _shown: Any = Security(shown)) -> Principal:  # noqa: B008  as FastAPI has it
            principal = current_caller(request)
            assert principal is not None, "the gate lets nobody in here without a token"
            if not principal.role.includes(role):
                raise refused(
                    Problem(
                        kind=ProblemKind.FORBIDDEN,
                        detail=f"this takes the role {role}, and this token has {principal.role}",
                    )
                )
            return principal

        return check

    return needs


def of(answer: T | Problem) -> T:
    """Return an answer, or raise what it was refused with."""
    if isinstance(answer, Problem):
        raise refused(answer)
    return answer
