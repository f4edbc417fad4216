"""The ways back: restoring what was deleted, and rolling back to an earlier version."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from control_plane.registry.bodies import BackTo
from control_plane.registry.calling import Entity, Relationship, needs
from control_plane.registry.carrying import ChangesOf, CommandsOf
from control_plane.registry.described import CHANGED
from control_plane.registry.documents import EntityDocument, RelationshipDocument
from control_plane.web.bodies import Why
from control_plane.web.calling import StrictRoute
from penstock.registry.access import Role
from penstock.registry.commands import Restore, RollBack

router = APIRouter(
    tags=["Ways back"], route_class=StrictRoute, dependencies=[Depends(needs(Role.WRITER))]
)


@router.post(
    "/restore/entities/{type_name}/{key:path}", response_model=EntityDocument, responses=CHANGED
)
def restore_entity(stream: Entity, body: Why, commands: CommandsOf) -> Response:
    """Bring back a deleted entity, as it was last."""
    return commands.carry_out("entity.restore", Restore(stream=stream, reason=body.reason))


@router.post(
    "/rollback/entities/{type_name}/{key:path}", response_model=EntityDocument, responses=CHANGED
)
def roll_back_entity(stream: Entity, body: BackTo, commands: ChangesOf) -> Response:
    """Give an entity the attributes of an earlier version, if the schema of today takes them."""
    command = RollBack(
        stream=stream,
        version=body.version,
        expected=commands.expected(stream),
        reason=body.reason,
    )
    return commands.carry_out("entity.rollback", command)


@router.post(
    "/restore/relationships/{type_name}", response_model=RelationshipDocument, responses=CHANGED
)
def restore_relationship(stream: Relationship, body: Why, commands: CommandsOf) -> Response:
    """Bring back a deleted relationship, as it was last."""
    return commands.carry_out("relationship.restore", Restore(stream=stream, reason=body.reason))


@router.post(
    "/rollback/relationships/{type_name}", response_model=RelationshipDocument, responses=CHANGED
)
def roll_back_relationship(stream: Relationship, body: BackTo, commands: ChangesOf) -> Response:
    """Give a relationship the attributes of an earlier version."""
    command = RollBack(
        stream=stream,
        version=body.version,
        expected=commands.expected(stream),
        reason=body.reason,
    )
    return commands.carry_out("relationship.rollback", command)
