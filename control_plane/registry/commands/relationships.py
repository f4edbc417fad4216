"""Commands on relationships: make, replace, patch, delete."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from control_plane.registry.bodies import (
    PATCH_BODIES,
    AllAttributes,
    NewRelationship,
    Patch,
    patching,
)
from control_plane.registry.calling import OnlyNewHeader, Reason, Relationship, needs
from control_plane.registry.carrying import ChangesOf, CommandsOf
from control_plane.registry.conditional import only_if_absent
from control_plane.registry.described import CHANGED, DELETED, MADE, MADE_OR_CHANGED
from control_plane.registry.documents import RelationshipDocument
from control_plane.web.calling import StrictRoute, of
from penstock.registry.access import Role
from penstock.registry.commands import Create, Delete, Replace
from penstock.registry.identifiers import relationship_stream

router = APIRouter(
    tags=["Relationships"], route_class=StrictRoute, dependencies=[Depends(needs(Role.WRITER))]
)
ADDRESS = "/relationships/{type_name}"


@router.post("/relationships", status_code=201, response_model=RelationshipDocument, responses=MADE)
def create_relationship(body: NewRelationship, commands: CommandsOf) -> Response:
    """Make a relationship between two entities that are there."""
    tenant = commands.principal.tenant_id
    stream = of(
        relationship_stream(tenant, body.type, body.from_key, body.to_key, source=body.source)
    )
    command = Create(stream=stream, attributes=body.attributes, reason=body.reason)
    return commands.carry_out("relationship.create", command)


@router.put(ADDRESS, response_model=RelationshipDocument, responses=MADE_OR_CHANGED)
def put_relationship(
    stream: Relationship,
    body: AllAttributes,
    commands: ChangesOf,
    if_none_match: OnlyNewHeader = None,
) -> Response:
    """Set all attributes of a relationship; make it if it is not there, or with `If-None-Match: *` only then."""
    if only_if_absent(if_none_match):
        create = Create(stream=stream, attributes=body.attributes, reason=body.reason)
        return commands.carry_out("relationship.create", create)
    expected = commands.expected(stream)
    replace = Replace(
        stream=stream,
        attributes=body.attributes,
        expected=expected,
        or_create=expected is None,
        reason=body.reason,
    )
    return commands.carry_out("relationship.replace", replace)


@router.patch(
    ADDRESS, response_model=RelationshipDocument, responses=CHANGED, openapi_extra=PATCH_BODIES
)
def patch_relationship(
    stream: Relationship, patch: Patch, commands: ChangesOf, reason: Reason = ""
) -> Response:
    """Change some attributes of a relationship."""
    expected = commands.expected(stream)
    return commands.carry_out("relationship.patch", patching(stream, patch, expected, reason))


@router.delete(ADDRESS, responses=DELETED)
def delete_relationship(stream: Relationship, commands: ChangesOf, reason: Reason = "") -> Response:
    """Remove a relationship; its history stays, and it can be restored."""
    expected = commands.expected(stream)
    command = Delete(stream=stream, expected=expected, reason=reason)
    return commands.carry_out("relationship.delete", command)
