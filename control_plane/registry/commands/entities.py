"""Commands on entities: make, replace, patch, delete."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from control_plane.registry.bodies import PATCH_BODIES, AllAttributes, NewEntity, Patch, patching
from control_plane.registry.calling import Entity, OnlyNewHeader, Reason, needs
from control_plane.registry.carrying import ChangesOf, CommandsOf
from control_plane.registry.conditional import only_if_absent
from control_plane.registry.described import CHANGED, DELETED, MADE, MADE_OR_CHANGED
from control_plane.registry.documents import EntityDocument
from control_plane.web.calling import StrictRoute, of
from penstock.registry.access import Role
from penstock.registry.commands import Create, Delete, Replace
from penstock.registry.identifiers import entity_stream

router = APIRouter(
    tags=["Entities"], route_class=StrictRoute, dependencies=[Depends(needs(Role.WRITER))]
)
ADDRESS = "/entities/{type_name}/{key:path}"


@router.post("/entities", status_code=201, response_model=EntityDocument, responses=MADE)
def create_entity(body: NewEntity, commands: CommandsOf) -> Response:
    """Make an entity that is not there."""
    tenant = commands.principal.tenant_id
    stream = of(entity_stream(tenant, body.type, body.key, source=body.source))
    command = Create(stream=stream, attributes=body.attributes, reason=body.reason)
    return commands.carry_out("entity.create", command)


@router.put(ADDRESS, response_model=EntityDocument, responses=MADE_OR_CHANGED)
def put_entity(
    stream: Entity,
    body: AllAttributes,
    commands: ChangesOf,
    if_none_match: OnlyNewHeader = None,
) -> Response:
    """Set all attributes of an entity; make it if it is not there, or with `If-None-Match: *` only then."""
    if only_if_absent(if_none_match):
        create = Create(stream=stream, attributes=body.attributes, reason=body.reason)
        return commands.carry_out("entity.create", create)
    expected = commands.expected(stream)
    replace = Replace(
        stream=stream,
        attributes=body.attributes,
        expected=expected,
        or_create=expected is None,
        reason=body.reason,
    )
    return commands.carry_out("entity.replace", replace)


@router.patch(ADDRESS, response_model=EntityDocument, responses=CHANGED, openapi_extra=PATCH_BODIES)
def patch_entity(
    stream: Entity, patch: Patch, commands: ChangesOf, reason: Reason = ""
) -> Response:
    """Change some attributes: by a merge patch (RFC 7396) or a JSON patch (RFC 6902), as the content type says."""
    expected = commands.expected(stream)
    return commands.carry_out("entity.patch", patching(stream, patch, expected, reason))


@router.delete(ADDRESS, responses=DELETED)
def delete_entity(
    stream: Entity, commands: ChangesOf, cascade: bool = False, reason: Reason = ""
) -> Response:
    """Remove an entity, and with `cascade` its relationships; its history stays, and it can be restored."""
    expected = commands.expected(stream)
    command = Delete(stream=stream, expected=expected, cascade=cascade, reason=reason)
    return commands.carry_out("entity.delete", command)
