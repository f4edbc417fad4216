"""Commands on schemas and relationship types. Each is one event that carries the whole state after it.

The type of an entity is the id of its schema. What is there when a schema becomes active stays as it is, and is held to
it when it is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.errors import InvalidIdentifier
from penstock.ports.registry import Held, Search, Unused
from penstock.registry import schema_commands as schemas
from penstock.registry.commands import Caller
from penstock.registry.compatibility import Compatibility
from penstock.registry.events import EventAction, StreamId, StreamKind
from penstock.registry.identifiers import named, relationship_type_stream, schema_stream
from penstock.registry.problems import Problem, ProblemError, ProblemKind, json_type
from penstock.registry.relationship_types import RelationshipType, relationship_type
from penstock.registry.schemas import Schema, SchemaMove
from penstock.use_cases.registry_definitions import (
    Asked,
    Change,
    Definitions,
    as_problem,
    change,
)
from penstock.use_cases.registry_platform import Done, RegistryPlatform
from penstock.use_cases.registry_refusals import is_gone, is_missing, is_there_already

_COUNTED = 1_000
"""How many entities are counted before a schema says that it is in use."""

Become = Callable[[Schema, Definitions], Schema]
"""What a schema becomes."""


def define_schema(
    platform: RegistryPlatform,
    document: Any,
    caller: Caller,
    *,
    compatibility: str | None = None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Define a schema in DRAFT; its id follows from the document's title."""
    mode = _mode(compatibility or Compatibility.BACKWARD)
    if isinstance(mode, Problem):
        return mode
    if not isinstance(document, Mapping):
        return _no_object(document)
    now = platform.clock.now()
    try:
        made = schemas.define(document, compatibility=mode, by=caller.actor or "?", now=now)
    except InvalidIdentifier as error:
        return as_problem(error)

    def decide(held: Held | None, around: Definitions) -> Change | Problem:
        if held is not None:
            return is_there_already(held)
        return _as_change(
            EventAction.CREATE, replace(made, created_at=around.now, changed_at=around.now)
        )

    asked = Asked(
        stream=schema_stream(caller.tenant_id, made.schema_id),
        caller=caller,
        what="define",
        given={"document": dict(document), "compatibility": str(mode)},
        reason=reason,
        idempotency_key=idempotency_key,
    )
    return change(platform, asked, decide)


def edit_schema(
    platform: RegistryPlatform,
    schema_id: str,
    document: Any,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Replace the draft. Legal in DRAFT and DEACTIVATED; a policy may want the version that is meant."""
    if not isinstance(document, Mapping):
        return _no_object(document)

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.edit(schema, document, by=caller.actor, now=around.now)

    asked = _about(
        schema_id, caller, "edit", expected, reason, idempotency_key, document=dict(document)
    )
    wants = platform.policy_of(caller.tenant_id).definitions_want_version
    return _moved(platform, asked, EventAction.EDIT, become, wants_version=wants)


def revise_schema(
    platform: RegistryPlatform,
    schema_id: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Go back to DRAFT; an active version goes on validating entities."""

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.revise(schema, by=caller.actor, now=around.now)

    asked = _about(schema_id, caller, "revise", expected, reason, idempotency_key)
    return _moved(platform, asked, schemas.ACTIONS[SchemaMove.REVISE], become)


def validate_schema(
    platform: RegistryPlatform,
    schema_id: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Make the draft VALID, or INVALID with every problem in its state: that is an answer, not a refusal."""

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.validate(schema, resolve=around.resolve, by=caller.actor, now=around.now)

    asked = _about(schema_id, caller, "validate", expected, reason, idempotency_key)
    return _moved(platform, asked, EventAction.VALIDATE, become)


def activate_schema(
    platform: RegistryPlatform,
    schema_id: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Make the VALID draft the next version and the active one, if it keeps what the compatibility mode promises."""

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.activate(
            schema, resolve=around.resolve, reason=reason, by=caller.actor, now=around.now
        )

    asked = _about(schema_id, caller, "activate", expected, reason, idempotency_key)
    return _moved(platform, asked, EventAction.ACTIVATE, become)


def point_schema(
    platform: RegistryPlatform,
    schema_id: str,
    version: int,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Make another version the active one."""

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.point(
            schema, version, resolve=around.resolve, by=caller.actor, now=around.now
        )

    asked = _about(schema_id, caller, "point", expected, reason, idempotency_key, version=version)
    return _moved(platform, asked, schemas.ACTIONS[SchemaMove.POINT], become)


def deactivate_schema(
    platform: RegistryPlatform,
    schema_id: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Take the active version away, if no other schema refers to it: entities of the type take no writes then."""

    def become(schema: Schema, around: Definitions) -> Schema:
        others = around.active()
        return schemas.deactivate(schema, others=others, by=caller.actor, now=around.now)

    asked = _about(schema_id, caller, "deactivate", expected, reason, idempotency_key)
    return _moved(platform, asked, EventAction.DEACTIVATE, become)


def reactivate_schema(
    platform: RegistryPlatform,
    schema_id: str,
    version: int | None,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Make a version active again, the last active one for None, and give up the draft."""

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.reactivate(
            schema, version, resolve=around.resolve, by=caller.actor, now=around.now
        )

    asked = _about(
        schema_id, caller, "reactivate", expected, reason, idempotency_key, version=version
    )
    return _moved(platform, asked, schemas.ACTIONS[SchemaMove.REACTIVATE], become)


def configure_schema(
    platform: RegistryPlatform,
    schema_id: str,
    compatibility: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Change what versions to come promise."""
    mode = _mode(compatibility)
    if isinstance(mode, Problem):
        return mode

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.configure(schema, mode, by=caller.actor, now=around.now)

    asked = _about(
        schema_id,
        caller,
        "configure",
        expected,
        reason,
        idempotency_key,
        compatibility=str(mode),
    )
    return _moved(platform, asked, EventAction.CONFIGURE, become)


def mark_schema_for_deletion(
    platform: RegistryPlatform,
    schema_id: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Mark a schema for deletion that validates nothing: refused while entities of its type are there."""

    def become(schema: Schema, around: Definitions) -> Schema:
        search = Search(tenant_id=caller.tenant_id, type_name=schema_id, limit=_COUNTED)
        count = len(around.view.store.search(search).items)
        others = around.active()
        return schemas.mark_for_deletion(
            schema, others=others, entities=count, by=caller.actor, now=around.now
        )

    asked = _about(schema_id, caller, "mark for deletion", expected, reason, idempotency_key)
    unused = Unused(tenant_id=caller.tenant_id, kind=StreamKind.ENTITY, type_name=schema_id)
    return _moved(platform, asked, EventAction.MARK_FOR_DELETION, become, unused=unused)


def restore_schema(
    platform: RegistryPlatform,
    schema_id: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Take the mark for deletion away: the schema is in DRAFT again."""

    def become(schema: Schema, around: Definitions) -> Schema:
        return schemas.restore(schema, by=caller.actor, now=around.now)

    asked = _about(schema_id, caller, "restore", expected, reason, idempotency_key)
    return _moved(platform, asked, EventAction.RESTORE, become)


# Relationship types -------------------------------------------------------------------------------------------


def declare_relationship_type(
    platform: RegistryPlatform,
    name: str,
    fields: Mapping[str, Any],
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Declare what holds for the relationships of a type, or declare it anew.

    Relationships that are there already stay, and are held to it when they are written again.
    """
    declared = relationship_type(name, fields)
    if isinstance(declared, Problem):
        return declared
    state = declared.to_state()

    def decide(held: Held | None, _around: Definitions) -> Change | None:
        if held is not None and RelationshipType.from_state(held.state) == declared:
            return None
        action = EventAction.CREATE if held is None else EventAction.UPDATE
        return Change(action=action, state=state)

    asked = Asked(
        stream=relationship_type_stream(caller.tenant_id, name),
        caller=caller,
        what="declare",
        given=state,
        expected=expected,
        wants_version=platform.policy_of(caller.tenant_id).definitions_want_version,
        reason=reason,
        idempotency_key=idempotency_key,
    )
    return change(platform, asked, decide)


def remove_relationship_type(
    platform: RegistryPlatform,
    name: str,
    caller: Caller,
    *,
    expected: bytes | None,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Take a declaration away; refused while there are relationships of the type."""
    tenant = caller.tenant_id
    stream = relationship_type_stream(tenant, name)

    def decide(held: Held | None, around: Definitions) -> Change | Problem:
        if held is None:
            return _absent(around, stream)
        kind = StreamKind.RELATIONSHIP
        search = Search(tenant_id=tenant, kind=kind, type_name=name, limit=1)
        if found := around.view.store.search(search).items:
            return Problem(
                kind=ProblemKind.REFERENCED,
                detail=f"there are relationships of type {name}, such as {named(found[0].stream)}: delete them first",
            )
        unused = Unused(tenant_id=tenant, kind=kind, type_name=name)
        return Change(action=EventAction.DELETE, state=None, requires=(unused,))

    asked = Asked(
        stream=stream,
        caller=caller,
        what="remove",
        expected=expected,
        reason=reason,
        idempotency_key=idempotency_key,
    )
    return change(platform, asked, decide)


# ----------------------------------------------------------------------------------------------------------------


def _about(
    schema_id: str,
    caller: Caller,
    what: str,
    expected: bytes | None,
    reason: str,
    idempotency_key: str | None,
    **given: Any,
) -> Asked:
    return Asked(
        stream=schema_stream(caller.tenant_id, schema_id),
        caller=caller,
        what=what,
        given=given,
        expected=expected,
        reason=reason,
        idempotency_key=idempotency_key,
    )


def _moved(
    platform: RegistryPlatform,
    asked: Asked,
    action: EventAction,
    become: Become,
    *,
    wants_version: bool = False,
    unused: Unused | None = None,
) -> Done | Problem:
    """Change a schema that is there."""

    def decide(held: Held | None, around: Definitions) -> Change | Problem:
        if held is None:
            return _absent(around, asked.stream)
        then = become(Schema.from_state(held.state), around)
        return replace(_as_change(action, then), requires=(unused,) if unused else ())

    return change(platform, replace(asked, wants_version=wants_version), decide)


def _as_change(action: EventAction, schema: Schema) -> Change:
    return Change(
        action=action,
        state=schema.to_state(),
        status=schema.status.value,
        version=schema.active_version,
    )


def _absent(around: Definitions, stream: StreamId) -> Problem:
    last = around.view.last(stream)
    return is_missing(stream) if last is None else is_gone(last)


def _mode(text: str) -> Compatibility | Problem:
    if text in set(Compatibility):
        return Compatibility(text)
    message = f"compatibility is {text!r}: it has to be one of {', '.join(Compatibility)}"
    error = ProblemError(path="/compatibility", rule="enum", message=message, value_type="string")
    return Problem(kind=ProblemKind.INVALID_SCHEMA, detail=message, errors=(error,))


def _no_object(document: object) -> Problem:
    kind = json_type(document)
    message = f"a schema is an object, not {kind}"
    error = ProblemError(path="", rule="type", message=message, value_type=kind)
    return Problem(kind=ProblemKind.INVALID_SCHEMA, detail=message, errors=(error,))
