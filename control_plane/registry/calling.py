"""What handlers are given of a request: the caller, the backend, and which stream is meant."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Depends, Header, Path, Query, Request
from fastapi.security import HTTPBearer

from control_plane.registry.backend import Backend
from control_plane.registry.documents import KEY_PATTERN
from control_plane.web.calling import current_caller, needing, of, promptly
from penstock.access.tokens import Principal
from penstock.identity import ids
from penstock.registry.access import Role
from penstock.registry.commands import Caller
from penstock.registry.events import API_SOURCE, StreamId
from penstock.registry.identifiers import (
    MAX_IDEMPOTENCY_KEY_CHARACTERS,
    entity_stream,
    relationship_stream,
)

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
needs = needing(_SHOWN)


def backend_of(request: Request) -> Backend:
    """Return what the server stands on."""
    backend: Backend = request.app.state.backend
    return backend


BackendOf = Annotated[Backend, Depends(promptly(backend_of))]
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


Entity = Annotated[StreamId, Depends(promptly(entity_address))]
Relationship = Annotated[StreamId, Depends(promptly(relationship_address))]


def as_caller(principal: Principal) -> Caller:
    """Return the caller as use cases know it."""
    return Caller(tenant_id=principal.tenant_id, actor=principal.actor)


def _tenant(request: Request) -> ids.TenantId:
    principal = current_caller(request)
    assert principal is not None, "the gate lets nobody in here without a token"
    return principal.tenant_id
