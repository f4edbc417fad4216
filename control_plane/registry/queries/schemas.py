"""Queries on schemas and relationship types."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from control_plane.registry.calling import BackendOf, IfNoneMatchHeader, Reader, needs
from control_plane.registry.carrying import not_modified
from control_plane.registry.conditional import etag, none_match
from control_plane.registry.described import ASKED, LISTED, LISTED_OF_ONE, READ
from control_plane.registry.documents import event_document
from control_plane.registry.queries.reading import After, Limit, next_link, searched
from control_plane.registry.schema_documents import (
    ProposalDocument,
    RelationshipTypeDocument,
    RelationshipTypePage,
    Rows,
    SchemaDocument,
    SchemaEvents,
    SchemaId,
    SchemaPage,
    TrialDocument,
    TriedDraft,
    TypeId,
    VersionDocument,
    VersionList,
    proposal_document,
    relationship_type_document,
    schema_document,
    trial_document,
)
from control_plane.web.calling import StrictRoute, of
from control_plane.web.documents import Json
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import refused
from control_plane.web.responses import problems
from penstock.identity.ids import TenantId
from penstock.ports.registry import Held, Search
from penstock.registry.access import Role
from penstock.registry.attributes import plain
from penstock.registry.events import StreamKind
from penstock.registry.identifiers import relationship_type_stream, schema_stream
from penstock.registry.inference import infer
from penstock.registry.problems import Problem, ProblemKind
from penstock.registry.schemas import SchemaStatus
from penstock.use_cases.registry_exports import export_version
from penstock.use_cases.registry_platform import RegistryPlatform
from penstock.use_cases.registry_queries import get, history
from penstock.use_cases.registry_trials import try_out

router = APIRouter(route_class=StrictRoute, dependencies=[Depends(needs(Role.READER))])
SCHEMA_MEDIA = "application/schema+json"
Number = Annotated[int, Path(ge=1, le=2**53, examples=[1])]
FromVersion = Annotated[int, Query(ge=0, le=2**53, description="The `next` of a page.")]
_EXPORTED: dict[int | str, dict[str, Any]] = {
    **ASKED,
    200: {
        "description": "The JSON Schema itself.",
        "content": {SCHEMA_MEDIA: {"schema": {"type": "object"}}},
    },
}


@router.get("/schemas", response_model=SchemaPage, responses=LISTED, tags=["Schemas"])
def list_schemas(
    request: Request,
    backend: BackendOf,
    caller: Reader,
    status: SchemaStatus | None = None,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """List schemas, by id."""
    wanted = Search(
        tenant_id=caller.tenant_id,
        kind=StreamKind.SCHEMA,
        status=status,
        after=after,
        limit=limit,
    )
    page = searched(backend.platform, wanted)
    items = [schema_document(held) for held in page.items]
    return json_response({"items": items, "next": page.next}, headers=next_link(request, page.next))


@router.get("/schemas/{schema_id}", response_model=SchemaDocument, responses=READ, tags=["Schemas"])
def read_schema(
    schema_id: SchemaId,
    backend: BackendOf,
    caller: Reader,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """Return a schema: its draft, its rules, and which version is active."""
    held = _schema(backend.platform, caller.tenant_id, schema_id)
    return _one(held, schema_document(held), if_none_match)


@router.get(
    "/schemas/{schema_id}/versions", response_model=VersionList, responses=ASKED, tags=["Schemas"]
)
def list_schema_versions(schema_id: SchemaId, backend: BackendOf, caller: Reader) -> Response:
    """List the versions of a schema, oldest first."""
    held = _schema(backend.platform, caller.tenant_id, schema_id)
    return json_response({"items": plain(held.state["versions"])})


@router.get(
    "/schemas/{schema_id}/versions/{number}",
    response_model=VersionDocument,
    responses=ASKED,
    tags=["Schemas"],
)
def read_schema_version(
    schema_id: SchemaId, number: Number, backend: BackendOf, caller: Reader
) -> Response:
    """Return one version of a schema."""
    held = _schema(backend.platform, caller.tenant_id, schema_id)
    return json_response(_version(held, number))


@router.get(
    "/schemas/{schema_id}/versions/{number}/document",
    responses=_EXPORTED,
    response_class=Response,
    tags=["Schemas"],
)
def export_schema_version(
    schema_id: SchemaId,
    number: Number,
    backend: BackendOf,
    caller: Reader,
    bundled: Annotated[
        bool, Query(description="With all that it refers to inside, and what is closed said.")
    ] = False,
) -> Response:
    """Return the JSON Schema of one version, and nothing around it."""
    if bundled:
        document = of(export_version(backend.platform, caller.tenant_id, schema_id, number))
    else:
        held = _schema(backend.platform, caller.tenant_id, schema_id)
        document = _version(held, number)["document"]
    answer = json_response(document)
    answer.headers["Content-Type"] = SCHEMA_MEDIA
    return answer


@router.get(
    "/schemas/{schema_id}/history",
    response_model=SchemaEvents,
    responses=LISTED_OF_ONE,
    tags=["Schemas"],
)
def read_schema_history(
    request: Request,
    schema_id: SchemaId,
    backend: BackendOf,
    caller: Reader,
    after: FromVersion = 0,
    limit: Limit = 100,
) -> Response:
    """List what happened to a schema, oldest first."""
    stream = schema_stream(caller.tenant_id, schema_id)
    found = of(history(backend.platform, stream, after=after, limit=limit))
    items = [event_document(item.event) for item in found.items]
    return json_response(
        {"items": items, "next": found.next}, headers=next_link(request, found.next)
    )


@router.get(
    "/relationship-types",
    response_model=RelationshipTypePage,
    responses=LISTED,
    tags=["Relationship types"],
)
def list_relationship_types(
    request: Request, backend: BackendOf, caller: Reader, after: After = None, limit: Limit = 100
) -> Response:
    """List relationship types, by name."""
    wanted = Search(
        tenant_id=caller.tenant_id,
        kind=StreamKind.RELATIONSHIP_TYPE,
        after=after,
        limit=limit,
    )
    page = searched(backend.platform, wanted)
    items = [relationship_type_document(held) for held in page.items]
    return json_response({"items": items, "next": page.next}, headers=next_link(request, page.next))


@router.get(
    "/relationship-types/{name}",
    response_model=RelationshipTypeDocument,
    responses=READ,
    tags=["Relationship types"],
)
def read_relationship_type(
    name: TypeId, backend: BackendOf, caller: Reader, if_none_match: IfNoneMatchHeader = None
) -> Response:
    """Return a relationship type."""
    held = of(get(backend.platform, relationship_type_stream(caller.tenant_id, name)))
    return _one(held, relationship_type_document(held), if_none_match)


@router.post(
    "/schemas/{schema_id}/compatibility-check",
    response_model=TrialDocument,
    responses={**ASKED, **problems(404, 413)},
    tags=["Schemas"],
)
def try_schema_out(
    schema_id: SchemaId, body: TriedDraft, backend: BackendOf, caller: Reader
) -> Response:
    """Say whether a document could be the next version of a schema; nothing is changed."""
    trial = try_out(
        backend.platform,
        caller.tenant_id,
        schema_id,
        body.document,
        mode=body.compatibility,
    )
    return json_response(trial_document(of(trial)))


@router.post(
    "/schema-proposals",
    response_model=ProposalDocument,
    responses={**ASKED, **problems(413)},
    tags=["Schemas"],
)
def propose_schema(body: Rows, _caller: Reader) -> Response:
    """Read a schema off rows: one that all of them are valid under, to be edited and defined; nothing is kept."""
    return json_response(proposal_document(infer(body.rows, body.title)))


def _schema(platform: RegistryPlatform, tenant: TenantId, schema_id: str) -> Held:
    return of(get(platform, schema_stream(tenant, schema_id)))


def _one(held: Held, document: Json, if_none_match: str | None) -> Response:
    if none_match(if_none_match, held.version_tag):
        return not_modified(held.version_tag)
    return json_response(document, headers={"ETag": etag(held.version_tag)})


def _version(held: Held, number: int) -> Json:
    versions = plain(held.state["versions"])
    if number > len(versions):
        detail = f"schema {held.stream.key!r} has no version {number}: it has {len(versions)}"
        raise refused(Problem(kind=ProblemKind.NOT_FOUND, detail=detail))
    version: Json = versions[number - 1]
    return version
