"""What handlers are given of a request: the caller, the backend, and which stream is meant."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Header, Path, Query, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.responses import Response

from control_plane.registry.backend import Backend
from control_plane.registry.documents import KEY_PATTERN
from control_plane.registry.problem_responses import refused
from penstock.identity import ids
from penstock.access.tokens import Principal, Rank
from penstock.registry.access import Role
from penstock.registry.commands import Caller
from penstock.registry.events import API_SOURCE, StreamId
from penstock.registry.identifiers import (
    MAX_IDEMPOTENCY_KEY_CHARACTERS,
    entity_stream,
    relationship_stream,
)
from penstock.registry.problems import Problem, ProblemKind

T = TypeVar("T")
ENTITY_TAG = "entity-tag"
"""The format of what names versions in headers, for tools that make some up."""
_SHOWN = HTTPBearer(
    scheme_name="token",
    bearerFormat="pst_<id>_<secret> or a JWT",
    description="A token of `penstock registry token create`, or of the OIDC issuer that is configured.",
    auto_error=False,
)
"""For the OpenAPI description; the gate has looked at the header already."""


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


def backend_of(request: Request) -> Backend:
    """Return what the server stands on."""
    backend: Backend = request.app.state.backend
    return backend


def current_caller(request: Request) -> Principal | None:
    """Return who is calling, by bearer token or by a page's session; None for nobody."""
    principal: Principal | None = request.scope["state"]["principal"]
    return principal


def needs(role: Rank) -> Callable[..., Principal]:
    """Return a dependency that lets in who has at least this role."""

    def check(request: Request, _shown: Annotated[Any, Security(_SHOWN)]) -> Principal:
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


BackendOf = Annotated[Backend, Depends(backend_of)]
Reader = Annotated[Principal, Depends(needs(Role.READER))]
Writer = Annotated[Principal, Depends(needs(Role.WRITER))]
SchemaAdmin = Annotated[Principal, Depends(needs(Role.SCHEMA_ADMIN))]
Admin = Annotated[Principal, Depends(needs(Role.ADMIN))]

Source = Annotated[
    str,
    Query(
        description="Who says so: `api`, or a source that is published.",
        pattern=f"^{ids.SLUG.pattern}$",
        examples=["api"],
    ),
]
TypeName = Annotated[
    str,
    Path(description="Its type.", pattern=f"^{ids.TYPE_NAME.pattern}$", examples=["table"]),
]
EntityKey = Annotated[
    str,
    Path(
        description="Its key, with its slashes as they are.",
        min_length=1,
        max_length=ids.MAX_KEY_BYTES,
        json_schema_extra={"pattern": KEY_PATTERN},
        examples=["warehouse/sales/orders"],
    ),
]
FromKey = Annotated[
    str,
    Query(
        min_length=1,
        max_length=ids.MAX_KEY_BYTES,
        description="Where it begins.",
        examples=["warehouse/sales/orders"],
        json_schema_extra={"pattern": KEY_PATTERN},
    ),
]
ToKey = Annotated[
    str,
    Query(
        min_length=1,
        max_length=ids.MAX_KEY_BYTES,
        description="Where it ends.",
        examples=["people/ada"],
        json_schema_extra={"pattern": KEY_PATTERN},
    ),
]
Reason = Annotated[
    str,
    Query(max_length=1000, description="Why; kept in the history.", examples=["moved to finance"]),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_IDEMPOTENCY_KEY_CHARACTERS,
        pattern="^[!-~]+$",
        description="The same key again is the same command again, which takes effect once.",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    ),
]
IfMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The ETag that was seen, or `*` for whatever is there.",
        examples=['"5f0c2f3b7a9d4c1e8b6a4d2c0e1f3a5b"'],
        json_schema_extra={"pattern": r'^(\*|(W/)?"[!#-~]*")$', "format": ENTITY_TAG},
    ),
]
IfNoneMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="ETags that need not be sent again.",
        examples=['"5f0c2f3b7a9d4c1e8b6a4d2c0e1f3a5b"'],
        json_schema_extra={
            "pattern": r'^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$',
            "format": ENTITY_TAG,
        },
    ),
]
OnlyNewHeader = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="`*`: only if there is nothing yet.",
        examples=["*"],
        json_schema_extra={"pattern": r"^\*$", "format": "asterisk"},
    ),
]


def entity_address(
    request: Request, type_name: TypeName, key: EntityKey, source: Source = API_SOURCE
) -> StreamId:
    """Return the stream of the entity that a path names, in the caller's tenant."""
    return of(entity_stream(_tenant(request), type_name, key, source=source))


def relationship_address(
    request: Request,
    type_name: TypeName,
    from_key: FromKey,
    to_key: ToKey,
    source: Source = API_SOURCE,
) -> StreamId:
    """Return the stream of the relationship that a path and its query name, in the caller's tenant."""
    tenant = _tenant(request)
    return of(relationship_stream(tenant, type_name, from_key, to_key, source=source))


Entity = Annotated[StreamId, Depends(entity_address)]
Relationship = Annotated[StreamId, Depends(relationship_address)]


def of(answer: T | Problem) -> T:
    """Return an answer, or raise what it was refused with."""
    if isinstance(answer, Problem):
        raise refused(answer)
    return answer


def as_caller(principal: Principal) -> Caller:
    """Return the caller as use cases know it."""
    return Caller(tenant_id=principal.tenant_id, actor=principal.actor)


def _tenant(request: Request) -> ids.TenantId:
    principal = current_caller(request)
    assert principal is not None, "the gate lets nobody in here without a token"
    return principal.tenant_id
