"""Queries on entities: one, some, many by their keys, and what is around one."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from control_plane.registry.bodies import SourceName, TypeNameField
from control_plane.registry.calling import BackendOf, Entity, IfNoneMatchHeader, Reader, needs
from control_plane.registry.described import ASKED, LISTED, READ
from control_plane.registry.documents import (
    EntityDocument,
    EntityPage,
    FoundDocument,
    GraphDocument,
    Key,
    graph_document,
    held_document,
)
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
from control_plane.web.bodies import Body
from control_plane.web.calling import StrictRoute, of
from control_plane.web.json_answers import json_response
from penstock.identity.ids import SLUG, TYPE_NAME, SourceId
from penstock.ports.registry import Search
from penstock.registry.access import Role
from penstock.registry.events import API_SOURCE, StreamKind
from penstock.registry.identifiers import entity_stream
from penstock.registry.workflow import Review
from penstock.use_cases.registry_queries import MOST_NODES, get_many, neighbours

router = APIRouter(
    tags=["Entities"], route_class=StrictRoute, dependencies=[Depends(needs(Role.READER))]
)


class Wanted(Body):
    """The address of an entity."""

    type: TypeNameField
    key: Key
    source: SourceName = API_SOURCE


class ManyWanted(Body):
    """Addresses of entities."""

    entities: Annotated[list[Wanted], Field(min_length=1, max_length=1000)]


@router.get("/entities", response_model=EntityPage, responses=LISTED)
def search_entities(
    request: Request,
    backend: BackendOf,
    caller: Reader,
    type_name: Annotated[str | None, Query(alias="type", pattern=f"^{TYPE_NAME.pattern}$")] = None,
    source: Annotated[str | None, Query(pattern=f"^{SLUG.pattern}$")] = None,
    status: Literal["active", "deprecated"] | None = None,
    review: Review | None = None,
    words: Annotated[
        str | None,
        Query(
            alias="q",
            min_length=1,
            max_length=1000,
            description="Words that occur in the key or in a text; the last may be the beginning of one.",
        ),
    ] = None,
    where: Where = None,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """List entities by type, source, status, attributes and words, in an order that writes do not disturb."""
    wanted = Search(
        tenant_id=caller.tenant_id,
        kind=StreamKind.ENTITY,
        type_name=type_name,
        source_id=None if source is None else SourceId(source),
        status=status,
        review=review,
        equals=equals(where),
        words=words,
        after=after,
        limit=limit,
    )
    return listed(request, searched(backend.platform, wanted))


@router.post("/entities/lookup", response_model=FoundDocument, responses=ASKED)
def look_up_entities(body: ManyWanted, backend: BackendOf, caller: Reader) -> Response:
    """Return many entities at once, whatever their keys look like; null for what is not there."""
    streams = [
        of(entity_stream(caller.tenant_id, each.type, each.key, source=each.source))
        for each in body.entities
    ]
    found = of(get_many(backend.platform, streams))
    return json_response(
        {"items": [None if held is None else held_document(held) for held in found]}
    )


@router.get("/entities/{type_name}/{key:path}", response_model=EntityDocument, responses=READ)
def read_entity(
    stream: Entity,
    backend: BackendOf,
    if_none_match: IfNoneMatchHeader = None,
    at: At = None,
    version: Version = None,
) -> Response:
    """Return an entity as it is, as it was at a moment, or as a version left it."""
    return one(backend.platform, stream, if_none_match, at=at, version=version)


@router.get("/graph/entities/{type_name}/{key:path}", response_model=GraphDocument, responses=ASKED)
def look_around_entity(
    stream: Entity,
    backend: BackendOf,
    depth: Annotated[int, Query(ge=1, le=2)] = 1,
    limit: Annotated[int, Query(ge=1, le=MOST_NODES)] = 200,
) -> Response:
    """Return an entity with what relationships join it to, up to two of them away."""
    return json_response(
        graph_document(of(neighbours(backend.platform, stream, depth=depth, limit=limit)))
    )
