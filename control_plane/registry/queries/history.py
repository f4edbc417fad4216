"""Queries on what was: the history of one stream, and what changed between two of its versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from control_plane.registry.backend import Backend
from control_plane.registry.calling import BackendOf, Entity, Relationship, needs
from control_plane.registry.described import ASKED, LISTED_OF_ONE
from control_plane.registry.documents import (
    DifferenceDocument,
    HistoryPage,
    change,
    event_document,
    history_document,
    page_document,
)
from control_plane.registry.queries.reading import Limit, next_link
from control_plane.web.calling import StrictRoute, of
from control_plane.web.json_answers import json_response
from penstock.registry.access import Role
from penstock.registry.events import StreamId
from penstock.use_cases.registry_queries import difference, history

router = APIRouter(
    tags=["History"], route_class=StrictRoute, dependencies=[Depends(needs(Role.READER))]
)
FromVersion = Annotated[
    int,
    Query(ge=0, le=2**53, description="The version after which to go on, the `next` of a page."),
]
Before = Annotated[
    int, Query(ge=1, le=2**53, alias="before", description="A version.", examples=[1])
]
Later = Annotated[
    int, Query(ge=1, le=2**53, alias="after", description="A later one.", examples=[2])
]


@router.get(
    "/history/entities/{type_name}/{key:path}", response_model=HistoryPage, responses=LISTED_OF_ONE
)
def read_entity_history(
    request: Request, stream: Entity, backend: BackendOf, after: FromVersion = 0, limit: Limit = 100
) -> Response:
    """List what happened to an entity, oldest first, with what each event changed; deleted ones have theirs still."""
    return _history(request, backend, stream, after, limit)


@router.get(
    "/history/relationships/{type_name}", response_model=HistoryPage, responses=LISTED_OF_ONE
)
def read_relationship_history(
    request: Request,
    stream: Relationship,
    backend: BackendOf,
    after: FromVersion = 0,
    limit: Limit = 100,
) -> Response:
    """List what happened to a relationship, oldest first, with what each event changed."""
    return _history(request, backend, stream, after, limit)


@router.get(
    "/diff/entities/{type_name}/{key:path}", response_model=DifferenceDocument, responses=ASKED
)
def compare_entity_versions(
    stream: Entity, backend: BackendOf, before: Before, after: Later
) -> Response:
    """Return what changed in an entity between two versions, by path."""
    return _difference(backend, stream, before, after)


@router.get("/diff/relationships/{type_name}", response_model=DifferenceDocument, responses=ASKED)
def compare_relationship_versions(
    stream: Relationship, backend: BackendOf, before: Before, after: Later
) -> Response:
    """Return what changed in a relationship between two versions, by path."""
    return _difference(backend, stream, before, after)


def _history(
    request: Request, backend: Backend, stream: StreamId, after: int, limit: int
) -> Response:
    found = of(history(backend.platform, stream, after=after, limit=limit))
    items = [history_document(item) for item in found.items]
    page = {**page_document(items, None), "next": found.next}
    return json_response(page, headers=next_link(request, found.next))


def _difference(backend: Backend, stream: StreamId, before: int, after: int) -> Response:
    found = of(difference(backend.platform, stream, before, after))
    return json_response(
        {
            "before": event_document(found.before),
            "after": event_document(found.after),
            "changes": [change(each) for each in found.changes],
        }
    )
