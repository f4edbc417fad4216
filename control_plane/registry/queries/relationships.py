"""Queries on relationships: one, and some."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from control_plane.registry.calling import BackendOf, IfNoneMatchHeader, Reader, Relationship, needs
from control_plane.registry.described import LISTED, READ
from control_plane.registry.documents import KEY_PATTERN, RelationshipDocument, RelationshipPage
from control_plane.registry.queries.reading import (
    After,
    At,
    Limit,
    Version,
    Where,
    equals,
    listed,
    one,
    searched,
)
from control_plane.web.calling import StrictRoute
from penstock.identity.ids import MAX_KEY_BYTES, SLUG, TYPE_NAME, SourceId
from penstock.ports.registry import Search
from penstock.registry.access import Role
from penstock.registry.events import StreamKind

router = APIRouter(
    tags=["Relationships"], route_class=StrictRoute, dependencies=[Depends(needs(Role.READER))]
)
End = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=MAX_KEY_BYTES,
        description="Only those with this end.",
        pattern=KEY_PATTERN,
    ),
]


@router.get("/relationships", response_model=RelationshipPage, responses=LISTED)
def search_relationships(
    request: Request,
    backend: BackendOf,
    caller: Reader,
    type_name: Annotated[str | None, Query(alias="type", pattern=f"^{TYPE_NAME.pattern}$")] = None,
    source: Annotated[str | None, Query(pattern=f"^{SLUG.pattern}$")] = None,
    from_key: End = None,
    to_key: End = None,
    where: Where = None,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """List relationships by type, source, ends and attributes."""
    wanted = Search(
        tenant_id=caller.tenant_id,
        kind=StreamKind.RELATIONSHIP,
        type_name=type_name,
        source_id=None if source is None else SourceId(source),
        equals=equals(where),
        from_key=from_key,
        to_key=to_key,
        after=after,
        limit=limit,
    )
    return listed(request, searched(backend.platform, wanted))


@router.get("/relationships/{type_name}", response_model=RelationshipDocument, responses=READ)
def read_relationship(
    stream: Relationship,
    backend: BackendOf,
    if_none_match: IfNoneMatchHeader = None,
    at: At = None,
    version: Version = None,
) -> Response:
    """Return a relationship as it is, as it was at a moment, or as a version left it."""
    return one(backend.platform, stream, if_none_match, at=at, version=version)
