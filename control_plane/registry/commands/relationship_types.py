"""Commands on relationship types: declaring them, and taking a declaration away."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from control_plane.registry.calling import OnlyNewHeader, Reason, needs
from control_plane.registry.carrying import ChangesOf
from control_plane.registry.conditional import only_if_absent
from control_plane.registry.described import DELETED, MADE_OR_CHANGED
from control_plane.registry.schema_documents import (
    DeclaredType,
    RelationshipTypeDocument,
    TypeId,
)
from control_plane.web.calling import StrictRoute
from penstock.ports.registry import ABSENT
from penstock.registry.access import Role
from penstock.registry.identifiers import relationship_type_stream
from penstock.use_cases.registry_schemas import (
    declare_relationship_type as declare,
)
from penstock.use_cases.registry_schemas import (
    remove_relationship_type as remove,
)

router = APIRouter(
    tags=["Relationship types"],
    route_class=StrictRoute,
    dependencies=[Depends(needs(Role.SCHEMA_ADMIN))],
)
ONE = "/relationship-types/{name}"


@router.put(ONE, response_model=RelationshipTypeDocument, responses=MADE_OR_CHANGED)
def declare_relationship_type(
    name: TypeId,
    body: DeclaredType,
    commands: ChangesOf,
    if_none_match: OnlyNewHeader = None,
    reason: Reason = "",
) -> Response:
    """Declare what holds for the relationships of a type, or declare it anew."""
    stream = relationship_type_stream(commands.principal.tenant_id, name)
    absent = only_if_absent(if_none_match)
    answer = declare(
        commands.platform,
        name,
        body.model_dump(mode="json"),
        commands.doing("relationship_type.declare"),
        expected=ABSENT if absent else commands.expected(stream),
        reason=reason,
        idempotency_key=commands.idempotency_key,
    )
    return commands.answered("relationship_type.declare", name, answer)


@router.delete(ONE, responses=DELETED)
def remove_relationship_type(name: TypeId, commands: ChangesOf, reason: Reason = "") -> Response:
    """Take a declaration away; its history stays."""
    stream = relationship_type_stream(commands.principal.tenant_id, name)
    answer = remove(
        commands.platform,
        name,
        commands.doing("relationship_type.remove"),
        expected=commands.expected(stream),
        reason=reason,
        idempotency_key=commands.idempotency_key,
    )
    return commands.answered("relationship_type.remove", name, answer)
