"""Commands on schemas: their life from a draft to the day on which nobody needs them."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter, Depends, Response

from control_plane.registry.calling import needs
from control_plane.registry.carrying import ChangesOf, CommandsOf
from control_plane.registry.described import CHANGED, MADE
from control_plane.registry.schema_documents import (
    NewSchema,
    Rules,
    SchemaDocument,
    SchemaDraft,
    SchemaId,
    ThisVersion,
    WhichVersion,
)
from control_plane.web.bodies import Why
from control_plane.web.calling import StrictRoute
from penstock.registry.access import Role
from penstock.registry.commands import Caller
from penstock.registry.identifiers import schema_stream
from penstock.registry.problems import Problem
from penstock.use_cases import registry_schemas as acts
from penstock.use_cases.registry_platform import Done, RegistryPlatform

router = APIRouter(
    tags=["Schemas"], route_class=StrictRoute, dependencies=[Depends(needs(Role.SCHEMA_ADMIN))]
)
ONE = "/schemas/{schema_id}"


@router.post("/schemas", status_code=201, response_model=SchemaDocument, responses=MADE)
def define_schema(body: NewSchema, commands: CommandsOf) -> Response:
    """Define a schema, as a draft; its id follows from its title."""
    answer = acts.define_schema(
        commands.platform,
        body.document,
        commands.doing("schema.define"),
        compatibility=body.compatibility,
        reason=body.reason,
        idempotency_key=commands.idempotency_key,
    )
    subject = answer.stream.key if isinstance(answer, Done) else "new"
    return commands.answered("schema.define", subject, answer, made=True)


@router.put(ONE, response_model=SchemaDocument, responses=CHANGED)
def edit_schema(schema_id: SchemaId, body: SchemaDraft, commands: ChangesOf) -> Response:
    """Set the draft; this opens the next one of a deactivated schema."""
    answer = acts.edit_schema(
        commands.platform,
        schema_id,
        body.document,
        commands.doing("schema.edit"),
        expected=_expected(commands, schema_id),
        reason=body.reason,
        idempotency_key=commands.idempotency_key,
    )
    return commands.answered("schema.edit", schema_id, answer)


@router.post(f"{ONE}/revise", response_model=SchemaDocument, responses=CHANGED)
def revise_schema(schema_id: SchemaId, body: Why, commands: ChangesOf) -> Response:
    """Open the draft again; the active version goes on validating."""
    return _act(acts.revise_schema, "revise", schema_id, body, commands)


@router.post(f"{ONE}/validate", response_model=SchemaDocument, responses=CHANGED)
def validate_schema(schema_id: SchemaId, body: Why, commands: ChangesOf) -> Response:
    """Look whether the draft is a schema: it becomes valid, or invalid with its problems."""
    return _act(acts.validate_schema, "validate", schema_id, body, commands)


@router.post(f"{ONE}/activate", response_model=SchemaDocument, responses=CHANGED)
def activate_schema(schema_id: SchemaId, body: Why, commands: ChangesOf) -> Response:
    """Make the valid draft the next version, and the one that entities are validated by."""
    return _act(acts.activate_schema, "activate", schema_id, body, commands)


@router.post(f"{ONE}/deactivate", response_model=SchemaDocument, responses=CHANGED)
def deactivate_schema(schema_id: SchemaId, body: Why, commands: ChangesOf) -> Response:
    """Take the active version away: entities of the type take no writes."""
    return _act(acts.deactivate_schema, "deactivate", schema_id, body, commands)


@router.post(f"{ONE}/mark-for-deletion", response_model=SchemaDocument, responses=CHANGED)
def mark_schema_for_deletion(schema_id: SchemaId, body: Why, commands: ChangesOf) -> Response:
    """Say that nobody needs the schema any more."""
    return _act(acts.mark_schema_for_deletion, "mark_for_deletion", schema_id, body, commands)


@router.post(f"{ONE}/restore", response_model=SchemaDocument, responses=CHANGED)
def restore_schema(schema_id: SchemaId, body: Why, commands: ChangesOf) -> Response:
    """Take the mark for deletion back."""
    return _act(acts.restore_schema, "restore", schema_id, body, commands)


@router.post(f"{ONE}/point", response_model=SchemaDocument, responses=CHANGED)
def point_schema(schema_id: SchemaId, body: ThisVersion, commands: ChangesOf) -> Response:
    """Make another version the active one."""
    answer = acts.point_schema(
        commands.platform,
        schema_id,
        body.version,
        commands.doing("schema.point"),
        expected=_expected(commands, schema_id),
        reason=body.reason,
        idempotency_key=commands.idempotency_key,
    )
    return commands.answered("schema.point", schema_id, answer)


@router.post(f"{ONE}/reactivate", response_model=SchemaDocument, responses=CHANGED)
def reactivate_schema(schema_id: SchemaId, body: WhichVersion, commands: ChangesOf) -> Response:
    """Make a version active again, and give up the draft."""
    answer = acts.reactivate_schema(
        commands.platform,
        schema_id,
        body.version,
        commands.doing("schema.reactivate"),
        expected=_expected(commands, schema_id),
        reason=body.reason,
        idempotency_key=commands.idempotency_key,
    )
    return commands.answered("schema.reactivate", schema_id, answer)


@router.put(f"{ONE}/compatibility", response_model=SchemaDocument, responses=CHANGED)
def configure_schema(schema_id: SchemaId, body: Rules, commands: ChangesOf) -> Response:
    """Say what versions that come have to promise to those that are there."""
    answer = acts.configure_schema(
        commands.platform,
        schema_id,
        body.compatibility,
        commands.doing("schema.configure"),
        expected=_expected(commands, schema_id),
        reason=body.reason,
        idempotency_key=commands.idempotency_key,
    )
    return commands.answered("schema.configure", schema_id, answer)


def _expected(commands: ChangesOf, schema_id: str) -> bytes | None:
    return commands.expected(schema_stream(commands.principal.tenant_id, schema_id))


class _Act(Protocol):
    """What is done to a schema with no more than a reason."""

    def __call__(
        self,
        platform: RegistryPlatform,
        schema_id: str,
        caller: Caller,
        *,
        expected: bytes | None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Done | Problem: ...


def _act(act: _Act, name: str, schema_id: str, body: Why, commands: ChangesOf) -> Response:
    answer = act(
        commands.platform,
        schema_id,
        commands.doing(f"schema.{name}"),
        expected=_expected(commands, schema_id),
        reason=body.reason,
        idempotency_key=commands.idempotency_key,
    )
    return commands.answered(f"schema.{name}", schema_id, answer)
