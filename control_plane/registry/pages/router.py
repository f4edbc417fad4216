"""The pages for looking at a registry: types, entities, one entity with its relationships and history, schemas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter, Query, Request, Response

from control_plane.registry.backend import Backend
from control_plane.registry.calling import BackendOf, backend_of
from control_plane.registry.pages.changes import shown_changes
from control_plane.registry.pages.graph import Edge, picture
from control_plane.registry.pages.render import FRAME, ROOT
from control_plane.registry.pages.schemas import shown_schema
from control_plane.web.calling import current_caller
from control_plane.web.session import session_router, to_sign_in
from penstock.access.tokens import Principal
from penstock.ports.registry import Page, Search
from penstock.registry.attributes import plain
from penstock.registry.events import API_SOURCE, StreamId, StreamKind
from penstock.registry.identifiers import entity_stream, schema_stream
from penstock.registry.problems import Problem
from penstock.registry.schemas import Schema
from penstock.use_cases import registry_queries as queries
from penstock.use_cases.registry_overview import type_counts

router = APIRouter(prefix=ROOT, include_in_schema=False)
router.include_router(session_router(FRAME, lambda request, text: backend_of(request).admit(text)))
T = TypeVar("T")
ON_A_PAGE, RELATIONSHIPS_SHOWN = 50, 100
Type = Annotated[str, Query(max_length=127)]
Short = Annotated[str, Query(max_length=400)]
Place = Annotated[str | None, Query(max_length=8_192)]


class Refused(Exception):
    """What was asked for cannot be shown."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@router.get("/static/registry.css")
def style_sheet() -> Response:
    """The one style sheet."""
    return FRAME.style_sheet()


@router.get("/")
def types_page(request: Request, backend: BackendOf) -> Response:
    """List the types."""

    def values(principal: Principal) -> tuple[str, dict[str, Any]]:
        found = type_counts(backend.platform, principal.tenant_id)
        return "types.html", {
            "entities": [each for each in found if each.kind is StreamKind.ENTITY],
            "relationships": [each for each in found if each.kind is StreamKind.RELATIONSHIP],
        }

    return _shown(request, "Types", values)


@router.get("/entities")
def entities_page(
    request: Request,
    backend: BackendOf,
    *,
    type_name: Annotated[str, Query(alias="type", max_length=127)] = "",
    q: Annotated[str, Query(max_length=200)] = "",
    attribute: Short = "",
    status: Annotated[str, Query(max_length=20)] = "",
    after: Place = None,
) -> Response:
    """List and search entities."""
    asked = {"type": type_name, "q": q, "attribute": attribute, "status": status}

    def values(principal: Principal) -> tuple[str, dict[str, Any]]:
        found, said = _searched(backend, principal, asked, after)
        known = type_counts(backend.platform, principal.tenant_id)
        more = None
        if found is not None and found.next is not None:
            kept = {name: value for name, value in asked.items() if value}
            more = f"{ROOT}/entities?{urlencode({**kept, 'after': found.next})}"
        return "entities.html", {
            "asked": asked,
            "types": [each.type_name for each in known if each.kind is StreamKind.ENTITY],
            "items": [] if found is None else found.items,
            "said": said,
            "next": more,
        }

    return _shown(request, "Entities", values)


@router.get("/entities/{type_name}/{key:path}")
def entity_page(
    request: Request, backend: BackendOf, type_name: str, key: str, source: Short = API_SOURCE
) -> Response:
    """Show one entity and what it is related to."""

    def values(principal: Principal) -> tuple[str, dict[str, Any]]:
        stream = _entity(principal, type_name, key, source)
        held = _of(queries.get(backend.platform, stream))
        graph = _of(
            queries.neighbours(backend.platform, stream, depth=1, limit=RELATIONSHIPS_SHOWN)
        )
        edges = _edges(stream, graph)
        return "entity.html", {
            "held": held,
            "attributes": plain(held.state),
            "edges": edges,
            "more_edges": not graph.complete,
            "graph": picture(type_name, key, edges),
            "history_href": _history_href(stream),
        }

    return _shown(request, "Entities", values)


@router.get("/history/{type_name}/{key:path}")
def history_page(
    request: Request,
    backend: BackendOf,
    type_name: str,
    key: str,
    source: Short = API_SOURCE,
    after: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """Show what became of one entity, each change with its differences."""

    def values(principal: Principal) -> tuple[str, dict[str, Any]]:
        stream = _entity(principal, type_name, key, source)
        history = _of(queries.history(backend.platform, stream, after=after, limit=ON_A_PAGE))
        there = not isinstance(queries.get(backend.platform, stream), Problem)
        more = None if history.next is None else f"{_history_href(stream)}&after={history.next}"
        return "history.html", {
            "stream": stream,
            "is_there": there,
            "changes": shown_changes(history),
            "next": more,
        }

    return _shown(request, "Entities", values)


@router.get("/schemas")
def schemas_page(request: Request, backend: BackendOf, after: Place = None) -> Response:
    """List the schemas."""

    def values(principal: Principal) -> tuple[str, dict[str, Any]]:
        search = Search(
            tenant_id=principal.tenant_id, kind=StreamKind.SCHEMA, after=after, limit=ON_A_PAGE
        )
        found = _of(queries.search(backend.platform, search))
        more = None if found.next is None else f"{ROOT}/schemas?after={quote(found.next)}"
        schemas = [Schema.from_state(held.state) for held in found.items]
        return "schemas.html", {"schemas": schemas, "next": more}

    return _shown(request, "Schemas", values)


@router.get("/schemas/{schema_id}")
def schema_page(request: Request, backend: BackendOf, schema_id: str) -> Response:
    """Show one schema, its draft and its versions, each against the one before."""

    def values(principal: Principal) -> tuple[str, dict[str, Any]]:
        held = _of(queries.get(backend.platform, schema_stream(principal.tenant_id, schema_id)))
        return "schema.html", shown_schema(Schema.from_state(held.state))

    return _shown(request, "Schemas", values)


def _shown(
    request: Request, section: str, values: Callable[[Principal], tuple[str, Mapping[str, Any]]]
) -> Response:
    """Render a page for who has signed in, or say why not."""
    principal = current_caller(request)
    if principal is None:
        return to_sign_in(FRAME, request)
    around = {**FRAME.around(request, section), "entity_href": entity_href}
    try:
        name, inside = values(principal)
        answer = FRAME.page(name, {**around, **inside})
    except Refused as refused:
        problem = refused.problem
        said = {"title": problem.title, "said": problem.detail}
        answer = FRAME.page("refused.html", {**around, **said}, status=problem.status)
    return FRAME.csrf.remember(request, answer, around["csrf"])


def entity_href(stream: StreamId) -> str:
    """Return where an entity is shown."""
    return f"{ROOT}/entities/{_address(stream)}"


def _history_href(stream: StreamId) -> str:
    return f"{ROOT}/history/{_address(stream)}"


def _address(stream: StreamId) -> str:
    return (
        f"{quote(stream.type_name, safe='')}/{quote(stream.key)}?source={quote(stream.source_id)}"
    )


def _of(answer: T | Problem) -> T:
    if isinstance(answer, Problem):
        raise Refused(answer)
    return answer


def _entity(principal: Principal, type_name: str, key: str, source: str) -> StreamId:
    return _of(entity_stream(principal.tenant_id, type_name, key, source=source))


def _searched(
    backend: Backend, principal: Principal, asked: Mapping[str, str], after: str | None
) -> tuple[Page | None, str | None]:
    """Return a page of what was asked for, or what is wrong with the question."""
    equals: dict[str, Any] = {}
    if asked["attribute"]:
        name, equal, text = asked["attribute"].partition("=")
        if not equal or not name.strip():
            return None, "Write an attribute as name=value: owner=ada."
        equals[name.strip()] = _value(text.strip())
    found = queries.search(
        backend.platform,
        Search(
            tenant_id=principal.tenant_id,
            type_name=asked["type"] or None,
            status=asked["status"] or None,
            equals=equals,
            words=asked["q"].strip() or None,
            after=after,
            limit=ON_A_PAGE,
        ),
    )
    return (None, found.detail) if isinstance(found, Problem) else (found, None)


def _value(text: str) -> Any:
    """Read a value as JSON where it is a number, true, false, null or quoted; as it stands where it is not."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(value, dict | list) else value


def _edges(stream: StreamId, graph: queries.Graph) -> list[Edge]:
    """Return the relationships of an entity, each with where its other end is shown."""
    there = {node.stream.key: node for node in graph.nodes}
    edges = []
    for held in graph.edges:
        outgoing = held.stream.key == stream.key
        other = there[str(held.stream.to_key) if outgoing else held.stream.key]
        edges.append(
            Edge(
                relationship_type=held.stream.type_name,
                outgoing=outgoing,
                other_type=other.stream.type_name,
                other_key=other.stream.key,
                href=None if other.held is None else entity_href(other.stream),
            )
        )
    return edges
